//! The gated short convolution of LFM2.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{composed, fused, rows, timed_simple};
use crate::batch::Batch;

/// A causal convolution along the tokens of every text, one small filter a feature, gated on both sides.
pub struct ShortConv {
    weight: Tensor,
    bias: Option<Tensor>,
    /// `taps` rows of `features`, the oldest token's first.
    host_taps: Vec<f32>,
    host_bias: Vec<f32>,
    features: usize,
}

impl ShortConv {
    /// From `weight [features, 1, taps]` and `bias [features]`, as a depthwise torch `Conv1d` stores them.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let weight = weight.squeeze(1)?.t()?.contiguous()?;
        let features = weight.dim(1)?;
        let (host_taps, host_bias) = if fused(&weight) {
            let bias = bias.map(Tensor::to_vec1).transpose()?;
            (weight.flatten_all()?.to_vec1()?, bias.unwrap_or_else(|| vec![0.0; features]))
        } else {
            Default::default()
        };
        Ok(Self { weight, bias: bias.cloned(), host_taps, host_bias, features })
    }

    /// `[tokens, 3 features] -> [tokens, features]`: of the three parts of a row, the first gates the third before the
    /// convolution and the second gates its result.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        timed_simple("short convolution", || self.compute(x, batch))
    }

    fn compute(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        if fused(x) {
            x.apply_op1_no_bwd(&Convolution { conv: self, batch })
        } else {
            composed::short_conv(x, &self.weight, self.bias.as_ref(), batch)
        }
    }
}

struct Convolution<'a> {
    conv: &'a ShortConv,
    batch: &'a Batch,
}

impl CustomOp1 for Convolution<'_> {
    fn name(&self) -> &'static str {
        "short convolution"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = rows(storage, layout)?;
        let n = self.conv.features;
        if x.width != 3 * n || x.count != self.batch.ids().len() {
            candle_core::bail!("short convolution of {n} features: got {} rows of {}", x.count, x.width)
        }
        let mut gated = Vec::with_capacity(x.count * n);
        for row in (0..x.count).map(|index| x.row(index)) {
            gated.extend(row[..n].iter().zip(&row[2 * n..]).map(|(b, x)| b * x));
        }
        let taps = self.conv.host_taps.len() / n;
        let mut out = self.conv.host_bias.repeat(x.count);
        for (start, rows, _) in self.batch.texts() {
            for row in 0..rows {
                let y = &mut out[(start + row) * n..][..n];
                // Tokens before the text count as zeros: the filter begins with its later taps.
                for back in 0..taps.min(row + 1) {
                    let tap = &self.conv.host_taps[(taps - 1 - back) * n..][..n];
                    let input = &gated[(start + row - back) * n..][..n];
                    y.iter_mut().zip(tap).zip(input).for_each(|((y, w), x)| *y += w * x);
                }
                y.iter_mut().zip(&x.row(start + row)[n..2 * n]).for_each(|(y, c)| *y *= c);
            }
        }
        Ok((CpuStorage::F32(out), Shape::from((x.count, n))))
    }
}
