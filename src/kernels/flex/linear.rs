//! `y = x w + b`, with `w` stored directly or transposed.

use faer::MatRef;

use super::{
    Kernel,
    matmul::{add, blocks, matrix, rows, rows_mut, set},
    pool::{buffer, zeros},
};

/// The shapes: `x`: `[N, I]`, `w`: `[I, O]` (or `[O, I]` if stored transposed), `b`: `[O]`, `y`: `[N, O]`.
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

    fn forward(self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        let Self { inputs, outputs, transposed: _ } = self;
        let count = x.len() / inputs;
        let mut y = buffer(count * outputs);
        for block in blocks(count) {
            let x = matrix(rows(x, &block, inputs), inputs);
            let y = rows_mut(&mut y, &block, outputs);
            match b {
                None => set(y, x, self.weight(w)),
                Some(b) => {
                    y.chunks_exact_mut(outputs).for_each(|y| y.copy_from_slice(b));
                    add(y, x, self.weight(w));
                }
            }
        }
        y
    }

    /// `dx = dy w^T`, `dw = x^T dy`, `db = sum dy`.
    fn backward<const N: usize>(self, [x, w]: [&[f32]; 2], dy: &[f32], wanted: [bool; N]) -> [Option<Vec<f32>>; N] {
        let Self { inputs, outputs, transposed } = self;
        let sizes = [x.len(), w.len(), outputs];
        let start = |i: usize| if i == 0 { buffer(sizes[i]) } else { zeros(sizes[i]) };
        let mut gradients: [Option<Vec<f32>>; N] = std::array::from_fn(|i| wanted[i].then(|| start(i)));
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
        gradients
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
