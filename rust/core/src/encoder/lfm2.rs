//! LFM2 (Liquid AI, 2025), as transformers' `Lfm2Model` computes it: causal, short convolutions between attention layers
//! with grouped queries.
//!
//! The reference zeroes the rows that are not attended to (the fill of an expanded query) before every convolution, but
//! only in a batch of two or more texts: alone, the same query gives other rows there. We compute the masked form in
//! any company, so that a text has one result.

use candle_core::Tensor;

use super::{Architecture, Encoder, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{
    Activation, Embedding, Heads, Linear, Mask, RmsNorm, Rope, ShortConv, attention, blank_unattended, gate,
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["lfm2"],
    prefix: "model.",
    own_code: &[],
    load: |config, weights| Ok(Box::new(Lfm2::load(config, weights)?)),
};

struct Lfm2 {
    config: Config,
    embedding: Embedding,
    layers: Vec<Layer>,
    final_norm: RmsNorm,
    rope: Rope,
}

struct Config {
    vocabulary: usize,
    hidden: usize,
    intermediate: usize,
    heads: Heads,
    positions: usize,
    norm_eps: f64,
    theta: f64,
    conv_taps: usize,
    conv_bias: bool,
    /// For every layer whether it attends; the others convolve.
    attends: Vec<bool>,
}

struct Layer {
    operator_norm: RmsNorm,
    operator: Operator,
    mlp_norm: RmsNorm,
    mlp_input: Linear,
    mlp_output: Linear,
}

enum Operator {
    Attention { qkv: Linear, query_norm: RmsNorm, key_norm: RmsNorm, output: Linear },
    Convolution { input: Linear, convolution: ShortConv, output: Linear },
}

impl Lfm2 {
    fn load(file: &JsonFile, weights: &Weights) -> Result<Self> {
        let config = Config::read(file)?;
        let words = weights.get("embed_tokens.weight", &[config.vocabulary, config.hidden])?;
        let layer = |index| Layer::load(weights, index, config.attends[index], &config);
        // Without a layer that attends, no weight vouches for the size of a head.
        let head_size = if config.attends.contains(&true) { config.heads.size } else { 2 };
        let rope = Rope::new(head_size, config.theta)?;
        Ok(Self {
            embedding: Embedding::new(words)?,
            layers: parts::each_layer(weights, config.attends.len(), layer)?,
            final_norm: parts::rms_norm(weights, "embedding_norm", config.hidden, config.norm_eps)?,
            rope,
            config,
        })
    }
}

impl Encoder for Lfm2 {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let mut hidden = self.embedding.forward(batch)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, self.config.heads, &self.rope, batch)?;
        }
        Ok(self.final_norm.forward(&hidden)?)
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden
    }

    fn positions(&self) -> usize {
        self.config.positions
    }

    fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    fn describe(&self) -> String {
        let Config { heads, norm_eps, theta, conv_taps, attends, .. } = &self.config;
        let layers: String = attends.iter().map(|attends| if *attends { 'a' } else { 'c' }).collect();
        format!(
            "lfm2 layers={layers} heads={}/{} norm_eps={norm_eps:e} theta={theta} conv_taps={conv_taps} masked=true",
            heads.query, heads.key_value
        )
    }
}

impl Layer {
    fn load(weights: &Weights, index: usize, attends: bool, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("layers.{index}.{part}");
        let norm = |part, size| parts::rms_norm(weights, &name(part), size, config.norm_eps);
        let linear =
            |part, sizes, bias| parts::linear(weights, &name(part), sizes, bias, Activation::Identity);
        let operator = if attends {
            let (wide, narrow) = config.heads.widths();
            let qkv = [("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow)];
            let qkv = qkv.map(|(part, outputs)| (name(&format!("self_attn.{part}")), outputs));
            Operator::Attention {
                qkv: parts::joined(weights, &qkv, hidden, false)?,
                query_norm: norm("self_attn.q_layernorm", config.heads.size)?,
                key_norm: norm("self_attn.k_layernorm", config.heads.size)?,
                output: linear("self_attn.out_proj", (wide, hidden), false)?,
            }
        } else {
            let filter = weights.get(&name("conv.conv.weight"), &[hidden, 1, config.conv_taps])?;
            let bias =
                config.conv_bias.then(|| weights.get(&name("conv.conv.bias"), &[hidden])).transpose()?;
            Operator::Convolution {
                input: linear("conv.in_proj", (hidden, 3 * hidden), config.conv_bias)?,
                convolution: ShortConv::new(&filter, bias.as_ref())?,
                output: linear("conv.out_proj", (hidden, hidden), config.conv_bias)?,
            }
        };
        let mlp_input = [(name("feed_forward.w1"), inner), (name("feed_forward.w3"), inner)];
        Ok(Self {
            operator_norm: norm("operator_norm", hidden)?,
            operator,
            mlp_norm: norm("ffn_norm", hidden)?,
            mlp_input: parts::joined(weights, &mlp_input, hidden, false)?,
            mlp_output: linear("feed_forward.w2", (inner, hidden), false)?,
        })
    }

    fn forward(&self, hidden: &Tensor, heads: Heads, rope: &Rope, batch: &Batch) -> Result<Tensor> {
        let normed = self.operator_norm.forward(hidden)?;
        let hidden = match &self.operator {
            Operator::Attention { qkv, query_norm, key_norm, output } => {
                let (wide, narrow) = heads.widths();
                let qkv = qkv.forward(&normed)?;
                let query = rope.forward(&query_norm.forward(&qkv.narrow(1, 0, wide)?)?, batch)?;
                let key = rope.forward(&key_norm.forward(&qkv.narrow(1, wide, narrow)?)?, batch)?;
                let value = qkv.narrow(1, wide + narrow, narrow)?;
                let attended = attention(&query, &key, &value, heads, Mask::Causal, batch)?;
                output.forward_with_residual(&attended, hidden)?
            }
            Operator::Convolution { input, convolution, output } => {
                let gates = input.forward(&blank_unattended(&normed, batch)?)?;
                output.forward_with_residual(&convolution.forward(&gates, batch)?, hidden)?
            }
        };
        let inner = gate(&self.mlp_input.forward(&self.mlp_norm.forward(&hidden)?)?, Activation::Silu)?;
        Ok(self.mlp_output.forward_with_residual(&inner, &hidden)?)
    }
}

impl Config {
    fn read(file: &JsonFile) -> Result<Self> {
        let (hidden, heads) = (parts::size(file, "hidden_size")?, parts::size(file, "num_attention_heads")?);
        let key_value = file.size("num_key_value_heads")?.unwrap_or(8);
        parts::shared_heads(file, heads, key_value)?;
        let size = match file.size("head_dim")? {
            Some(size) => size,
            None => parts::head_size(file, "num_attention_heads", heads, hidden)?,
        };
        parts::even(file, "num_attention_heads", size)?;
        refuse_bidirectional(file)?;
        Ok(Self {
            vocabulary: parts::size(file, "vocab_size")?,
            hidden,
            intermediate: intermediate(file)?,
            heads: Heads { query: heads, key_value, size },
            positions: file.size("max_position_embeddings")?.unwrap_or(128_000),
            norm_eps: file.positive("norm_eps")?.unwrap_or(1e-5),
            theta: parts::theta(file)?.unwrap_or(1_000_000.0),
            conv_taps: file.size("conv_L_cache")?.unwrap_or(3),
            conv_bias: file.bool("conv_bias")?.unwrap_or(false),
            attends: attention_layers(file)?,
        })
    }
}

/// LFM2.5's encoders see both ways under the same `model_type`: another model, whose code was not to be had.
fn refuse_bidirectional(file: &JsonFile) -> Result<()> {
    if file.bool("is_causal")? == Some(false) {
        return Err(file.error("is_causal", "got false, wanted the causal model"));
    }
    match file.strings("architectures")?.unwrap_or_default().first() {
        Some(class) if class.contains("Bidirectional") => {
            Err(file.error("architectures", format!("got {class:?}, wanted the causal \"Lfm2Model\"")))
        }
        _ => Ok(()),
    }
}

/// Which layers attend: as `layer_types` lists them, else by their numbers, else all.
fn attention_layers(file: &JsonFile) -> Result<Vec<bool>> {
    if let Some(attends) = parts::layer_kinds(file, "full_attention", "conv")? {
        return Ok(attends);
    }
    let numbers = file.indices("full_attn_idxs")?;
    let attends = |index| numbers.as_ref().is_none_or(|all| all.contains(&index));
    Ok((0..parts::layers(file, "num_hidden_layers")? as u32).map(attends).collect())
}

/// The inner size of the feed-forward, which configurations give before it is scaled and rounded up.
fn intermediate(file: &JsonFile) -> Result<usize> {
    let given = match file.size("block_ff_dim")? {
        Some(size) => size,
        None => parts::size(file, "intermediate_size")?,
    };
    if !file.bool("block_auto_adjust_ff_dim")?.unwrap_or(true) {
        return Ok(given);
    }
    let scaled = 2 * given / 3;
    // An explicit null turns the rest off.
    if file.is_null("block_ffn_dim_multiplier") {
        return Ok(scaled);
    }
    let factor = file.positive("block_ffn_dim_multiplier")?.unwrap_or(1.0);
    let multiple = file.size("block_multiple_of")?.unwrap_or(256);
    let scaled = (factor * scaled as f64) as u64;
    match u32::try_from(scaled).map(|scaled| (scaled as usize).next_multiple_of(multiple)) {
        Ok(size) if size > 0 => Ok(size),
        _ => Err(file.error("intermediate_size", format!("becomes {scaled}, wanted at least 1"))),
    }
}
