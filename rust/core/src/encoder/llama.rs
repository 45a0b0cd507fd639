//! The body that EuroBERT and Qwen3 share: root mean square norms before the sublayers, rotary positions, grouped queries
//! and a gated feed-forward, seeing both ways.

use candle_core::Tensor;

use super::{Encoder, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{Activation, Embedding, Heads, Linear, Mask, RmsNorm, Rope, attention, gate};

pub(super) struct Config {
    vocabulary: usize,
    hidden: usize,
    positions: usize,
    intermediate: usize,
    layers: usize,
    heads: Heads,
    activation: Activation,
    eps: f64,
    theta: f64,
    attention_bias: bool,
    mlp_bias: bool,
    /// Whether every head of queries and keys has a norm of its own.
    head_norms: bool,
}

pub(super) struct Llama {
    name: &'static str,
    config: Config,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    rope: Rope,
}

struct Layer {
    attention_norm: RmsNorm,
    qkv: Linear,
    head_norms: Option<(RmsNorm, RmsNorm)>,
    attention_output: Linear,
    mlp_norm: RmsNorm,
    mlp_input: Linear,
    mlp_output: Linear,
}

impl Llama {
    /// Loads the architecture that goes by `name` in fingerprints.
    pub(super) fn load(name: &'static str, config: Config, weights: &Weights) -> Result<Self> {
        let words = weights.get("embed_tokens.weight", &[config.vocabulary, config.hidden])?;
        Ok(Self {
            embedding: Embedding::new(words)?,
            layers: parts::each_layer(weights, config.layers, |index| Layer::load(weights, index, &config))?,
            norm: parts::rms_norm(weights, "norm", config.hidden, config.eps)?,
            rope: Rope::new(config.heads.size, config.theta)?,
            config,
            name,
        })
    }
}

impl Encoder for Llama {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let mut hidden = self.embedding.forward(batch)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &self.config, &self.rope, batch)?;
        }
        Ok(self.norm.forward(&hidden)?)
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
        let name = self.name;
        let Config { layers, heads, activation, eps, theta, .. } = &self.config;
        let Heads { query, key_value, size } = heads;
        let activation = activation.name();
        format!(
            "{name} layers={layers} heads={query}/{key_value}x{size} activation={activation} rms_norm_eps={eps:e} \
             theta={theta}"
        )
    }
}

impl Layer {
    fn load(weights: &Weights, index: usize, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let (wide, narrow) = config.heads.widths();
        let name = |part: &str| format!("layers.{index}.{part}");
        let norm = |part, size| parts::rms_norm(weights, &name(part), size, config.eps);
        let linear =
            |part, sizes, bias| parts::linear(weights, &name(part), sizes, bias, Activation::Identity);
        let qkv = [("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow)];
        let qkv = qkv.map(|(part, outputs)| (name(&format!("self_attn.{part}")), outputs));
        let mlp_input = [(name("mlp.gate_proj"), inner), (name("mlp.up_proj"), inner)];
        let size = config.heads.size;
        let head_norms =
            || -> Result<_> { Ok((norm("self_attn.q_norm", size)?, norm("self_attn.k_norm", size)?)) };
        Ok(Self {
            attention_norm: norm("input_layernorm", hidden)?,
            qkv: parts::joined(weights, &qkv, hidden, config.attention_bias)?,
            head_norms: config.head_norms.then(head_norms).transpose()?,
            attention_output: linear("self_attn.o_proj", (wide, hidden), config.attention_bias)?,
            mlp_norm: norm("post_attention_layernorm", hidden)?,
            mlp_input: parts::joined(weights, &mlp_input, hidden, config.mlp_bias)?,
            mlp_output: linear("mlp.down_proj", (inner, hidden), config.mlp_bias)?,
        })
    }

    fn forward(&self, hidden: &Tensor, config: &Config, rope: &Rope, batch: &Batch) -> Result<Tensor> {
        let (wide, narrow) = config.heads.widths();
        let qkv = self.qkv.forward(&self.attention_norm.forward(hidden)?)?;
        let (mut query, mut key) = (qkv.narrow(1, 0, wide)?, qkv.narrow(1, wide, narrow)?);
        if let Some((query_norm, key_norm)) = &self.head_norms {
            (query, key) = (query_norm.forward(&query)?, key_norm.forward(&key)?);
        }
        let (query, key) = (rope.forward(&query, batch)?, rope.forward(&key, batch)?);
        let value = qkv.narrow(1, wide + narrow, narrow)?;
        let attended = attention(&query, &key, &value, config.heads, Mask::Bidirectional, batch)?;
        let hidden = self.attention_output.forward_with_residual(&attended, hidden)?;
        let inner = gate(&self.mlp_input.forward(&self.mlp_norm.forward(&hidden)?)?, config.activation)?;
        Ok(self.mlp_output.forward_with_residual(&inner, &hidden)?)
    }
}

impl Config {
    /// Reads what both architectures call alike; heads of queries, those of keys and their size, the epsilon and whether
    /// heads have norms are the caller's.
    pub(super) fn read(
        file: &JsonFile,
        (heads, key_value, size): (usize, usize, usize),
        eps: f64,
        head_norms: bool,
    ) -> Result<Self> {
        parts::shared_heads(file, heads, key_value)?;
        parts::even(file, "head_dim", size)?;
        let theta = parts::theta(file)?
            .ok_or_else(|| file.error("rope_theta", "missing, wanted a number above 0"))?;
        Ok(Self {
            vocabulary: parts::size(file, "vocab_size")?,
            hidden: parts::size(file, "hidden_size")?,
            positions: parts::size(file, "max_position_embeddings")?,
            intermediate: parts::size(file, "intermediate_size")?,
            layers: parts::layers(file, "num_hidden_layers")?,
            heads: Heads { query: heads, key_value, size },
            activation: parts::activation(file, "hidden_act", Some("silu"))?,
            eps,
            theta,
            attention_bias: file.bool("attention_bias")?.unwrap_or(false),
            mlp_bias: file.bool("mlp_bias")?.unwrap_or(false),
            head_norms,
        })
    }
}
