//! EuroBERT (Boizard et al., 2025), as transformers' `EuroBertModel` computes it: Llama's layers, seeing both ways.

use super::llama::{Config, Llama};
use super::{Architecture, parts};
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["eurobert"],
    prefix: "model.",
    // The code that published models bring is the one that transformers took over.
    own_code: &["EuroBertModel"],
    load: |config, weights| Ok(Box::new(load(config, weights)?)),
};

fn load(file: &JsonFile, weights: &Weights) -> Result<Llama> {
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
    Llama::load("eurobert", config, weights)
}
