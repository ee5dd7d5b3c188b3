//! A thread-local pool of buffers from dropped tensors. A training step requests the same sizes again and again.
//! Without the pool, the operating system would allocate and clear new pages every time.

use std::cell::RefCell;

/// The largest number of elements kept per thread: 64 MiB.
const CAPACITY: usize = 1 << 24;
/// Smaller buffers are left to the allocator.
const SMALLEST: usize = 1 << 10;

thread_local! {
    /// Free buffers, oldest first.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Returns `len` elements with arbitrary content, for results that are fully overwritten.
pub fn buffer(len: usize) -> Vec<f32> {
    match reuse(len) {
        Some(mut buffer) => {
            buffer.resize(len, 0.0);
            buffer
        }
        None => vec![0.0; len],
    }
}

/// Returns `len` zeros, for sums.
pub fn zeros(len: usize) -> Vec<f32> {
    match reuse(len) {
        Some(mut buffer) => {
            buffer.clear();
            buffer.resize(len, 0.0);
            buffer
        }
        None => vec![0.0; len],
    }
}

/// Returns `buffer` to the pool. The oldest buffers are dropped if the pool is full.
pub fn give_back(buffer: Vec<f32>) {
    if !(SMALLEST..=CAPACITY).contains(&buffer.capacity()) {
        return;
    }
    FREE.with_borrow_mut(|free| {
        free.push(buffer);
        let mut kept: usize = free.iter().map(Vec::capacity).sum();
        while kept > CAPACITY {
            kept -= free.remove(0).capacity();
        }
    });
}

/// Returns the most recent buffer that is large enough and at most twice as large as needed.
fn reuse(len: usize) -> Option<Vec<f32>> {
    if len < SMALLEST {
        return None;
    }
    FREE.with_borrow_mut(|free| {
        let at = free.iter().rposition(|buffer| (len..=2 * len).contains(&buffer.capacity()))?;
        Some(free.remove(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_sums_start_at_zero() {
        give_back(vec![7.0; 5000]);
        assert_eq!(zeros(4000), vec![0.0; 4000]);
        give_back(vec![7.0; 5000]);
        assert_eq!(buffer(4500).len(), 4500);
        give_back(vec![7.0; 5000]);
        assert_eq!((buffer(2000).capacity(), buffer(5001).len()), (2000, 5001));
        assert_eq!(buffer(5000)[4999], 7.0);
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        for _ in 0..5 {
            give_back(Vec::with_capacity(CAPACITY / 2 - 1));
        }
        give_back(Vec::with_capacity(CAPACITY + 1));
        FREE.with_borrow(|free| assert_eq!(free.len(), 2));
    }
}
