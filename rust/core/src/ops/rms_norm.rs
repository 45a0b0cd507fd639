//! Root mean square normalisation of every row, or of every head of it.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use multiversion::multiversion;

use super::lanes::fold_lanes;
use super::{composed, fused, rows, timed_simple};

/// `x / sqrt(mean(x^2) + eps) * weight`, over every run of as many columns as there are weights: a whole row, or one
/// head after the other.
pub struct RmsNorm {
    weight: Tensor,
    host_weight: Vec<f32>,
    eps: f64,
}

impl RmsNorm {
    /// From `weight [features]`.
    pub fn new(weight: &Tensor, eps: f64) -> Result<Self> {
        let host_weight = if fused(weight) { weight.to_vec1()? } else { Vec::new() };
        if weight.dims1()? == 0 {
            candle_core::bail!("rms norm: got no weights")
        }
        Ok(Self { weight: weight.clone(), host_weight, eps })
    }

    /// `[tokens, n * features] -> ` the same.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        timed_simple("rms norm", || {
            if fused(x) { x.apply_op1_no_bwd(self) } else { composed::rms_norm(x, &self.weight, self.eps) }
        })
    }
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = rows(storage, layout)?;
        let features = self.host_weight.len();
        if !x.width.is_multiple_of(features) {
            candle_core::bail!("rms norm of {features} features: got rows of {}", x.width)
        }
        let mut out = Vec::with_capacity(x.count * x.width);
        for index in 0..x.count {
            let start = out.len();
            out.extend_from_slice(x.row(index));
            out[start..]
                .chunks_exact_mut(features)
                .for_each(|run| normalize(run, &self.host_weight, self.eps as f32));
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn normalize(run: &mut [f32], weight: &[f32], eps: f32) {
    let mean = fold_lanes(run, 0.0, |sum, x| sum + x * x, |a, b| a + b) / run.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for (x, w) in run.iter_mut().zip(weight) {
        *x = *x * scale * w;
    }
}
