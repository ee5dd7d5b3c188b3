//! The gated delta rule in chunks; see `kernels::delta_rule` for the notation. It processes one sequence, one chunk and
//! one key head at a time. The backward pass recomputes the matrices of a chunk; the corrections `w` and the states
//! before chunks are stored.

mod back;

use std::ops::Range;

use self::back::{Back, Spot};
use super::{
    Kernel,
    decay::{Sums, softplus},
    matmul::{add, matrix, set, solve_unit_lower},
    pool::{buffer, give_back},
    rows::{products, put, scale, take},
    simd::{Arch, Simd, WithSimd, load, starts, store},
};
use crate::{dims::DeltaRule, kernels::LENGTH_EPSILON};

/// The shapes: `q | k | v`: `[B, S, 2 K C + V P]`, `beta_logits` and `decay`: `[B, S, V]`, `dt_bias` and `a_log`:
/// `[V]`, the result `[B, S, V P]`.
#[derive(Clone, Copy, Debug)]
pub struct DeltaScan {
    /// `S`.
    pub seq: usize,
    /// The other sizes.
    pub sizes: DeltaRule,
}

/// What is stored for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The states before every chunk but the first: `[B, chunks - 1, V, C, P]`.
    states: Vec<f32>,
    /// `w`, ordered by head in every chunk: `[B, chunks, V, L, P]`.
    corrections: Vec<f32>,
}

/// For all tokens and value heads, `[B, S, V]`: `beta`, `g = ln alpha`, and the derivative of `g` with respect to
/// `decay`.
struct Gates {
    beta: Vec<f32>,
    g: Vec<f64>,
    slope: Vec<f64>,
}

/// One chunk of one sequence.
#[derive(Clone)]
struct Place {
    sequence: usize,
    chunk: usize,
    /// The tokens, counted over the batch.
    tokens: Range<usize>,
}

impl DeltaScan {
    /// Returns `V P`.
    fn values(&self) -> usize {
        self.sizes.value_heads * self.sizes.value_width
    }

    /// Returns the number of columns of `q | k | v`.
    fn columns(&self) -> usize {
        2 * self.sizes.key_heads * self.sizes.key_width + self.values()
    }

    /// Returns the first columns of a query head, of its keys, and of a value head.
    fn first(&self, key_head: usize, head: usize) -> [usize; 3] {
        let DeltaRule { key_heads, key_width, value_width, .. } = self.sizes;
        let keys = key_heads * key_width;
        [key_head * key_width, keys + key_head * key_width, 2 * keys + head * value_width]
    }

    /// Returns the number of chunks per sequence.
    fn count(&self) -> usize {
        self.seq.div_ceil(self.sizes.chunk)
    }

    fn places(&self, batch: usize, back: bool) -> impl Iterator<Item = Place> + use<> {
        let seq = self.seq;
        let len = self.sizes.chunk;
        let count = self.count();
        (0..batch * count).map(move |at| {
            let sequence = at / count;
            let chunk = if back { count - 1 - at % count } else { at % count };
            let start = sequence * seq;
            Place { sequence, chunk, tokens: start + chunk * len..start + seq.min((chunk + 1) * len) }
        })
    }

    /// Returns the value heads that share a key head.
    fn sharing(&self, key_head: usize) -> Range<usize> {
        let count = self.sizes.value_heads / self.sizes.key_heads;
        key_head * count..(key_head + 1) * count
    }

    /// Returns the range of a head's state among those of a sequence.
    fn state(&self, head: usize) -> Range<usize> {
        let size = self.sizes.key_width * self.sizes.value_width;
        head * size..(head + 1) * size
    }

    /// Returns the range of a head's stored state before a chunk. `None` for the first chunk.
    fn before(&self, place: &Place, head: usize) -> Option<Range<usize>> {
        let row = place.sequence * (self.count() - 1) + place.chunk.checked_sub(1)?;
        Some(self.state(row * self.sizes.value_heads + head))
    }

    /// Returns the range of a head's stored corrections in a chunk.
    fn corrections(&self, place: &Place, head: usize) -> Range<usize> {
        let width = self.sizes.value_width;
        let len = place.tokens.len();
        let at = place.tokens.start * self.values() + head * len * width;
        at..at + len * width
    }

    fn gates(&self, [beta_logits, decay, bias, a_log]: [&[f32]; 4]) -> Gates {
        let rates: Vec<f64> = a_log.iter().map(|&a_log| -f64::from(a_log).exp()).collect();
        let mut gates = Gates { beta: Vec::new(), g: Vec::new(), slope: Vec::new() };
        for (at, (beta_logits, decay)) in beta_logits.iter().zip(decay).enumerate() {
            let head = at % bias.len();
            let (dt, slope) = softplus(f64::from(decay + bias[head]));
            gates.beta.push(1.0 / (1.0 + (-beta_logits).exp()));
            gates.g.push(dt * rates[head]);
            gates.slope.push(slope * rates[head]);
        }
        gates
    }
}

/// One key head of a chunk of `L` tokens. Queries are stored above keys.
#[derive(Default)]
struct Keys {
    /// `[2 L, C]`: `q` and `k`.
    unit: Vec<f32>,
    /// `[2 L]`: the reciprocals of the original lengths.
    lengths: Vec<f32>,
    /// `[2 L, L]`: `q k^T` and `k k^T`.
    overlap: Vec<f32>,
}

impl Keys {
    fn fill(&mut self, scan: &DeltaScan, place: &Place, key_head: usize, qkv: &[f32]) {
        let width = scan.sizes.key_width;
        let columns = scan.columns();
        let len = place.tokens.len();
        self.unit.resize(2 * len * width, 0.0);
        self.lengths.resize(2 * len, 0.0);
        self.overlap.resize(2 * len * len, 0.0);
        let qkv = &qkv[place.tokens.start * columns..place.tokens.end * columns];
        let [q, k, _] = scan.first(key_head, 0);
        let (queries, keys) = self.unit.split_at_mut(len * width);
        take(qkv, columns, q, width, queries);
        take(qkv, columns, k, width, keys);
        let lengths = &mut self.lengths;
        products(&self.unit, &self.unit, width, |row, square| {
            lengths[row] = (square + f64::from(LENGTH_EPSILON)).sqrt().recip() as f32;
        });
        scale(&mut self.unit, lengths);
        self.unit[..len * width].iter_mut().for_each(|q| *q *= (width as f32).sqrt().recip());
        set(&mut self.overlap, matrix(&self.unit, width), matrix(&self.unit[len * width..], width).transpose());
    }

    fn keys(&self) -> &[f32] {
        &self.unit[self.unit.len() / 2..]
    }
}

/// One value head of a chunk of `L` tokens.
#[derive(Default)]
struct Head {
    sums: Sums,
    /// `[L]`.
    beta: Vec<f32>,
    /// `[2 L]`: `exp(c)`, and `-exp(c)`.
    from_start: Vec<f32>,
    /// `[L]`: `exp(c_last - c)`.
    to_end: Vec<f32>,
    /// `[2 L, L]`: `q k^T * l`, and `A`.
    weights: Vec<f32>,
    /// `[L, P]`: `v`.
    values: Vec<f32>,
    /// `[2 L, P]`: what queries and keys read from the state before the chunk.
    read: Vec<f32>,
}

impl Head {
    fn fill(
        &mut self,
        scan: &DeltaScan,
        place: &Place,
        head: usize,
        [qkv, before]: [&[f32]; 2],
        keys: &Keys,
        gates: &Gates,
    ) {
        let heads = scan.sizes.value_heads;
        let width = scan.sizes.value_width;
        let columns = scan.columns();
        let len = place.tokens.len();
        let own = |t: usize| t * heads + head;
        self.sums.fill(place.tokens.clone().map(|t| gates.g[own(t)]));
        self.beta.clear();
        self.beta.extend(place.tokens.clone().map(|t| gates.beta[own(t)]));
        self.weights.resize(2 * len * len, 0.0);
        self.values.resize(len * width, 0.0);
        self.read.resize(2 * len * width, 0.0);
        let [_, _, v] = scan.first(0, head);
        take(&qkv[place.tokens.start * columns..place.tokens.end * columns], columns, v, width, &mut self.values);
        let Self { sums, beta, weights, .. } = self;
        Arch::new().dispatch(Weigh { overlap: &keys.overlap, sums, beta, weights });
        if scan.count() > 1 {
            self.to_end.clear();
            self.to_end.extend((0..len).map(|t| self.sums.to_end(t)));
            self.from_start.clear();
            self.from_start.extend((0..len).map(|t| self.sums.since_start(t)));
            self.from_start.extend_from_within(..);
            self.from_start[len..].iter_mut().for_each(|x| *x = -*x);
        }
        if before.is_empty() {
            self.read.fill(0.0);
        } else {
            set(&mut self.read, matrix(&keys.unit, scan.sizes.key_width), matrix(before, width));
        }
    }

    /// Returns the decay of the state over the chunk.
    fn passed(&self) -> f32 {
        self.sums.since_start(self.beta.len() - 1)
    }

    /// Replaces the values by `v - exp(c) k s`.
    fn surprise(&mut self, decayed: &[f32]) {
        self.values.iter_mut().zip(decayed).for_each(|(v, read)| *v += read);
    }
}

impl Kernel<5> for DeltaScan {
    type Saved = Kept;

    fn forward(&self, [qkv, beta_logits, decay, bias, a_log]: [&[f32]; 5], keep: bool) -> (Vec<f32>, Kept) {
        let DeltaRule { key_heads, value_heads, key_width, value_width: width, .. } = self.sizes;
        let batch = qkv.len() / (self.seq * self.columns());
        let all = value_heads * key_width * width;
        let gates = self.gates([beta_logits, decay, bias, a_log]);
        let mut y = buffer(batch * self.seq * self.values());
        let [states, corrections] =
            [batch * (self.count() - 1) * all, y.len()].map(|len| buffer(if keep { len } else { 0 }));
        let mut kept = Kept { states, corrections };
        let mut states = vec![0.0; all];
        let mut keys = Keys::default();
        let mut own = Head::default();
        for place in self.places(batch, false) {
            let len = place.tokens.len();
            for key_head in 0..key_heads {
                keys.fill(self, &place, key_head, qkv);
                for head in self.sharing(key_head) {
                    let state = &mut states[self.state(head)];
                    let first = place.chunk == 0;
                    let before: &[f32] = if first { &[] } else { state };
                    own.fill(self, &place, head, [qkv, before], &keys, &gates);
                    let mut read = std::mem::take(&mut own.read);
                    if !first {
                        scale(&mut read, &own.from_start);
                        own.surprise(&read[len * width..]);
                    }
                    let (part, _) = read.split_at_mut(len * width);
                    scale(&mut own.values, &own.beta);
                    let (scores, a) = own.weights.split_at(len * len);
                    solve_unit_lower(matrix(a, len), &mut own.values, width);
                    add(part, matrix(scores, len), matrix(&own.values, width));
                    let rows = place.tokens.start * self.values()..place.tokens.end * self.values();
                    put(part, &mut y[rows], self.values(), head * width, width);
                    own.read = read;
                    if keep {
                        kept.corrections[self.corrections(&place, head)].copy_from_slice(&own.values);
                        if let Some(before) = self.before(&place, head) {
                            kept.states[before].copy_from_slice(state);
                        }
                    }
                    if place.chunk + 1 < self.count() {
                        let passed = if first { 0.0 } else { own.passed() };
                        state.iter_mut().for_each(|s| *s *= passed);
                        scale(&mut own.values, &own.to_end);
                        add(state, matrix(keys.keys(), key_width).transpose(), matrix(&own.values, width));
                    }
                }
            }
        }
        (y, kept)
    }

    /// With the gradient `dw` of the corrections, `dr = (I + A)^-T dw` is that of the right-hand side and `-dr w^T`
    /// that of `A`.
    fn backward(
        &self,
        [qkv, beta_logits, decay, bias, a_log]: [&[f32]; 5],
        kept: Kept,
        dy: &[f32],
        _: [bool; 5],
    ) -> [Option<Vec<f32>>; 5] {
        let DeltaRule { key_heads, value_heads, key_width, value_width, .. } = self.sizes;
        let batch = qkv.len() / (self.seq * self.columns());
        let gates = self.gates([beta_logits, decay, bias, a_log]);
        let mut back = Back::new(self, qkv.len(), beta_logits.len());
        let mut dstates = vec![0.0; value_heads * key_width * value_width];
        for place in self.places(batch, true) {
            for key_head in 0..key_heads {
                back.keys.fill(self, &place, key_head, qkv);
                back.begin(self, &place);
                for head in self.sharing(key_head) {
                    let before = self.before(&place, head).map_or(&[][..], |before| &kept.states[before]);
                    let w = &kept.corrections[self.corrections(&place, head)];
                    let dstate = &mut dstates[self.state(head)];
                    back.head(Spot { scan: self, place: &place, head }, [qkv, before, w, dy], &gates, dstate);
                }
                back.end(self, &place, key_head);
            }
        }
        [kept.states, kept.corrections].into_iter().for_each(give_back);
        let mut dbias = vec![0.0; value_heads];
        let ddecay: Vec<f32> = back.dg.iter().zip(&gates.slope).map(|(dg, slope)| (dg * slope) as f32).collect();
        ddecay.iter().enumerate().for_each(|(at, &decay)| dbias[at % value_heads] += f64::from(decay));
        let mut da_log = vec![0.0; value_heads];
        back.dg.iter().zip(&gates.g).enumerate().for_each(|(at, (dg, g))| da_log[at % value_heads] += dg * g);
        let [dbias, da_log] = [dbias, da_log].map(|sums| sums.iter().map(|&sum| sum as f32).collect());
        [Some(back.dqkv), Some(back.dstrength), Some(ddecay), Some(dbias), Some(da_log)]
    }
}

/// `q k^T * l` and `A = beta k k^T * l` below the diagonal.
struct Weigh<'a> {
    overlap: &'a [f32],
    sums: &'a Sums,
    beta: &'a [f32],
    weights: &'a mut [f32],
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let len = self.beta.len();
        let (queries, keys) = self.overlap.split_at(len * len);
        let (scores, a) = self.weights.split_at_mut(len * len);
        let rows = queries.chunks_exact(len).zip(keys.chunks_exact(len));
        let outputs = scores.chunks_exact_mut(len).zip(a.chunks_exact_mut(len));
        for (i, ((queries, keys), (scores, a))) in rows.zip(outputs).enumerate() {
            let beta = simd.splat_f32s(self.beta[i]);
            let (seen, hidden) = scores.split_at_mut(i + 1);
            let (before, rest) = a.split_at_mut(i);
            hidden.fill(0.0);
            rest.fill(0.0);
            for at in starts::<S>(i + 1) {
                let l = self.sums.between(simd, i, at);
                store(simd, seen, at, simd.mul_f32s(load(simd, queries, at), l));
                if at < i {
                    store(simd, before, at, simd.mul_f32s(simd.mul_f32s(load(simd, keys, at), beta), l));
                }
            }
        }
    }
}
