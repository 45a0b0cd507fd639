//! XLM-RoBERTa (Conneau et al., 2019) and its kin, which transformers compute alike: BERT's layers over positions that
//! are counted from the token ids.

use candle_core::Tensor;

use super::bert::{Embeddings, describe, sizes};
use super::post_norm::{BERT_NAMES, PostNormLayer, Sizes};
use super::{Architecture, Encoder, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::Numbering;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["xlm-roberta", "roberta", "camembert"],
    prefix: "roberta.",
    own_code: &[],
    load: |config, weights| Ok(Box::new(XlmRoberta::load(config, weights)?)),
};

struct XlmRoberta {
    sizes: Sizes,
    embeddings: Embeddings,
    padding: u32,
    layers: Vec<PostNormLayer>,
}

impl XlmRoberta {
    fn load(config: &JsonFile, weights: &Weights) -> Result<Self> {
        let sizes = sizes(config)?;
        let (embeddings, padding) = embeddings(config, weights, &sizes)?;
        let layer =
            |index| PostNormLayer::load(weights, &format!("encoder.layer.{index}"), &BERT_NAMES, &sizes);
        let layers = parts::each_layer(weights, parts::layers(config, "num_hidden_layers")?, layer)?;
        Ok(Self { sizes, embeddings, padding, layers })
    }
}

impl Encoder for XlmRoberta {
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
        format!("{} pad_token_id={}", describe("xlm-roberta", self.layers.len(), &self.sizes), self.padding)
    }
}

/// The embeddings, whose positions begin behind the id of the padding token, and that id.
pub(super) fn embeddings(config: &JsonFile, weights: &Weights, sizes: &Sizes) -> Result<(Embeddings, u32)> {
    let rows = parts::size(config, "max_position_embeddings")?;
    let padding = config.index("pad_token_id")?.unwrap_or(1);
    let unused = padding as usize + 1;
    if rows <= unused {
        let problem = format!("got {rows}, wanted more than pad_token_id + 1, which is {unused}");
        return Err(config.error("max_position_embeddings", problem));
    }
    let mut embeddings = Embeddings::load(config, weights, sizes, Numbering::PastPadding(padding), rows)?;
    embeddings.positions = rows - unused;
    Ok((embeddings, padding))
}
