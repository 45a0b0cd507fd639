//! The layer that BERT, RoBERTa and their kin share: attention and feed-forward, each followed by its norm.

use candle_core::Tensor;

use super::parts;
use crate::batch::Batch;
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::ops::{Activation, Heads, LayerNorm, Linear, Mask, Rope, attention};

/// What the tensors of a layer are called, after the layer's own name.
pub(super) struct Names {
    /// Query, key and value: three tensors, or one that holds them in this order.
    pub(super) qkv: &'static [&'static str],
    pub(super) attention_output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) intermediate: &'static str,
    pub(super) output: &'static str,
    pub(super) output_norm: &'static str,
}

/// The names of `BertModel`, which RoBERTa took over.
pub(super) const BERT_NAMES: Names = Names {
    qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

/// The sizes that all layers of a model share.
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) head_size: usize,
    pub(super) intermediate: usize,
    pub(super) activation: Activation,
    pub(super) layer_norm_eps: f64,
}

pub(super) struct PostNormLayer {
    qkv: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    pub(super) output_norm: LayerNorm,
    heads: Heads,
}

impl PostNormLayer {
    /// Loads the layer called `name`.
    pub(super) fn load(weights: &Weights, name: &str, names: &Names, sizes: &Sizes) -> Result<Self> {
        let Sizes { hidden, intermediate: inner, activation, .. } = *sizes;
        let full = |part: &str| format!("{name}.{part}");
        let linear = |part, sizes, activation| parts::linear(weights, &full(part), sizes, true, activation);
        let norm = |part| parts::layer_norm(weights, &full(part), hidden, true, sizes.layer_norm_eps);
        let qkv: Vec<_> = names.qkv.iter().map(|part| (full(part), 3 * hidden / names.qkv.len())).collect();
        Ok(Self {
            qkv: parts::joined(weights, &qkv, hidden, true)?,
            attention_output: linear(names.attention_output, (hidden, hidden), Activation::Identity)?,
            attention_norm: norm(names.attention_norm)?,
            intermediate: linear(names.intermediate, (hidden, inner), activation)?,
            output: linear(names.output, (inner, hidden), Activation::Identity)?,
            output_norm: norm(names.output_norm)?,
            heads: Heads::equal(sizes.heads, sizes.head_size),
        })
    }

    /// `rope` turns queries and keys, where positions are not in the embedding.
    pub(super) fn forward(&self, hidden: &Tensor, rope: Option<&Rope>, batch: &Batch) -> Result<Tensor> {
        let size = hidden.dim(1)?;
        let qkv = self.qkv.forward(hidden)?;
        let turned = |x: Tensor| rope.map_or(Ok(x.clone()), |rope| rope.forward(&x, batch));
        let (query, key) = (turned(qkv.narrow(1, 0, size)?)?, turned(qkv.narrow(1, size, size)?)?);
        let value = qkv.narrow(1, 2 * size, size)?;
        let attended = attention(&query, &key, &value, self.heads, Mask::Bidirectional, batch)?;
        let attended = self.attention_output.forward_with_residual(&attended, hidden)?;
        let hidden = self.attention_norm.forward(&attended)?;
        let inner = self.intermediate.forward(&hidden)?;
        Ok(self.output_norm.forward(&self.output.forward_with_residual(&inner, &hidden)?)?)
    }
}
