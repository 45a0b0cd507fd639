//! Layer normalisation of every row.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use multiversion::multiversion;

use super::lanes::fold_lanes;
use super::{composed, fused, rows, timed_simple};

/// `(x - mean) / sqrt(variance + eps) * weight + bias`, row by row.
pub struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
    host_weight: Vec<f32>,
    host_bias: Vec<f32>,
    eps: f64,
}

impl LayerNorm {
    /// From `weight` and, where there is one, `bias`, both `[features]`.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Self> {
        if bias.is_some_and(|bias| weight.dims() != bias.dims()) {
            candle_core::bail!("layer norm: got weights {:?} and biases of another shape", weight.dims())
        }
        let (host_weight, host_bias) = if fused(weight) {
            let bias = bias.map(Tensor::to_vec1).transpose()?;
            (weight.to_vec1()?, bias.unwrap_or_else(|| vec![0.0; weight.elem_count()]))
        } else {
            Default::default()
        };
        Ok(Self { weight: weight.clone(), bias: bias.cloned(), host_weight, host_bias, eps })
    }

    /// `[tokens, features] -> [tokens, features]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        timed_simple("layer norm", || {
            if fused(x) {
                x.apply_op1_no_bwd(self)
            } else {
                composed::layer_norm(x, &self.weight, self.bias.as_ref(), self.eps)
            }
        })
    }
}

impl CustomOp1 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = rows(storage, layout)?;
        if x.width != self.host_weight.len() {
            candle_core::bail!("layer norm of {} features: got rows of {}", self.host_weight.len(), x.width)
        }
        let mut out = Vec::with_capacity(x.count * x.width);
        for index in 0..x.count {
            let start = out.len();
            out.extend_from_slice(x.row(index));
            normalize(&mut out[start..], &self.host_weight, &self.host_bias, self.eps as f32);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn normalize(row: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let count = row.len() as f32;
    let add = |a: f32, b: f32| a + b;
    let mean = fold_lanes(row, 0.0, add, add) / count;
    let variance = fold_lanes(row, 0.0, |sum, x| sum + (x - mean) * (x - mean), add) / count;
    let scale = 1.0 / (variance + eps).sqrt();
    for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * scale * w + b;
    }
}
