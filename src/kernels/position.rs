//! Tables over positions, computed once per sequence length and device.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Device;

/// A small cache of tables `T` by sequence length and device.
///
/// It is no parameter: keep it in a field marked `#[module(skip)]`. Clones share it, from any thread. Tables live
/// outside autodiff, where Burn treats them as constants, so training and evaluation share them as well.
#[derive(Debug)]
pub(crate) struct PositionTables<T>(Arc<Mutex<Vec<Entry<T>>>>);

#[derive(Debug)]
struct Entry<T> {
    seq: usize,
    device: Device,
    table: T,
}

/// Training and evaluation at one or two lengths; the oldest goes first.
const CAPACITY: usize = 4;

impl<T: Clone> PositionTables<T> {
    /// The table for this length and device, from `build` where it is not there yet. `build` gets the device without
    /// autodiff.
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
