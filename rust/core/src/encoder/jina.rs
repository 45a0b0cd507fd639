//! Jina's XLM-RoBERTa with rotary positions (jina-colbert-v2), which on the hub is code of its own
//! (`xlm-roberta-flash-implementation`). Here it is computed as transformers' `JinaEmbeddingsV3Model` does without its
//! task adapters.

use candle_core::Tensor;

use super::post_norm::{Names, PostNormLayer, Sizes};
use super::{Architecture, Encoder, bert, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{Embedding, LayerNorm, Rope};

/// Its configuration has no `model_type`, or XLM-RoBERTa's: rotary positions tell it.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &[MODEL_TYPE],
    prefix: "roberta.",
    own_code: &["XLMRobertaModel"],
    load: |config, weights| Ok(Box::new(Jina::load(config, weights)?)),
};

pub(super) const MODEL_TYPE: &str = "xlm-roberta (rotary)";

const NAMES: Names = Names {
    qkv: &["mixer.Wqkv"],
    attention_output: "mixer.out_proj",
    attention_norm: "norm1",
    intermediate: "mlp.fc1",
    output: "mlp.fc2",
    output_norm: "norm2",
};

struct Jina {
    sizes: Sizes,
    vocabulary: usize,
    positions: usize,
    theta: f64,
    embedding: Embedding,
    norm: LayerNorm,
    layers: Vec<PostNormLayer>,
    rope: Rope,
}

impl Jina {
    fn load(config: &JsonFile, weights: &Weights) -> Result<Self> {
        parts::positions_are(config, "rotary")?;
        for key in ["lora_adaptations", "load_trained_adapters", "matryoshka_dimensions", "is_decoder"] {
            parts::refuse(config, key, "none")?;
        }
        let sizes = Sizes {
            layer_norm_eps: config.positive("layer_norm_eps")?.unwrap_or(1e-5),
            ..bert::plain_sizes(config)?
        };
        parts::even(config, "num_attention_heads", sizes.head_size)?;
        let (hidden, vocabulary) = (sizes.hidden, parts::size(config, "vocab_size")?);
        let types = config.size("type_vocab_size")?.unwrap_or(1);
        let words = weights.get("embeddings.word_embeddings.weight", &[vocabulary, hidden])?;
        let types = weights.get("embeddings.token_type_embeddings.weight", &[types, hidden])?;
        let layer = |index| PostNormLayer::load(weights, &format!("encoder.layers.{index}"), &NAMES, &sizes);
        let layers = parts::each_layer(weights, parts::layers(config, "num_hidden_layers")?, layer)?;
        let theta = config.positive("rotary_emb_base")?.unwrap_or(10_000.0);
        Ok(Self {
            vocabulary,
            positions: parts::size(config, "max_position_embeddings")?,
            theta,
            embedding: Embedding::new(words)?.with_type(&types)?,
            norm: parts::layer_norm(weights, "emb_ln", hidden, true, sizes.layer_norm_eps)?,
            layers,
            rope: Rope::new(sizes.head_size, theta)?,
            sizes,
        })
    }
}

impl Encoder for Jina {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let hidden = self.norm.forward(&self.embedding.forward(batch)?)?;
        self.layers.iter().try_fold(hidden, |hidden, layer| layer.forward(&hidden, Some(&self.rope), batch))
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
        format!(
            "{} theta={}",
            bert::describe("xlm-roberta-rotary", self.layers.len(), &self.sizes),
            self.theta
        )
    }
}
