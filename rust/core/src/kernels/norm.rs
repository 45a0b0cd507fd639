//! Layer normalisation of every row.

use super::lanes::{Kernel, Lanes, joined};
use super::{Rows, Simd};

/// Numbers that are added up side by side: four of the widest registers, of which none waits for the others.
const LANES: usize = 64;

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of every row, row after row: the same bits on every path.
///
/// # Panics
/// If a row is not as long as the weights and the biases.
pub(crate) fn layer_norm(simd: Simd, x: Rows, weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    assert!(
        weight.len() == x.width && bias.len() == x.width,
        "the operands of a layer norm do not fit together"
    );
    let mut out = Vec::with_capacity(x.count * x.width);
    let room = out.as_mut_ptr();
    // SAFETY: the assertion and the capacity are what the kernel asks for, which writes every number.
    unsafe {
        simd.run(LayerNorm { x, weight, bias, eps, room });
        out.set_len(x.count * x.width);
    }
    out
}

struct LayerNorm<'a> {
    x: Rows<'a>,
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    room: *mut f32,
}

impl Kernel for LayerNorm<'_> {
    /// # Safety
    /// Weights and biases are as long as a row, and there is room for all rows.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { x, weight, bias, eps, room } = self;
        for index in 0..x.count {
            let row = x.row(index);
            // SAFETY: the caller's promise; whole registers are read and written where there are so many numbers.
            unsafe {
                let mean = sum::<V>(row, 0.0, |x| x) / row.len() as f32;
                let variance = sum::<V>(row, mean, |x| x.mul(x)) / row.len() as f32;
                let scale = 1.0 / (variance + eps).sqrt();
                let out = room.add(index * row.len());
                let whole = row.len() / V::WIDTH * V::WIDTH;
                let (all_mean, all_scale) = (V::splat(&mean), V::splat(&scale));
                for place in (0..whole).step_by(V::WIDTH) {
                    let at = |values: &[f32]| V::load(values.as_ptr().add(place));
                    let normal = at(row).sub(all_mean).mul(all_scale);
                    normal.mul(at(weight)).add(at(bias)).store(out.add(place));
                }
                for place in whole..row.len() {
                    *out.add(place) = (row[place] - mean) * scale * weight[place] + bias[place];
                }
            }
        }
    }
}

/// The sum of what `term` makes of every number less `shift`, in [`LANES`] lanes whatever the width of a register.
///
/// # Safety
/// The instructions of `V` exist.
#[inline(always)]
unsafe fn sum<V: Lanes>(row: &[f32], shift: f32, term: impl Fn(V) -> V) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut last = [shift; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let last = if rest.is_empty() { None } else { Some(&last) };
    // SAFETY: every place is a whole register of the numbers and of the lanes.
    unsafe {
        let shift = V::splat(&shift);
        for chunk in chunks.iter().chain(last) {
            for place in (0..LANES).step_by(V::WIDTH) {
                let lane = lanes.as_mut_ptr().add(place);
                V::load(lane).add(term(V::load(chunk.as_ptr().add(place)).sub(shift))).store(lane);
            }
        }
    }
    joined(lanes, |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::numbers;

    #[test]
    fn rows_of_any_length_are_normal_and_the_same_bits_on_every_path() {
        for width in (1..=70).chain([128, 384, 385, 511]) {
            let (count, stride) = (3, width + 2);
            let x: Vec<f32> = numbers(1, count * stride).iter().map(|x| 5.0 + 3.0 * x).collect();
            let (weight, bias) = (numbers(2, width), numbers(3, width));
            let rows = Rows::new(&x, count, width, stride);
            let of = |simd| layer_norm(simd, rows, &weight, &bias, 1e-3);
            let all: Vec<_> = Simd::available().into_iter().map(of).collect();
            assert!(all.iter().all(|one| *one == all[0]), "rows of {width}");
            for (index, got) in all[0].chunks_exact(width).enumerate() {
                let row = rows.row(index).iter().map(|x| f64::from(*x));
                let mean = row.clone().sum::<f64>() / width as f64;
                let variance = row.clone().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
                for (place, x) in row.enumerate() {
                    let normal = (x - mean) / (variance + f64::from(1e-3f32)).sqrt();
                    let want = normal * f64::from(weight[place]) + f64::from(bias[place]);
                    let gap = (f64::from(got[place]) - want).abs();
                    assert!(gap < 3e-6, "rows of {width}: {} for {want}", got[place]);
                }
            }
        }
    }
}
