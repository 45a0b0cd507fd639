//! Attention inside every text of a ragged batch.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use multiversion::multiversion;

use super::lanes::fold_lanes;
use super::{Matrix, Rows, Store, matmul};
use crate::batch::Batch;

/// `softmax(q k' / sqrt(head_size)) v`, text by text and head by head.
///
/// `q`, `k` and `v` are `[tokens, heads * head_size]`, column slices of one tensor included. Every token of a text
/// sees the text's first `attended` tokens: the mask tokens of an expanded query get rows of their own and are seen
/// by nobody, and nothing is padded.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, batch: &Batch) -> Result<Tensor> {
    q.apply_op3_no_bwd(k, v, &Attention { heads, batch })
}

struct Attention<'a> {
    heads: usize,
    batch: &'a Batch,
}

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (Rows::new(q, q_layout)?, Rows::new(k, k_layout)?, Rows::new(v, v_layout)?);
        let width = q.width;
        let sizes = [q.count, k.count, v.count];
        if self.heads == 0
            || sizes != [self.batch.ids().len(); 3]
            || k.width != width
            || v.width != width
            || width % self.heads != 0
        {
            candle_core::bail!("attention of {} heads: got {sizes:?} rows of {width}", self.heads)
        }
        let head_size = width / self.heads;
        let scale = 1.0 / (head_size as f32).sqrt();
        let mut out = vec![0.0; q.count * width];
        let mut weights = Vec::new();
        for (start, rows, attended) in self.batch.texts().filter(|(_, rows, _)| *rows > 0) {
            weights.resize(rows * attended, 0.0);
            for head in 0..self.heads {
                let column = head * head_size;
                let part = |x: &Rows<'_>| x.stride * start + column;
                let queries = Matrix::rows(&q.data[part(&q)..], q.stride);
                let keys = Matrix::rows(&k.data[part(&k)..], k.stride);
                let values = Matrix::rows(&v.data[part(&v)..], v.stride);
                let size = (rows, head_size, attended);
                matmul(size, queries, keys.transposed(), (&mut weights, attended), Store::Scaled(scale));
                weights.chunks_exact_mut(attended).for_each(softmax);
                let out = (&mut out[start * width + column..], width);
                let size = (rows, attended, head_size);
                matmul(size, Matrix::rows(&weights, attended), values, out, Store::Scaled(1.0));
            }
        }
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn softmax(row: &mut [f32]) {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let max = fold_lanes(row, f32::NEG_INFINITY, larger, larger);
    for x in row.iter_mut() {
        *x = exp(*x - max);
    }
    let scale = 1.0 / fold_lanes(row, 0.0, |sum, x| sum + x, |a, b| a + b);
    for x in row {
        *x *= scale;
    }
}

/// `e^x` for `x <= 0`: `2^n` by its exponent bits, times a polynomial of `e^r` with `|r| <= ln 2 / 2` (the
/// coefficients of Cephes' `expf`), within 2e-7 of the true value, relatively. Below -87 it is about 1e-38.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to a whole number without a branch and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Not `max`, which would turn a NaN of damaged weights into a number.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e_r = p * r * r + r + 1.0;
    // n lies in [-126, 0], so these are the exponent bits of a normal number.
    let two_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    e_r * two_n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_its_bound_everywhere() {
        let worst = (0..=870_000)
            .map(|i| -(i as f32) * 1e-4)
            .map(|x| (f64::from(exp(x)) / libm::exp(f64::from(x)) - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(worst < 2e-7, "{worst}");
        assert!(exp(-1e9) < 1e-37);
    }

    #[test]
    fn softmax_of_odd_sizes_sums_to_one() {
        for size in [1, 2, 15, 16, 17, 33] {
            let mut row: Vec<f32> = (0..size).map(|i| (i as f32 * 0.7).sin() * 30.0).collect();
            softmax(&mut row);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}
