//! `y = x w + b`, with `w` stored directly or transposed, for one map or several equal ones.

use faer::MatRef;

use super::{
    Kernel,
    matmul::{add, blocks, matrix, rows, rows_mut, set},
    pool::{buffer, zeros},
};

/// The shapes: `x`: `[R N, I]`, `w`: `[R I, O]` (or `[O, I]` if stored transposed, with `R = 1`), `b`: `[R O]`, `y`:
/// `[R N, O]`. Each of `R` equal maps is applied to its part of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `I`.
    pub inputs: usize,
    /// `O`.
    pub outputs: usize,
    /// Whether `w` is stored as `[O, I]`.
    pub transposed: bool,
}

impl Linear {
    /// `[I, O]`.
    fn weight(self, w: &[f32]) -> MatRef<'_, f32> {
        if self.transposed { matrix(w, self.inputs).transpose() } else { matrix(w, self.outputs) }
    }

    /// Returns the number of weights of one map, and the number of maps, `R`.
    fn maps(self, w: &[f32]) -> (usize, usize) {
        let size = self.inputs * self.outputs;
        (size, w.len() / size)
    }

    fn forward(self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        let Self { inputs, outputs, .. } = self;
        let (size, maps) = self.maps(w);
        let count = x.len() / inputs / maps;
        let mut y = buffer(maps * count * outputs);
        let parts = x.chunks_exact(count * inputs).zip(y.chunks_exact_mut(count * outputs));
        for (map, (x, y)) in parts.enumerate() {
            let w = &w[map * size..][..size];
            let b = b.map(|b| &b[map * outputs..][..outputs]);
            self.forward_one(x, w, b, y);
        }
        y
    }

    fn forward_one(self, x: &[f32], w: &[f32], b: Option<&[f32]>, y: &mut [f32]) {
        let Self { inputs, outputs, .. } = self;
        for block in blocks(x.len() / inputs) {
            let x = matrix(rows(x, &block, inputs), inputs);
            let y = rows_mut(y, &block, outputs);
            match b {
                None => set(y, x, self.weight(w)),
                Some(b) => {
                    y.chunks_exact_mut(outputs).for_each(|y| y.copy_from_slice(b));
                    add(y, x, self.weight(w));
                }
            }
        }
    }

    fn backward<const N: usize>(self, [x, w]: [&[f32]; 2], dy: &[f32], wanted: [bool; N]) -> [Option<Vec<f32>>; N] {
        let Self { inputs, outputs, .. } = self;
        let (size, maps) = self.maps(w);
        let sizes = [x.len(), w.len(), maps * outputs];
        let start = |i: usize| if i == 0 { buffer(sizes[i]) } else { zeros(sizes[i]) };
        let mut gradients: [Option<Vec<f32>>; N] = std::array::from_fn(|i| wanted[i].then(|| start(i)));
        let count = x.len() / inputs / maps;
        for (map, (x, dy)) in x.chunks_exact(count * inputs).zip(dy.chunks_exact(count * outputs)).enumerate() {
            let w = &w[map * size..][..size];
            let mut parts = [count * inputs, size, outputs].into_iter();
            let of_map = gradients.each_mut().map(|gradient| {
                let part = parts.next().unwrap_or_default();
                gradient.as_mut().map(|gradient| &mut gradient[map * part..][..part])
            });
            self.backward_one([x, w], dy, of_map);
        }
        gradients
    }

    /// `dx = dy w^T`, `dw = x^T dy`, `db = sum dy`.
    fn backward_one<const N: usize>(self, [x, w]: [&[f32]; 2], dy: &[f32], mut gradients: [Option<&mut [f32]>; N]) {
        let Self { inputs, outputs, transposed } = self;
        for block in blocks(x.len() / inputs) {
            let x = rows(x, &block, inputs);
            let dy = rows(dy, &block, outputs);
            let x_matrix = matrix(x, inputs);
            let dy_matrix = matrix(dy, outputs);
            if let Some(dx) = &mut gradients[0] {
                set(rows_mut(dx, &block, inputs), dy_matrix, self.weight(w).transpose());
            }
            if let Some(dw) = &mut gradients[1] {
                match transposed {
                    true => add(dw, dy_matrix.transpose(), x_matrix),
                    false => add(dw, x_matrix.transpose(), dy_matrix),
                }
            }
            if let Some(Some(db)) = gradients.get_mut(2) {
                for dy in dy.chunks_exact(outputs) {
                    db.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
                }
            }
        }
    }
}

impl Kernel<2> for Linear {
    type Saved = ();

    fn forward(&self, [x, w]: [&[f32]; 2], _: bool) -> (Vec<f32>, ()) {
        (Linear::forward(*self, x, w, None), ())
    }

    fn backward(&self, inputs: [&[f32]; 2], (): (), dy: &[f32], wanted: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        Linear::backward(*self, inputs, dy, wanted)
    }
}

impl Kernel<3> for Linear {
    type Saved = ();

    fn forward(&self, [x, w, b]: [&[f32]; 3], _: bool) -> (Vec<f32>, ()) {
        (Linear::forward(*self, x, w, Some(b)), ())
    }

    fn backward(&self, [x, w, _]: [&[f32]; 3], (): (), dy: &[f32], wanted: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        Linear::backward(*self, [x, w], dy, wanted)
    }
}
