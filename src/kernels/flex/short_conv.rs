//! Causal depthwise convolutions. Rows are tokens; every kernel entry multiplies whole rows.

use super::{
    Kernel,
    pool::{buffer, give_back, zeros},
    simd::{Arch, Simd, WithSimd, load, sigmoid, starts, store},
};

/// `y = silu(h)` with `h_t = b + sum_j w_j x_(t-K+1+j)`. The shapes: `x` and `y`: `[B, S, C]`, `w`: `[K, C]`, `b`:
/// `[C]`.
#[derive(Clone, Copy, Debug)]
pub struct ConvSilu {
    /// `S`.
    pub seq: usize,
    /// `C`.
    pub width: usize,
}

impl ConvSilu {
    fn forward(self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
        let mut h = buffer(x.len());
        let mut y = buffer(x.len());
        Arch::new().dispatch(SiluForward { sizes: self, x, w, b, h: &mut h, y: &mut y });
        (y, h)
    }

    /// `dh = dy silu'(h)`, `dx_t = sum_j w_j dh_(t+K-1-j)`, `dw_j = sum_t dh_t x_(t-K+1+j)`, `db = sum dh`.
    fn backward<const N: usize>(self, [x, w]: [&[f32]; 2], mut h: Vec<f32>, dy: &[f32]) -> [Option<Vec<f32>>; N] {
        let mut dx = buffer(x.len());
        let mut dw = zeros(w.len());
        let mut db = zeros(self.width);
        let sums = Sums { dw: &mut dw, db: &mut db };
        Arch::new().dispatch(SiluBackward { sizes: self, x, w, h: &mut h, dy, dx: &mut dx, sums });
        give_back(h);
        let mut gradients = [Some(dx), Some(dw), Some(db)].into_iter();
        std::array::from_fn(|_| gradients.next().flatten())
    }
}

impl Kernel<2> for ConvSilu {
    /// `h`.
    type Saved = Vec<f32>;

    fn forward(&self, [x, w]: [&[f32]; 2], _: bool) -> (Vec<f32>, Vec<f32>) {
        ConvSilu::forward(*self, x, w, None)
    }

    fn backward(&self, inputs: [&[f32]; 2], h: Vec<f32>, dy: &[f32], _: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        ConvSilu::backward(*self, inputs, h, dy)
    }
}

impl Kernel<3> for ConvSilu {
    /// `h`.
    type Saved = Vec<f32>;

    fn forward(&self, [x, w, b]: [&[f32]; 3], _: bool) -> (Vec<f32>, Vec<f32>) {
        ConvSilu::forward(*self, x, w, Some(b))
    }

    fn backward(&self, [x, w, _]: [&[f32]; 3], h: Vec<f32>, dy: &[f32], _: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        ConvSilu::backward(*self, [x, w], h, dy)
    }
}

/// Returns the kernel entries that apply to output token `t`, each with its input token.
#[inline(always)]
fn met(t: usize, kernel_size: usize) -> impl Iterator<Item = (usize, usize)> {
    ((kernel_size - 1).saturating_sub(t)..kernel_size).map(move |j| (j, t + j + 1 - kernel_size))
}

/// Returns the kernel entries that apply to input token `t`, each with its output token.
#[inline(always)]
fn meeting(t: usize, kernel_size: usize, seq: usize) -> impl Iterator<Item = (usize, usize)> {
    ((kernel_size + t).saturating_sub(seq)..kernel_size).map(move |j| (j, t + kernel_size - 1 - j))
}

/// Returns row `t` of a matrix with `width` columns.
#[inline(always)]
fn row(x: &[f32], t: usize, width: usize) -> &[f32] {
    &x[t * width..(t + 1) * width]
}

struct SiluForward<'a> {
    sizes: ConvSilu,
    x: &'a [f32],
    w: &'a [f32],
    b: Option<&'a [f32]>,
    h: &'a mut [f32],
    y: &'a mut [f32],
}

impl WithSimd for SiluForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ConvSilu { seq, width } = self.sizes;
        let kernel_size = self.w.len() / width;
        let outputs = self.h.chunks_exact_mut(seq * width).zip(self.y.chunks_exact_mut(seq * width));
        for (x, (h, y)) in self.x.chunks_exact(seq * width).zip(outputs) {
            for (t, (h, y)) in h.chunks_exact_mut(width).zip(y.chunks_exact_mut(width)).enumerate() {
                for at in starts::<S>(width) {
                    let mut sum = self.b.map_or(simd.splat_f32s(0.0), |b| load(simd, b, at));
                    for (j, from) in met(t, kernel_size) {
                        let x = load(simd, row(x, from, width), at);
                        let w = load(simd, row(self.w, j, width), at);
                        sum = simd.mul_add_e_f32s(x, w, sum);
                    }
                    store(simd, h, at, sum);
                    store(simd, y, at, simd.mul_f32s(sum, sigmoid(simd, sum)));
                }
            }
        }
    }
}

struct Sums<'a> {
    dw: &'a mut [f32],
    db: &'a mut [f32],
}

struct SiluBackward<'a> {
    sizes: ConvSilu,
    x: &'a [f32],
    w: &'a [f32],
    /// Becomes `dh`.
    h: &'a mut [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    sums: Sums<'a>,
}

impl WithSimd for SiluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ConvSilu { seq, width } = self.sizes;
        let kernel_size = self.w.len() / width;
        let one = simd.splat_f32s(1.0);
        let Sums { dw, db } = self.sums;
        let inputs = self.x.chunks_exact(seq * width).zip(self.dy.chunks_exact(seq * width));
        let outputs = self.h.chunks_exact_mut(seq * width).zip(self.dx.chunks_exact_mut(seq * width));
        for ((x, dy), (h, dx)) in inputs.zip(outputs) {
            for (t, (h, dy)) in h.chunks_exact_mut(width).zip(dy.chunks_exact(width)).enumerate() {
                for at in starts::<S>(width) {
                    let value = load(simd, h, at);
                    let s = sigmoid(simd, value);
                    let silu = simd.mul_f32s(value, s);
                    // silu' = s + silu (1 - s)
                    let slope = simd.mul_add_e_f32s(silu, simd.sub_f32s(one, s), s);
                    let dh = simd.mul_f32s(load(simd, dy, at), slope);
                    store(simd, h, at, dh);
                    store(simd, db, at, simd.add_f32s(load(simd, db, at), dh));
                    for (j, from) in met(t, kernel_size) {
                        let dw = &mut dw[j * width..(j + 1) * width];
                        let sum = simd.mul_add_e_f32s(load(simd, row(x, from, width), at), dh, load(simd, dw, at));
                        store(simd, dw, at, sum);
                    }
                }
            }
            for (t, dx) in dx.chunks_exact_mut(width).enumerate() {
                for at in starts::<S>(width) {
                    let mut sum = simd.splat_f32s(0.0);
                    for (j, to) in meeting(t, kernel_size, seq) {
                        let dh = load(simd, row(h, to, width), at);
                        let w = load(simd, row(self.w, j, width), at);
                        sum = simd.mul_add_e_f32s(dh, w, sum);
                    }
                    store(simd, dx, at, sum);
                }
            }
        }
    }
}

/// `y_t = c_t sum_j w_j u_(t-K+1+j)` with `u = b x`. The shapes: `b | c | x`: `[B, S, 3 C]`, `w`: `[K, C]`, `y`:
/// `[B, S, C]`.
#[derive(Clone, Copy, Debug)]
pub struct GatedConv {
    /// `S`.
    pub seq: usize,
    /// `C`.
    pub width: usize,
}

impl Kernel<2> for GatedConv {
    type Saved = ();

    fn forward(&self, [bcx, w]: [&[f32]; 2], _: bool) -> (Vec<f32>, ()) {
        let mut y = buffer(bcx.len() / 3);
        Arch::new().dispatch(GatedForward { sizes: *self, bcx, w, y: &mut y });
        (y, ())
    }

    /// With `v` the convolution and `dv = c dy`: `dc = v dy`, `du_t = sum_j w_j dv_(t+K-1-j)`, `db = x du`,
    /// `dx = b du`, `dw_j = sum_t dv_t u_(t-K+1+j)`.
    fn backward(&self, [bcx, w]: [&[f32]; 2], (): (), dy: &[f32], _: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        let mut dbcx = buffer(bcx.len());
        let mut dw = zeros(w.len());
        Arch::new().dispatch(GatedBackward { sizes: *self, bcx, w, dy, dbcx: &mut dbcx, dw: &mut dw });
        [Some(dbcx), Some(dw)]
    }
}

struct GatedForward<'a> {
    sizes: GatedConv,
    bcx: &'a [f32],
    w: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for GatedForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let GatedConv { seq, width } = self.sizes;
        let kernel_size = self.w.len() / width;
        for (bcx, y) in self.bcx.chunks_exact(3 * seq * width).zip(self.y.chunks_exact_mut(seq * width)) {
            let part = |t: usize, part: usize| row(bcx, 3 * t + part, width);
            for (t, y) in y.chunks_exact_mut(width).enumerate() {
                for at in starts::<S>(width) {
                    let mut v = simd.splat_f32s(0.0);
                    for (j, from) in met(t, kernel_size) {
                        let u = simd.mul_f32s(load(simd, part(from, 0), at), load(simd, part(from, 2), at));
                        v = simd.mul_add_e_f32s(u, load(simd, row(self.w, j, width), at), v);
                    }
                    store(simd, y, at, simd.mul_f32s(load(simd, part(t, 1), at), v));
                }
            }
        }
    }
}

struct GatedBackward<'a> {
    sizes: GatedConv,
    bcx: &'a [f32],
    w: &'a [f32],
    dy: &'a [f32],
    dbcx: &'a mut [f32],
    dw: &'a mut [f32],
}

impl WithSimd for GatedBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let GatedConv { seq, width } = self.sizes;
        let kernel_size = self.w.len() / width;
        let inputs = self.bcx.chunks_exact(3 * seq * width).zip(self.dy.chunks_exact(seq * width));
        for ((bcx, dy), dbcx) in inputs.zip(self.dbcx.chunks_exact_mut(3 * seq * width)) {
            let part = |t: usize, part: usize| row(bcx, 3 * t + part, width);
            for (t, dbcx) in dbcx.chunks_exact_mut(3 * width).enumerate() {
                let (db, dcx) = dbcx.split_at_mut(width);
                let (dc, dx) = dcx.split_at_mut(width);
                for at in starts::<S>(width) {
                    let dy_t = load(simd, row(dy, t, width), at);
                    let dv = simd.mul_f32s(load(simd, part(t, 1), at), dy_t);
                    let mut v = simd.splat_f32s(0.0);
                    for (j, from) in met(t, kernel_size) {
                        let u = simd.mul_f32s(load(simd, part(from, 0), at), load(simd, part(from, 2), at));
                        v = simd.mul_add_e_f32s(u, load(simd, row(self.w, j, width), at), v);
                        let dw = &mut self.dw[j * width..(j + 1) * width];
                        store(simd, dw, at, simd.mul_add_e_f32s(u, dv, load(simd, dw, at)));
                    }
                    store(simd, dc, at, simd.mul_f32s(v, dy_t));
                    let mut du = simd.splat_f32s(0.0);
                    for (j, to) in meeting(t, kernel_size, seq) {
                        let dv = simd.mul_f32s(load(simd, part(to, 1), at), load(simd, row(dy, to, width), at));
                        du = simd.mul_add_e_f32s(dv, load(simd, row(self.w, j, width), at), du);
                    }
                    store(simd, db, at, simd.mul_f32s(load(simd, part(t, 2), at), du));
                    store(simd, dx, at, simd.mul_f32s(load(simd, part(t, 0), at), du));
                }
            }
        }
    }
}
