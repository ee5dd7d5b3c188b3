//! The widths of layers.

use std::num::Saturating;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::RopeScaling;
use crate::limits::MAX_WIDTH;

/// Widths shared by all layers of a model. Fields count elements unless stated otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dims {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Inner width of feed-forward layers.
    pub d_ff: usize,
    /// Number of query heads of attention.
    pub heads: usize,
    /// Number of key and value heads of attention. Divides `heads` (grouped-query attention).
    pub kv_heads: usize,
    /// Width of one head. Even, because rotary embeddings rotate pairs of channels.
    pub head_dim: usize,
    /// Base of the rotary frequencies (RoPE theta).
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies for longer contexts. `None` leaves them unscaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
}

/// A count in a closed form. It saturates on overflow.
pub(crate) type Count = Saturating<u64>;

impl Dims {
    /// Creates widths with full multi-head attention: `head_dim = d_model / heads`, RoPE theta 10,000 without scaling,
    /// norm epsilon 1e-5, no biases.
    ///
    /// # Errors
    /// Returns [`DimsError`] if a width is zero or too large, or if `heads` does not divide `d_model` into heads of
    /// even width.
    pub fn new(d_model: usize, d_ff: usize, heads: usize) -> Result<Self, DimsError> {
        if heads == 0 || !d_model.is_multiple_of(heads) {
            return Err(DimsError::Heads { d_model, heads });
        }
        let head_dim = d_model / heads;
        let dims = Self {
            d_model,
            d_ff,
            heads,
            kv_heads: heads,
            head_dim,
            rope_theta: 10_000.0,
            rope_scaling: None,
            norm_eps: 1e-5,
            attention_bias: false,
        };
        dims.validate()?;
        Ok(dims)
    }

    /// Checks that every width is positive and within the limits, and that the numbers of heads are consistent.
    ///
    /// # Errors
    /// Returns [`DimsError`] for the first invalid value.
    pub fn validate(&self) -> Result<(), DimsError> {
        for (name, value) in [("d_model", self.d_model), ("d_ff", self.d_ff), ("head_dim", self.head_dim)] {
            if value == 0 {
                return Err(DimsError::Zero(name));
            }
        }
        if self.heads == 0 || self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(DimsError::Groups { heads: self.heads, kv_heads: self.kv_heads });
        }
        let all_heads = self.heads.saturating_mul(self.head_dim);
        for (name, value) in [("d_model", self.d_model), ("d_ff", self.d_ff), ("heads * head_dim", all_heads)] {
            if value > MAX_WIDTH {
                return Err(DimsError::TooWide { name, value });
            }
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(DimsError::OddHead(self.head_dim));
        }
        for (name, value) in [("rope_theta", self.rope_theta), ("norm_eps", self.norm_eps)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(DimsError::NotPositive { name, value });
            }
        }
        match self.rope_scaling {
            Some(scaling) if !scaling.is_sound() => Err(DimsError::RopeScaling(scaling)),
            _ => Ok(()),
        }
    }

    /// Returns `d_model` as a 64-bit count.
    pub fn width(&self) -> u64 {
        self.d_model as u64
    }

    /// Returns `d_model`, `d_ff`, and the channels of all query heads and of all key heads, for closed forms.
    pub(crate) fn counts(&self) -> [Count; 4] {
        let [model, inner, heads, kv_heads, head] =
            [self.d_model, self.d_ff, self.heads, self.kv_heads, self.head_dim].map(|size| Saturating(size as u64));
        [model, inner, heads * head, kv_heads * head]
    }
}

/// The error of invalid or inconsistent widths.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum DimsError {
    /// A width is zero.
    #[error("{0} is 0: give every layer at least one channel")]
    Zero(&'static str),
    /// A width exceeds the limit.
    #[error("{name} is {value}: a width can be at most {MAX_WIDTH}")]
    TooWide {
        /// The name of the width.
        name: &'static str,
        /// The value.
        value: usize,
    },
    /// The number of heads does not divide the model's width.
    #[error("{heads} heads do not divide d_model {d_model}: choose a divisor of {d_model}, or set head_dim directly")]
    Heads {
        /// Width of the residual stream.
        d_model: usize,
        /// Number of query heads.
        heads: usize,
    },
    /// The number of KV heads does not divide the number of query heads.
    #[error("{kv_heads} KV heads do not divide {heads} heads: choose a divisor of {heads}")]
    Groups {
        /// Number of query heads.
        heads: usize,
        /// Number of key and value heads.
        kv_heads: usize,
    },
    /// The head width is odd, but rotary embeddings need pairs of channels.
    #[error("head_dim {0} is odd: rotary position embeddings rotate pairs of channels, so use an even width")]
    OddHead(usize),
    /// The rotary scaling is invalid.
    #[error(
        "invalid {0:?}: use finite values with factor >= 1 and 0 < low_freq_factor < high_freq_factor, and at least one \
         original position"
    )]
    RopeScaling(RopeScaling),
    /// A real-valued setting is not a positive number.
    #[error("{name} is {value}: it must be a positive number")]
    NotPositive {
        /// The name of the setting.
        name: &'static str,
        /// The value.
        value: f64,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::primitive::{Attention, GatedConv, Mlp, Moe, Primitive, Primitives, Relu2, SlidingWindow, SwiGlu};

    /// Widths and lengths of all magnitudes.
    fn size() -> impl Strategy<Value = u64> {
        (0u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Closed forms neither panic nor wrap around, whatever the widths: they are exact or saturate.
        #[test]
        fn closed_forms_saturate(sizes in prop::array::uniform5(size()), seq_len in size(), bias in any::<bool>()) {
            let [d_model, d_ff, heads, kv_heads, head_dim] = sizes.map(|size| size as usize);
            let dims = Dims {
                d_model, d_ff, heads, kv_heads, head_dim, attention_bias: bias, ..Dims::new(8, 8, 2).unwrap()
            };
            let [d, f, h, k, c] = sizes.map(|size| size as f64);
            let seq = seq_len as f64;
            let limit = u64::MAX as f64;
            let close = |found: u64, expected: f64| {
                let expected = expected.min(limit);
                (found as f64 - expected).abs() <= 1e-12 * expected + 2.0
            };
            let projections = 2.0 * d * (h * c + k * c);
            let biases = if bias { h * c + 2.0 * k * c + d } else { 0.0 };
            let inner = (d_ff / 4) as f64;
            let forms: [(&dyn Primitive, f64, f64); 6] = [
                (&Attention, projections + biases, 2.0 * projections + 2.0 * h * c * seq),
                (&SwiGlu, 3.0 * d * f, 6.0 * d * f),
                (&Mlp, 2.0 * d * f, 4.0 * d * f),
                (&Relu2, 2.0 * d * f, 4.0 * d * f),
                (&GatedConv::default(), d * (4.0 * d + 3.0), 2.0 * d * (4.0 * d + 3.0)),
                (&Moe::default(), d * (27.0 * inner + 8.0), 2.0 * d * (12.0 * inner + 8.0)),
            ];
            for (primitive, parameters, work) in forms {
                let cost = primitive.cost(&dims, seq_len);
                prop_assert!(close(cost.parameters, parameters), "{primitive:?} {cost:?} {parameters}");
                prop_assert!(close(cost.forward_flops_per_token, work), "{primitive:?} {cost:?} {work}");
            }
            prop_assert!(close(Attention.cost(&dims, seq_len).cache_elements, 2.0 * k * c * seq));
            prop_assert!(close(Attention.activations(&dims, seq_len), seq * (d + 2.0 * c * (h + k) + h)));
            prop_assert!(close(SwiGlu.activations(&dims, seq_len), seq * (d + 2.0 * f)));
            let whole = Attention.cost(&dims, seq_len);
            let window = SlidingWindow::default().cost(&dims, seq_len);
            prop_assert!(window.forward_flops_per_token <= whole.forward_flops_per_token);
            // Primitives that cannot be built cost nothing.
            for primitive in Primitives::standard().iter() {
                let one = primitive.activations(&dims, seq_len);
                let more = primitive.activations(&dims, seq_len.saturating_add(1));
                prop_assert!(one <= more, "{primitive:?} {dims:?} {seq_len}");
            }
        }
    }

    #[test]
    fn contradictions_are_named() {
        let good = Dims::new(32, 96, 4).unwrap();
        assert_eq!(good.head_dim, 8);
        assert_eq!(Dims::new(32, 96, 5), Err(DimsError::Heads { d_model: 32, heads: 5 }));
        assert_eq!(Dims::new(32, 96, 0), Err(DimsError::Heads { d_model: 32, heads: 0 }));
        assert_eq!(Dims::new(0, 96, 4), Err(DimsError::Zero("d_model")));
        assert_eq!(Dims::new(12, 96, 4), Err(DimsError::OddHead(3)));
        assert_eq!(Dims { kv_heads: 3, ..good.clone() }.validate(), Err(DimsError::Groups { heads: 4, kv_heads: 3 }));
        for wide in [1 << 25, 1 << 40, usize::MAX - 1] {
            assert!(matches!(Dims { d_ff: wide, ..good.clone() }.validate(), Err(DimsError::TooWide { .. })));
            assert!(matches!(Dims { head_dim: wide, ..good.clone() }.validate(), Err(DimsError::TooWide { .. })));
        }
        assert!(matches!(Dims { norm_eps: f64::NAN, ..good.clone() }.validate(), Err(DimsError::NotPositive { .. })));
        let llama = RopeScaling {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let scaled = |scaling| Dims { rope_scaling: Some(scaling), ..good.clone() }.validate();
        assert_eq!(scaled(llama), Ok(()));
        for wrong in [
            RopeScaling { factor: 0.5, ..llama },
            RopeScaling { factor: f64::NAN, ..llama },
            RopeScaling { factor: f64::INFINITY, ..llama },
            RopeScaling { low_freq_factor: 0.0, ..llama },
            RopeScaling { high_freq_factor: 1.0, ..llama },
            RopeScaling { high_freq_factor: f64::INFINITY, ..llama },
            RopeScaling { original_max_position_embeddings: 0, ..llama },
        ] {
            assert!(matches!(scaled(wrong), Err(DimsError::RopeScaling { .. })), "{wrong:?}");
        }
    }
}
