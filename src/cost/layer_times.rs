//! How long layers take on a device, as values.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{primitive::Symbol, space::Architecture};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Sequences at once.
    pub batch: usize,
    /// Tokens of a sequence: read at once when a prompt is read (prefill), and held in the cache while decoding.
    pub seq_len: usize,
    /// Measurements; the median counts. One more goes first, unmeasured.
    pub repeats: usize,
}

/// Seconds of one layer or of a whole model on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// For reading all tokens of all sequences at once.
    pub prefill: f64,
    /// For one more token of every sequence, with the cache full.
    pub decode: f64,
}

/// Times of single layers at one width on one device. The time of a model is the sum over its layers, which is how
/// models that do not fit, or differ in the order of layers alone, are compared: every kind of layer is timed once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerTimes {
    /// What was timed.
    pub timing: Timing,
    /// Per residual block with its norm.
    pub layers: BTreeMap<Symbol, Seconds>,
    /// Embedding, last norm and head.
    pub ends: Seconds,
}

impl LayerTimes {
    /// The sum over a model's layers and its ends; `None` where a layer was not timed.
    pub fn of(&self, architecture: &Architecture) -> Option<Seconds> {
        let add = |sum: Seconds, &layer| {
            let time = self.layers.get(&layer)?;
            Some(Seconds { prefill: sum.prefill + time.prefill, decode: sum.decode + time.decode })
        };
        architecture.layers().iter().try_fold(self.ends, add)
    }
}

/// A table of the layers.
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
