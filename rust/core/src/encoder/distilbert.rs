//! DistilBERT (Sanh et al., 2019), as transformers' `DistilBertModel` computes it: BERT without token types.

use candle_core::Tensor;

use super::bert::describe;
use super::post_norm::{Names, PostNormLayer, Sizes};
use super::{Architecture, Encoder, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{Embedding, LayerNorm, Numbering};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["distilbert"],
    prefix: "distilbert.",
    own_code: &[],
    load: |config, weights| Ok(Box::new(DistilBert::load(config, weights)?)),
};

const NAMES: Names = Names {
    qkv: &["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    output_norm: "output_layer_norm",
};

struct DistilBert {
    sizes: Sizes,
    vocabulary: usize,
    positions: usize,
    embedding: Embedding,
    norm: LayerNorm,
    layers: Vec<PostNormLayer>,
}

impl DistilBert {
    fn load(config: &JsonFile, weights: &Weights) -> Result<Self> {
        let (hidden, heads) = (parts::size(config, "dim")?, parts::size(config, "n_heads")?);
        let sizes = Sizes {
            hidden,
            heads,
            head_size: parts::head_size(config, "n_heads", heads, hidden)?,
            intermediate: parts::size(config, "hidden_dim")?,
            activation: parts::activation(config, "activation", None)?,
            layer_norm_eps: 1e-12,
        };
        let vocabulary = parts::size(config, "vocab_size")?;
        let positions = parts::size(config, "max_position_embeddings")?;
        let words = weights.get("embeddings.word_embeddings.weight", &[vocabulary, hidden])?;
        let places = weights.get("embeddings.position_embeddings.weight", &[positions, hidden])?;
        let count = parts::layers(config, "n_layers")?;
        let layer =
            |index| PostNormLayer::load(weights, &format!("transformer.layer.{index}"), &NAMES, &sizes);
        Ok(Self {
            embedding: Embedding::new(words)?.with_positions(&places, None, Numbering::FromZero)?,
            norm: parts::layer_norm(weights, "embeddings.LayerNorm", hidden, true, sizes.layer_norm_eps)?,
            layers: parts::each_layer(weights, count, layer)?,
            sizes,
            vocabulary,
            positions,
        })
    }
}

impl Encoder for DistilBert {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let hidden = self.norm.forward(&self.embedding.forward(batch)?)?;
        self.layers.iter().try_fold(hidden, |hidden, layer| layer.forward(&hidden, None, batch))
    }

    fn hidden_size(&self) -> usize {
        self.sizes.hidden
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn describe(&self) -> String {
        describe("distilbert", self.layers.len(), &self.sizes)
    }
}
