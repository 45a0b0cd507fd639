//! Gated activations: GeGLU, SwiGLU and their like.

use super::curves::{Activation, Curve, with_curve};
use super::lanes::{Kernel, Lanes};
use super::{Rows, Simd};

/// `[rows, width / 2]`: the activation of the first half of every row, times the second half.
///
/// # Panics
/// If the sizes do not fit together.
pub(crate) fn gate(simd: Simd, activation: Activation, x: Rows, out: &mut [f32]) {
    let half = x.width / 2;
    assert!(2 * half == x.width && out.len() == x.count * half, "the operands of a gate do not fit together");
    for (index, out) in out.chunks_exact_mut(half.max(1)).enumerate() {
        let (values, gate) = x.row(index).split_at(half);
        // SAFETY: all three are as long as each other.
        unsafe { simd.run(Gate { activation, values, gate, out }) }
    }
}

struct Gate<'a> {
    activation: Activation,
    values: &'a [f32],
    gate: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Gate<'_> {
    /// # Safety
    /// The slices are as long as each other.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        // SAFETY: the caller's promise.
        unsafe { with_curve!(self.activation, |curve| self.run_with::<V>(curve)) }
    }
}

impl Gate<'_> {
    #[inline(always)]
    unsafe fn run_with<V: Lanes>(self, curve: impl Curve) {
        let Self { values, gate, out, .. } = self;
        let whole = out.len() / V::WIDTH * V::WIDTH;
        // SAFETY: whole registers are read and written where there are so many numbers; 16 is the widest register.
        unsafe {
            for place in (0..whole).step_by(V::WIDTH) {
                let value = curve.at(V::load(values.as_ptr().add(place)));
                value.mul(V::load(gate.as_ptr().add(place))).store(out.as_mut_ptr().add(place));
            }
            let mut rest = [0.0; 16];
            rest[..out.len() - whole].copy_from_slice(&values[whole..]);
            for place in (0..16).step_by(V::WIDTH) {
                curve.at(V::load(rest.as_ptr().add(place))).store(rest.as_mut_ptr().add(place));
            }
            for ((out, value), gate) in out[whole..].iter_mut().zip(rest).zip(&gate[whole..]) {
                *out = value * gate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the series whose terms are all positive.
    fn erf(x: f64) -> f64 {
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp()
    }

    /// The activation of every number, by a gate of ones.
    fn activated(simd: Simd, activation: Activation, xs: &[f32]) -> Vec<f32> {
        let row = [xs, &vec![1.0; xs.len()]].concat();
        let mut out = vec![f32::NAN; xs.len()];
        gate(simd, activation, Rows::new(&row, 1, row.len(), row.len()), &mut out);
        out
    }

    #[test]
    fn gelu_is_the_exact_one_on_every_path() {
        let xs: Vec<f32> = (-80_000..=80_000).map(|i| i as f32 * 1e-4).collect();
        for simd in Simd::available() {
            for (x, got) in xs.iter().zip(activated(simd, Activation::Gelu, &xs)) {
                let x = f64::from(*x);
                // That of the error function is 1e-7; the last bit of the result comes on top.
                let bound = 0.5 * x.abs().min(5.75) * 1e-7 + got.abs() as f64 * 6e-8;
                let want = 0.5 * x * (1.0 + erf(x / 2f64.sqrt()));
                assert!((f64::from(got) - want).abs() <= bound, "{} of {x}: {got} for {want}", simd.name());
            }
        }
    }

    #[test]
    fn silu_is_right_far_out_on_every_path() {
        let xs: Vec<f32> = (-2000..=2000).map(|i| i as f32 * 0.1).collect();
        for simd in Simd::available() {
            for (x, got) in xs.iter().zip(activated(simd, Activation::Silu, &xs)) {
                let want = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
                let bound = 3e-7 * want.abs() + 1e-30;
                // The error of an exponent is in its own last bits.
                let bound = bound + 2e-7 * want.abs() * f64::from(x.abs());
                assert!((f64::from(got) - want).abs() <= bound, "{} of {x}: {got} for {want}", simd.name());
            }
        }
    }

    #[test]
    fn nan_comes_out_as_nan_and_a_row_of_any_length_is_written() {
        for (simd, width) in Simd::available().into_iter().flat_map(|simd| (1..40).map(move |n| (simd, n))) {
            for activation in [Activation::Gelu, Activation::Relu, Activation::Silu, Activation::Tanh] {
                let mut xs = vec![0.5; width];
                let plain = activated(simd, activation, &xs);
                assert!(plain.iter().all(|y| *y == plain[0] && (0.3..0.51).contains(y)), "{plain:?}");
                xs[width / 2] = f32::NAN;
                let damaged = activated(simd, activation, &xs);
                let lost = damaged.iter().zip(&xs).any(|(y, x)| y.is_nan() != x.is_nan());
                assert!(!lost, "{} {activation:?} {damaged:?}", simd.name());
            }
        }
    }
}
