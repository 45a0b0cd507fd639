//! Layer normalisation of every row.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{composed, fused, rows, simd, timed_simple};
use crate::kernels;

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
        let out = kernels::layer_norm(simd()?, x, &self.host_weight, &self.host_bias, self.eps as f32);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}
