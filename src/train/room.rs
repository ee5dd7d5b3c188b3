//! Room on an accelerator for trainings that run at the same time.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::device::{self, Device};

/// How often a training that waits looks whether it was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The bytes that trainings of this process need, by device without autodiff.
static USED: Mutex<Vec<(Device, u128)>> = Mutex::new(Vec::new());
/// Told when a training leaves.
static LEFT: Condvar = Condvar::new();

/// The account of the memory that a training needs on a device. When this is dropped, the device gets back what Burn
/// keeps of it, and then the account is closed. The tensors of the training must have been dropped before.
#[derive(Debug)]
pub(crate) struct Room {
    device: Device,
    bytes: u128,
}

impl Room {
    /// Waits until what the trainings on `device` need fits into its memory together, if that is known: workers take
    /// turns if a device cannot hold all of them. Returns `None` if the training is cancelled while it waits.
    ///
    /// Whatever the device holds besides, other processes included, is not known here.
    pub(crate) fn enter(device: &Device, bytes: u128, cancelled: &dyn Fn() -> bool) -> Option<Self> {
        Self::within(device::memory(device), device, bytes, cancelled)
    }

    fn within(memory: Option<u64>, device: &Device, bytes: u128, cancelled: &dyn Fn() -> bool) -> Option<Self> {
        let device = device.clone().without_autodiff();
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let others = used.iter().find(|(other, _)| *other == device).map_or(0, |(_, bytes)| *bytes);
            let fits = memory.is_none_or(|memory| others.saturating_add(bytes) <= memory.into());
            // A training that is alone does not wait.
            if fits || others == 0 {
                break;
            }
            if cancelled() {
                return None;
            }
            (used, _) = LEFT.wait_timeout(used, POLL_INTERVAL).unwrap_or_else(PoisonError::into_inner);
        }
        match used.iter_mut().find(|(other, _)| *other == device) {
            Some((_, total)) => *total = total.saturating_add(bytes),
            None => used.push((device.clone(), bytes)),
        }
        Some(Self { device, bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Before the next training begins. Burn keeps freed memory for the thread that used it.
        device::release_memory(&self.device);
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, total)) = used.iter_mut().find(|(other, _)| *other == self.device) {
            *total = total.saturating_sub(self.bytes);
        }
        drop(used);
        LEFT.notify_all();
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        thread,
    };

    use super::*;

    /// One test, because there is one account per process.
    #[test]
    fn trainings_take_turns_where_memory_is_short() {
        let device = Device::flex();
        let inside = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let work = |bytes| {
            let room = Room::within(Some(100), &device, bytes, &|| false);
            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::sleep(Duration::from_millis(20));
            inside.fetch_sub(1, SeqCst);
            drop(room);
        };
        // Two of 40 bytes fit beside each other, three do not.
        thread::scope(|scope| (0..6).for_each(|_| drop(scope.spawn(|| work(40)))));
        assert!((1..=2).contains(&most.load(SeqCst)));
        // What is larger than the device is refused elsewhere; alone it does not wait for ever.
        let large = Room::within(Some(100), &device, 1000, &|| false).unwrap();
        let asked = AtomicBool::new(false);
        let cancelled = Room::within(Some(100), &device, 1, &|| asked.swap(true, SeqCst));
        assert!(cancelled.is_none() && asked.load(SeqCst));
        drop(large);
        assert!(Room::within(Some(100), &device, 100, &|| true).is_some());
        // Without a known memory nothing waits.
        let held = Room::within(None, &device, u128::MAX, &|| true);
        assert!(held.is_some() && Room::within(None, &device, u128::MAX, &|| true).is_some());
    }
}
