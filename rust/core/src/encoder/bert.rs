//! BERT (Devlin et al., 2018), as transformers' `BertModel` computes it without its pooler.

use candle_core::Tensor;

use super::post_norm::{BERT_NAMES, PostNormLayer, Sizes};
use super::{Architecture, Encoder, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{Embedding, LayerNorm, Numbering};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["bert"],
    prefix: "bert.",
    own_code: &[],
    load: |config, weights| Ok(Box::new(Bert::load(config, weights)?)),
};

struct Bert {
    sizes: Sizes,
    embeddings: Embeddings,
    layers: Vec<PostNormLayer>,
}

impl Bert {
    fn load(config: &JsonFile, weights: &Weights) -> Result<Self> {
        let sizes = sizes(config)?;
        let positions = parts::size(config, "max_position_embeddings")?;
        let embeddings = Embeddings::load(config, weights, &sizes, Numbering::FromZero, positions)?;
        let layer =
            |index| PostNormLayer::load(weights, &format!("encoder.layer.{index}"), &BERT_NAMES, &sizes);
        let layers = parts::each_layer(weights, parts::layers(config, "num_hidden_layers")?, layer)?;
        Ok(Self { sizes, embeddings, layers })
    }
}

impl Encoder for Bert {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let hidden = self.embeddings.forward(batch)?;
        self.layers.iter().try_fold(hidden, |hidden, layer| layer.forward(&hidden, None, batch))
    }

    fn hidden_size(&self) -> usize {
        self.sizes.hidden
    }

    fn positions(&self) -> usize {
        self.embeddings.positions
    }

    fn vocabulary(&self) -> usize {
        self.embeddings.vocabulary
    }

    fn describe(&self) -> String {
        describe("bert", self.layers.len(), &self.sizes)
    }
}

/// Words, positions, token types and their norm, under the names that BERT and RoBERTa share.
pub(super) struct Embeddings {
    table: Embedding,
    norm: LayerNorm,
    pub(super) vocabulary: usize,
    /// How many positions a text may have.
    pub(super) positions: usize,
}

impl Embeddings {
    /// Loads a table of `rows` positions.
    pub(super) fn load(
        config: &JsonFile,
        weights: &Weights,
        sizes: &Sizes,
        numbering: Numbering,
        rows: usize,
    ) -> Result<Self> {
        let (hidden, vocabulary) = (sizes.hidden, parts::size(config, "vocab_size")?);
        let types = parts::size(config, "type_vocab_size")?;
        let words = weights.get("embeddings.word_embeddings.weight", &[vocabulary, hidden])?;
        let places = weights.get("embeddings.position_embeddings.weight", &[rows, hidden])?;
        let types = weights.get("embeddings.token_type_embeddings.weight", &[types, hidden])?;
        let table = Embedding::new(words)?.with_positions(&places, Some(&types), numbering)?;
        let norm = parts::layer_norm(weights, "embeddings.LayerNorm", hidden, true, sizes.layer_norm_eps)?;
        Ok(Self { table, norm, vocabulary, positions: rows })
    }

    pub(super) fn forward(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.norm.forward(&self.table.forward(batch)?)?)
    }
}

/// The sizes in a configuration with BERT's keys.
pub(super) fn sizes(config: &JsonFile) -> Result<Sizes> {
    parts::positions_are(config, "absolute")?;
    for key in ["is_decoder", "add_cross_attention"] {
        parts::refuse(config, key, "an encoder")?;
    }
    plain_sizes(config)
}

/// The same, whatever the positions.
pub(super) fn plain_sizes(config: &JsonFile) -> Result<Sizes> {
    let hidden = parts::size(config, "hidden_size")?;
    let heads = parts::size(config, "num_attention_heads")?;
    Ok(Sizes {
        hidden,
        heads,
        head_size: parts::head_size(config, "num_attention_heads", heads, hidden)?,
        intermediate: parts::size(config, "intermediate_size")?,
        activation: parts::activation(config, "hidden_act", None)?,
        layer_norm_eps: config.positive("layer_norm_eps")?.unwrap_or(1e-12),
    })
}

pub(super) fn describe(name: &str, layers: usize, sizes: &Sizes) -> String {
    let Sizes { heads, layer_norm_eps, .. } = sizes;
    let activation = sizes.activation.name();
    format!("{name} layers={layers} heads={heads} activation={activation} layer_norm_eps={layer_norm_eps:e}")
}
