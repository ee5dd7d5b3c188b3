//! Causal depthwise convolutions with a small kernel.
//!
//! Notation: kernel `w`, `[K, C]`, with kernel size `K`. Per channel, `conv(x)_t = sum_j w_j x_(t-K+1+j)`, with zeros
//! before the first token. The last entry of the kernel applies to the current token, as in PyTorch's `Conv1d` with
//! left padding `K - 1`, whose weight is `w` transposed.

use burn::tensor::Tensor;

use super::swiglu::silu;

/// Returns `silu(conv(x) + bias)`, as used before the recurrence of Mamba-2 (Dao and Gu 2024, arXiv 2405.21060, section
/// 7).
///
/// # Shapes
/// `x`: `[B, S, C]`, `weight`: `[K, C]`, `bias`: `[C]`, to `[B, S, C]`.
pub fn conv_silu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = conv_silu_kernel(&x, &weight, bias.as_ref()) {
        return y;
    }
    ConvWindow::empty(&x, weight.dims()).silu(x, weight, bias)
}

/// Returns `c * conv(b * x)`, where `b`, `c` and `x` are concatenated in the channels of `bcx`: the short convolution
/// of LFM2 (Liquid AI 2025, arXiv 2511.23404) without its projections.
///
/// # Shapes
/// `bcx`: `[B, S, 3 C]`, `weight`: `[K, C]`, to `[B, S, C]`.
pub fn gated_conv(bcx: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = gated_conv_kernel(&bcx, &weight) {
        return y;
    }
    ConvWindow::empty(&bcx, weight.dims()).gated(bcx, weight)
}

/// The last `K - 1` inputs of a convolution, which later tokens need. Zeros before the first token.
#[derive(Clone, Debug)]
pub struct ConvWindow(Tensor<3>);

impl ConvWindow {
    /// Creates the window before the first token, with the batch size and the device of `x`, for kernel size `K` (at
    /// least 2) and `C` channels.
    pub fn empty(x: &Tensor<3>, [kernel_size, channels]: [usize; 2]) -> Self {
        Self(Tensor::zeros([x.dims()[0], kernel_size - 1, channels], (&x.device(), x.dtype())))
    }

    /// Returns `silu(conv(x) + bias)` for the next tokens and appends them to the window; see [`conv_silu`].
    pub fn silu(&mut self, x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
        let mixed = self.conv(x, weight);
        silu(match bias {
            Some(bias) => mixed + bias.unsqueeze(),
            None => mixed,
        })
    }

    /// Returns `c * conv(b * x)` for the next tokens and appends them to the window; see [`gated_conv`].
    pub fn gated(&mut self, bcx: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
        let width = weight.dims()[1];
        let [b, c, x] = [0, 1, 2].map(|part| bcx.clone().narrow(2, part * width, width));
        c * self.conv(b * x, weight)
    }

    /// Returns the number of stored elements, over the whole batch.
    pub fn elements(&self) -> usize {
        self.0.shape().num_elements()
    }

    fn conv(&mut self, x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
        let [kernel_size, _] = weight.dims();
        let seq = x.dims()[1];
        let all = Tensor::cat(vec![self.0.clone(), x], 1);
        self.0 = all.clone().narrow(1, seq, kernel_size - 1);
        let tap = |j: usize| all.clone().narrow(1, j, seq) * weight.clone().narrow(0, j, 1).unsqueeze();
        (1..kernel_size).fold(tap(0), |sum, j| sum + tap(j))
    }
}

#[cfg(feature = "flex")]
fn conv_silu_kernel(x: &Tensor<3>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Option<Tensor<3>> {
    use super::flex::{ConvSilu, apply, input};

    let shape = x.dims();
    let [kernel_size, width] = weight.dims();
    let fits = shape[2] == width && bias.is_none_or(|bias| bias.dims() == [width]);
    if !fits || kernel_size == 0 || shape.contains(&0) {
        return None;
    }
    let kernel = ConvSilu { seq: shape[1], width };
    let x = input(x)?;
    let weight = input(weight)?;
    Some(match bias {
        Some(bias) => apply(kernel, [x, weight, input(bias)?], shape),
        None => apply(kernel, [x, weight], shape),
    })
}

#[cfg(feature = "flex")]
fn gated_conv_kernel(bcx: &Tensor<3>, weight: &Tensor<2>) -> Option<Tensor<3>> {
    use super::flex::{GatedConv, apply, input};

    let [batch, seq, inputs] = bcx.dims();
    let [kernel_size, width] = weight.dims();
    if inputs != 3 * width || batch * seq * kernel_size * width == 0 {
        return None;
    }
    Some(apply(GatedConv { seq, width }, [input(bcx)?, input(weight)?], [batch, seq, width]))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    /// Batch, length, channels, kernel size.
    fn agrees([batch, seq, width, kernel_size]: [usize; 4], scale: f32) {
        let x = [batch, seq, width];
        let bcx = [batch, seq, 3 * width];
        for bias in [false, true] {
            let mut shapes = vec![x.to_vec(), vec![kernel_size, width]];
            shapes.extend(bias.then(|| vec![width]));
            check(
                Case { shapes: &shapes, scale, tolerance: 1e-5 },
                &|t| {
                    let kernel = conv_silu_kernel(&lift(&t[0], x), &lift(&t[1], [kernel_size, width]), t.get(2));
                    lower(kernel.expect("the kernel serves this case"))
                },
                &|t| {
                    let x = lift::<3>(&t[0], x);
                    let weight = lift::<2>(&t[1], [kernel_size, width]);
                    lower(ConvWindow::empty(&x, [kernel_size, width]).silu(x, weight, t.get(2).cloned()))
                },
            );
        }
        check(
            Case { shapes: &[bcx.to_vec(), vec![kernel_size, width]], scale, tolerance: 1e-5 },
            &|t| lower(gated_conv_kernel(&lift(&t[0], bcx), &lift(&t[1], [kernel_size, width])).unwrap()),
            &|t| {
                let bcx = lift::<3>(&t[0], bcx);
                let weight = lift::<2>(&t[1], [kernel_size, width]);
                lower(ConvWindow::empty(&bcx, [kernel_size, width]).gated(bcx, weight))
            },
        );
    }

    #[test]
    fn value_and_gradients_are_those_of_the_composed_form() {
        for sizes in [[1, 1, 1, 2], [2, 7, 5, 4], [1, 3, 33, 4], [3, 20, 16, 3]] {
            agrees(sizes, 1.0);
            agrees(sizes, 3.0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_shape_agrees(batch in 1usize..3, seq in 1usize..20, width in 1usize..40, kernel_size in 2usize..6) {
            agrees([batch, seq, width, kernel_size], 1.0);
        }
    }

    #[test]
    fn both_forms_are_the_direct_convolution() {
        let seq = 9;
        let width = 3;
        let kernel_size = 4;
        let value = |i: usize| (1.3 * i as f64).sin();
        let data = |shape: &[usize]| {
            let count = shape.iter().product();
            TensorData::new((0..count).map(|i| value(i) as f32).collect::<Vec<f32>>(), shape.to_vec())
        };
        let device = Device::flex();
        let weight = [kernel_size, width];
        let conv = |u: &dyn Fn(usize, usize) -> f64, t: usize, c: usize| {
            (0..kernel_size)
                .filter(|j| t + j + 1 >= kernel_size)
                .map(|j| value(j * width + c) * u(t + j + 1 - kernel_size, c))
                .sum::<f64>()
        };
        let near = |got: Tensor<3>, want: &dyn Fn(usize, usize) -> f64| {
            for (at, got) in got.into_data().try_into_vec::<f32>().unwrap().into_iter().enumerate() {
                let want = want(at / width, at % width);
                assert!((f64::from(got) - want).abs() < 1e-6, "{at}: {got} {want}");
            }
        };
        let x = Tensor::<3>::from_data(data(&[1, seq, width]), &device);
        let weights = Tensor::<2>::from_data(data(&weight), &device);
        let want = |t, c| {
            let h = conv(&|t, c| value(t * width + c), t, c);
            h / (1.0 + (-h).exp())
        };
        near(conv_silu(x.clone(), weights.clone(), None), &want);
        near(ConvWindow::empty(&x, weight).silu(x, weights.clone(), None), &want);
        let bcx = Tensor::<3>::from_data(data(&[1, seq, 3 * width]), &device);
        let part = |t: usize, c: usize, part: usize| value((3 * t + part) * width + c);
        let want = |t, c| part(t, c, 1) * conv(&|t, c| part(t, c, 0) * part(t, c, 2), t, c);
        near(gated_conv(bcx.clone(), weights.clone()), &want);
        near(ConvWindow::empty(&bcx, weight).gated(bcx, weights), &want);
    }
}
