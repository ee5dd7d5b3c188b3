//! Measured times of layers.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{primitive::Symbol, space::Architecture};

/// The setup of a time measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// The number of sequences in a batch.
    pub batch: usize,
    /// The number of tokens per sequence: read at once in prefill, and cached while decoding.
    pub seq_len: usize,
    /// The number of measurements, of which the median is used. One unmeasured warm-up run precedes them.
    pub repeats: usize,
}

/// The times of one layer or of a whole model on one device, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// The time to process all tokens of all sequences at once.
    pub prefill: f64,
    /// The time to process one more token of every sequence, with a full cache.
    pub decode: f64,
}

/// Times of single layers at one width on one device.
///
/// The time of a model is estimated as the sum over its layers. So every kind of layer is timed only once, and you can
/// compare models that do not fit on the device or that differ only in the order of their layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerTimes {
    /// The setup of the measurement.
    pub timing: Timing,
    /// Times of residual blocks, including the norm, by symbol.
    pub layers: BTreeMap<Symbol, Seconds>,
    /// The time of embedding, final norm and head.
    pub ends: Seconds,
}

impl LayerTimes {
    /// Returns the sum over a model's layers, embedding and head, or `None` if a layer was not timed.
    pub fn of(&self, architecture: &Architecture) -> Option<Seconds> {
        let add = |sum: Seconds, &layer| {
            let time = self.layers.get(&layer)?;
            Some(Seconds { prefill: sum.prefill + time.prefill, decode: sum.decode + time.decode })
        };
        architecture.layers().iter().try_fold(self.ends, add)
    }
}

/// Formats a table of the layers.
impl fmt::Display for LayerTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timing { batch, seq_len, repeats } = self.timing;
        writeln!(f, "layer    prefill ms   decode ms")?;
        for (symbol, time) in &self.layers {
            writeln!(f, "{symbol:<6} {:>12.3} {:>11.4}", 1e3 * time.prefill, 1e3 * time.decode)?;
        }
        writeln!(f, "ends   {:>12.3} {:>11.4}", 1e3 * self.ends.prefill, 1e3 * self.ends.decode)?;
        write!(f, "{batch} sequences of {seq_len} tokens; medians of {repeats} measurements")
    }
}
