//! SIMD vectors, chosen at run time, and the exponential function on them.

pub use pulp::{
    Arch, Simd, WithSimd,
    bytemuck::{cast_slice, cast_slice_mut},
};

/// Loads the vector of `x` that begins at element `at`, padded with zeros.
#[inline(always)]
pub fn load<S: Simd>(simd: S, x: &[f32], at: usize) -> S::f32s {
    let rest = &x[at..];
    match S::as_simd_f32s(rest).0.first() {
        Some(&whole) => whole,
        None => simd.partial_load_f32s(rest),
    }
}

/// Stores a vector into `x` from element `at` on. Values beyond the end are dropped.
#[inline(always)]
pub fn store<S: Simd>(simd: S, x: &mut [f32], at: usize, values: S::f32s) {
    let rest = &mut x[at..];
    match S::as_mut_simd_f32s(rest).0.first_mut() {
        Some(whole) => *whole = values,
        None => simd.partial_store_f32s(rest, values),
    }
}

/// Returns the positions at which the vectors of a slice of `len` elements begin.
#[inline(always)]
pub fn starts<S: Simd>(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(S::F32_LANES)
}

/// Returns `e^x`.
///
/// The argument is split as `n ln 2 + r` with `|r| <= ln 2 / 2`. `e^r` is the polynomial of Cephes' `expf` (Moshier
/// 1989). `2^n` is applied as two factors, so that subnormal results are rounded only once. The relative error is below
/// 2e-7, or half a unit in the last place for subnormal results. NaN stays NaN.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Below, e^x is less than half of the smallest subnormal number.
    const SMALLEST: f32 = -103.98;
    // Masked scores are minus infinity. Computing their zeros as products would underflow, and x86 processors take over
    // a hundred cycles for each such product.
    let vanishes = simd.less_than_f32s(x, splat(SMALLEST));
    let clamped = simd.select_f32s(vanishes, splat(0.0), simd.min_f32s(splat(88.8), x));
    let shifted = simd.mul_add_e_f32s(clamped, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = simd.sub_f32s(shifted, splat(ROUND));
    let r = simd.mul_add_e_f32s(n, splat(-0.693_359_4), clamped);
    let r = simd.mul_add_e_f32s(n, splat(2.121_944_4e-4), r);
    let mut p = splat(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1, 1.0, 1.0] {
        p = simd.mul_add_e_f32s(p, r, splat(coefficient));
    }
    // 256 keeps the exponent positive when it is halved: n = half + (n - half).
    let biased = simd.sub_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(ROUND.to_bits() - 256));
    let half = simd.wrapping_dyn_shr_u32s(biased, simd.splat_u32s(1));
    let power = |n| {
        let exponent = simd.sub_u32s(n, simd.splat_u32s(1));
        simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23)))
    };
    let y = simd.mul_f32s(simd.mul_f32s(p, power(half)), power(simd.sub_u32s(biased, half)));
    let y = simd.select_f32s(vanishes, splat(0.0), y);
    simd.select_f32s(simd.equal_f32s(x, x), y, x)
}

/// Returns `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a mut [f32]);

    impl WithSimd for Exp<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            for at in starts::<S>(self.0.len()) {
                store(simd, self.0, at, exp(simd, load(simd, self.0, at)));
            }
        }
    }

    /// On every instruction set that this machine supports.
    fn exponentials(x: &[f32]) -> Vec<Vec<f32>> {
        let mut all = vec![x.to_vec(), x.to_vec()];
        Arch::new().dispatch(Exp(&mut all[0]));
        Arch::Scalar.dispatch(Exp(&mut all[1]));
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            let mut values = x.to_vec();
            Simd::vectorize(simd, Exp(&mut values));
            all.push(values);
        }
        all
    }

    #[test]
    fn exp_is_right_to_two_ten_millionths_over_the_float_range() {
        // Every 997th bit pattern between the arguments whose results are normal, of both signs.
        let positive = (0..88.72f32.to_bits()).step_by(997).map(f32::from_bits);
        let negative = (0..87.3f32.to_bits()).step_by(997).map(|bits| -f32::from_bits(bits));
        let x: Vec<f32> = positive.chain(negative).collect();
        for y in exponentials(&x) {
            for (&x, y) in x.iter().zip(y) {
                let want = f64::from(x).exp();
                assert!((f64::from(y) / want - 1.0).abs() < 2e-7, "exp({x}) = {y}, not {want}");
            }
        }
    }

    #[test]
    fn exp_is_zero_exactly_where_it_rounds_to_zero() {
        // Results from half of the smallest subnormal number on are rounded to it, smaller ones to zero.
        let x: Vec<f32> = (0..20_000).map(|i| -103.0 - 1e-4 * i as f32).collect();
        for y in exponentials(&x) {
            for (&x, y) in x.iter().zip(y) {
                let exact = f64::from(x).exp();
                let near = (exact / 2f64.powi(-150) - 1.0).abs() < 1e-6;
                assert!(near || y.to_bits() == (exact as f32).to_bits(), "exp({x}) = {y:e}, not {exact:e}");
            }
        }
    }

    #[test]
    fn exp_is_right_at_the_ends() {
        let x = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 88.722_83, 88.73, -104.0, -1e3];
        for y in exponentials(&x) {
            assert_eq!(y[..6], [1.0, 1.0, f32::INFINITY, 0.0, f32::INFINITY, 0.0]);
            assert!(y[6].is_finite() && y[6] > 3.402e38);
            assert_eq!(y[7..], [f32::INFINITY, 0.0, 0.0]);
        }
        let subnormal: Vec<f32> = (0..1000).map(|i| -87.0 - 0.017 * i as f32).collect();
        for y in exponentials(&subnormal) {
            for (&x, y) in subnormal.iter().zip(y) {
                let want = f64::from(x).exp();
                assert!((f64::from(y) - want).abs() <= 2e-7 * want + 1.0e-45, "exp({x}) = {y}, not {want}");
            }
        }
        assert!(exponentials(&[f32::NAN, 1.0]).iter().all(|y| y[0].is_nan() && (y[1] - 1f32.exp()).abs() < 1e-6));
    }
}
