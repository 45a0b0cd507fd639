//! Qwen3 seeing both ways (`bidirectional_pplx_qwen3`, of pplx-embed-v1-late), which on the hub is code of its own: stock
//! Qwen3 without the causal mask. Plain Qwen3 is causal, and another model.

use super::llama::{Config, Llama};
use super::{Architecture, parts};
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["bidirectional_pplx_qwen3"],
    prefix: "model.",
    own_code: &["PPLXQwen3Model"],
    load: |config, weights| Ok(Box::new(load(config, weights)?)),
};

fn load(file: &JsonFile, weights: &Weights) -> Result<Llama> {
    parts::refuse(file, "use_sliding_window", "false")?;
    for (key, wanted) in [("use_bidirectional_attention", true), ("is_causal", false)] {
        if let Some(got) = file.bool(key)?.filter(|got| *got != wanted) {
            return Err(file.error(key, format!("got {got}, wanted {wanted}")));
        }
    }
    if let Some(full) = parts::layer_kinds(file, "full_attention", "sliding_attention")?
        && full.contains(&false)
    {
        return Err(file.error("layer_types", "got \"sliding_attention\", wanted \"full_attention\" only"));
    }
    let heads = parts::size(file, "num_attention_heads")?;
    let key_value = file.size("num_key_value_heads")?.unwrap_or(32);
    // Unlike elsewhere, the size of a head does not follow from the others.
    let head_size = file.size("head_dim")?.unwrap_or(128);
    let eps = file.positive("rms_norm_eps")?.unwrap_or(1e-6);
    let config = Config::read(file, (heads, key_value, head_size), eps, true)?;
    Llama::load("qwen3-bidirectional", config, weights)
}
