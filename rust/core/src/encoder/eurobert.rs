//! EuroBERT (Boizard et al., 2025), as transformers' `EuroBertModel` computes it: Llama's layers, seeing both ways.

use candle_core::Tensor;

use super::llama::{Config, Llama};
use super::{Architecture, Encoder, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["eurobert"],
    prefix: "model.",
    // The code that published models bring is the one that transformers took over.
    own_code: &["EuroBertModel"],
    load: |config, weights| Ok(Box::new(EuroBert::load(config, weights)?)),
};

struct EuroBert(Llama);

impl EuroBert {
    fn load(file: &JsonFile, weights: &Weights) -> Result<Self> {
        parts::refuse(file, "is_decoder", "false")?;
        let hidden = parts::size(file, "hidden_size")?;
        let heads = parts::size(file, "num_attention_heads")?;
        let key_value = file.size("num_key_value_heads")?.unwrap_or(heads);
        let head_size = match file.size("head_dim")? {
            Some(size) => size,
            None => parts::head_size(file, "num_attention_heads", heads, hidden)?,
        };
        let eps = file.positive("rms_norm_eps")?.unwrap_or(1e-5);
        let config = Config::read(file, (heads, key_value, head_size), eps, false)?;
        Ok(Self(Llama::load(config, weights)?))
    }
}

impl Encoder for EuroBert {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        self.0.forward(batch)
    }

    fn hidden_size(&self) -> usize {
        self.0.config.hidden
    }

    fn positions(&self) -> usize {
        self.0.config.positions
    }

    fn vocabulary(&self) -> usize {
        self.0.config.vocabulary
    }

    fn describe(&self) -> String {
        self.0.describe("eurobert")
    }
}
