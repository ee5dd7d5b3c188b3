//! Tables over positions, cached by sequence length and device.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Device;

/// A small cache of tables `T`, by sequence length and device.
///
/// It has no parameters. Keep it in a field with `#[module(skip)]`. Clones share it across threads. The tables are
/// outside autodiff, where Burn treats them as constants, so training and evaluation share them too.
#[derive(Debug)]
pub(crate) struct PositionTables<T>(Arc<Mutex<Vec<Entry<T>>>>);

#[derive(Debug)]
struct Entry<T> {
    seq: usize,
    device: Device,
    table: T,
}

/// Enough for training and evaluation at one or two lengths. The oldest table is evicted first.
const CAPACITY: usize = 4;

impl<T: Clone> PositionTables<T> {
    /// Returns the table for this length and device, and builds it if it is missing. `build` receives the device
    /// without autodiff.
    pub fn get(&self, seq: usize, device: &Device, build: impl FnOnce(&Device) -> T) -> T {
        let device = device.clone().without_autodiff();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter().find(|entry| entry.seq == seq && entry.device == device) {
            return entry.table.clone();
        }
        if entries.len() == CAPACITY {
            entries.remove(0);
        }
        let table = build(&device);
        entries.push(Entry { seq, device, table: table.clone() });
        table
    }
}

impl<T> Default for PositionTables<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for PositionTables<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
