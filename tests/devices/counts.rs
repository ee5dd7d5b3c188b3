//! What a program asks of a GPU, counted from wgpu's log: kernel launches, read-backs, writes and submissions.
//!
//! wgpu logs every call at the level `trace`. The counts are those of the whole process, so nothing else may run beside
//! what is counted. A read-back is the only way to get data from a device, and waits for all work before it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use burn::tensor::Device;
use log::{LevelFilter, Log, Metadata, Record};

/// The calls between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kernels that were launched.
    pub launches: usize,
    /// Buffers that were copied back to the host.
    pub reads: usize,
    /// Their bytes.
    pub read_bytes: usize,
    /// Writes from the host: data, and the arguments of kernels that were not written before.
    pub writes: usize,
    /// Submissions to the queue.
    pub submits: usize,
}

struct Counter {
    launches: AtomicUsize,
    reads: AtomicUsize,
    read_bytes: AtomicUsize,
    writes: AtomicUsize,
    submits: AtomicUsize,
}

static COUNTER: Counter = Counter {
    launches: AtomicUsize::new(0),
    reads: AtomicUsize::new(0),
    read_bytes: AtomicUsize::new(0),
    writes: AtomicUsize::new(0),
    submits: AtomicUsize::new(0),
};

impl Log for Counter {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with("wgpu_core")
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        if text.starts_with("ComputePass::dispatch") {
            self.launches.fetch_add(1, Relaxed);
        } else if text.starts_with("Buffer::map_async") {
            self.reads.fetch_add(1, Relaxed);
            // `... size Some(8) op: ...`
            let size = text.split_once("size Some(").and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
            self.read_bytes.fetch_add(size.unwrap_or(0), Relaxed);
        } else if text == "Queue::write_buffer" || text.starts_with("Queue::write_staging_buffer") {
            self.writes.fetch_add(1, Relaxed);
        } else if text.starts_with("Queue::submit returned") {
            self.submits.fetch_add(1, Relaxed);
        }
    }

    fn flush(&self) {}
}

impl Counter {
    fn now(&self) -> Counts {
        Counts {
            launches: self.launches.load(Relaxed),
            reads: self.reads.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            writes: self.writes.load(Relaxed),
            submits: self.submits.load(Relaxed),
        }
    }
}

/// Runs `run` and returns what it asked of the device, to the end of its work. Waits for the device before and after.
pub fn counted<T>(device: &Device, run: impl FnOnce() -> T) -> (T, Counts) {
    // A second call finds the counter installed.
    let _ = log::set_logger(&COUNTER);
    device.sync().expect("a device that works");
    let before = COUNTER.now();
    log::set_max_level(LevelFilter::Trace);
    let result = run();
    device.sync().expect("a device that works");
    log::set_max_level(LevelFilter::Off);
    let after = COUNTER.now();
    let counts = Counts {
        launches: after.launches - before.launches,
        reads: after.reads - before.reads,
        read_bytes: after.read_bytes - before.read_bytes,
        writes: after.writes - before.writes,
        submits: after.submits - before.submits,
    };
    (result, counts)
}
