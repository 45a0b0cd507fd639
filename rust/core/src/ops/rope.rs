//! Rotary position embedding.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Rows;
use crate::batch::Batch;

/// Rotates the two halves of every head by an angle that grows with the token's position in its own text.
///
/// The tables are computed in float64 and kept in float32, one row a position.
pub struct Rope {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rope {
    /// Tables for `positions` positions of heads of `head_size` (even) at base `theta`.
    pub fn new(head_size: usize, positions: usize, theta: f64) -> Result<Self> {
        if head_size == 0 || !head_size.is_multiple_of(2) {
            candle_core::bail!("rope: got heads of {head_size}, wanted an even size")
        }
        let half = head_size / 2;
        let angle = |i: usize| (i / half) as f64 * theta.powf(-((i % half) as f64) / half as f64);
        let table = |f: fn(f64) -> f64| (0..positions * half).map(|i| f(angle(i)) as f32).collect();
        Ok(Self { cos: table(f64::cos), sin: table(f64::sin), half })
    }

    /// `[tokens, heads * head_size] -> ` the same, every head rotated.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        x.apply_op1_no_bwd(&Rotation { rope: self, batch })
    }
}

struct Rotation<'a> {
    rope: &'a Rope,
    batch: &'a Batch,
}

impl CustomOp1 for Rotation<'_> {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = Rows::new(storage, layout)?;
        let half = self.rope.half;
        if x.width % (2 * half) != 0 || x.count != self.batch.ids().len() {
            candle_core::bail!("rope of heads of {}: got {} rows of {}", 2 * half, x.count, x.width)
        }
        let mut out = Vec::with_capacity(x.count * x.width);
        for (index, position) in self.batch.positions().enumerate() {
            let table = position as usize * half..(position as usize + 1) * half;
            let (Some(cos), Some(sin)) = (self.rope.cos.get(table.clone()), self.rope.sin.get(table)) else {
                candle_core::bail!("rope: position {position} is beyond the table")
            };
            for head in x.row(index).chunks_exact(2 * half) {
                let (first, second) = head.split_at(half);
                out.extend((0..half).map(|i| first[i] * cos[i] - second[i] * sin[i]));
                out.extend((0..half).map(|i| first[i] * sin[i] + second[i] * cos[i]));
            }
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}
