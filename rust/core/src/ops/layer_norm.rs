//! Layer normalisation of every row.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use multiversion::multiversion;

use super::Rows;
use super::lanes::fold_lanes;

/// `(x - mean) / sqrt(variance + eps) * weight + bias`, row by row.
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    /// From `weight` and `bias`, both `[features]`.
    pub fn new(weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Self> {
        if weight.dims() != bias.dims() {
            candle_core::bail!("layer norm: got weights {:?} and biases {:?}", weight.dims(), bias.dims())
        }
        Ok(Self { weight: weight.to_vec1()?, bias: bias.to_vec1()?, eps: eps as f32 })
    }

    /// `[tokens, features] -> [tokens, features]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = Rows::new(storage, layout)?;
        if x.width != self.weight.len() {
            candle_core::bail!("layer norm of {} features: got rows of {}", self.weight.len(), x.width)
        }
        let mut out = Vec::with_capacity(x.count * x.width);
        for index in 0..x.count {
            let start = out.len();
            out.extend_from_slice(x.row(index));
            normalize(&mut out[start..], &self.weight, &self.bias, self.eps);
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
