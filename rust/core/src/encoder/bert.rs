//! BERT (Devlin et al., 2018), as transformers' `BertModel` computes it without its pooler.

use candle_core::Tensor;

use super::Encoder;
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{Activation, Embedding, LayerNorm, Linear, attention};

/// What stands before the names when a model with a head was saved.
pub(super) const PREFIX: &str = "bert.";

pub(super) struct Bert {
    config: Config,
    embedding: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

struct Config {
    vocab_size: usize,
    hidden_size: usize,
    layers: usize,
    heads: usize,
    intermediate_size: usize,
    positions: usize,
    token_types: usize,
    activation: Activation,
    layer_norm_eps: f64,
}

struct Layer {
    qkv: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl Bert {
    pub(super) fn load(file: &JsonFile, weights: &Weights) -> Result<Self> {
        let config = Config::read(file)?;
        let hidden = config.hidden_size;
        let words = weights.get("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let positions = weights.get("embeddings.position_embeddings.weight", &[config.positions, hidden])?;
        let types = weights.get("embeddings.token_type_embeddings.weight", &[config.token_types, hidden])?;
        let norm = layer_norm(weights, "embeddings.LayerNorm", &config)?;
        let layers = (0..config.layers)
            .map(|index| Layer::load(weights, &format!("encoder.layer.{index}"), &config))
            .collect::<Result<_>>()?;
        Ok(Self { config, embedding: Embedding::new(words, &positions, &types)?, norm, layers })
    }
}

impl Encoder for Bert {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let mut hidden = self.norm.forward(&self.embedding.forward(batch)?)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, self.config.heads, batch)?;
        }
        Ok(hidden)
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn positions(&self) -> usize {
        self.config.positions
    }

    fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    fn describe(&self) -> String {
        let Config { layers, heads, layer_norm_eps, .. } = &self.config;
        let activation = self.config.activation.name();
        format!(
            "bert layers={layers} heads={heads} activation={activation} layer_norm_eps={layer_norm_eps:e}"
        )
    }
}

impl Layer {
    fn load(weights: &Weights, name: &str, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let tensors = |part: &str, inputs, outputs| -> Result<(Tensor, Tensor)> {
            let weight = weights.get(&format!("{name}.{part}.weight"), &[outputs, inputs])?;
            Ok((weight, weights.get(&format!("{name}.{part}.bias"), &[outputs])?))
        };
        let linear = |part: &str, inputs, outputs, activation| -> Result<Linear> {
            let (weight, bias) = tensors(part, inputs, outputs)?;
            Ok(Linear::new(&weight, Some(&bias), activation)?)
        };
        // One product instead of three: the columns are query, key and value.
        let (query, query_bias) = tensors("attention.self.query", hidden, hidden)?;
        let (key, key_bias) = tensors("attention.self.key", hidden, hidden)?;
        let (value, value_bias) = tensors("attention.self.value", hidden, hidden)?;
        let qkv = Tensor::cat(&[query, key, value], 0)?;
        let qkv_bias = Tensor::cat(&[query_bias, key_bias, value_bias], 0)?;
        Ok(Self {
            qkv: Linear::new(&qkv, Some(&qkv_bias), Activation::Identity)?,
            attention_output: linear("attention.output.dense", hidden, hidden, Activation::Identity)?,
            attention_norm: layer_norm(weights, &format!("{name}.attention.output.LayerNorm"), config)?,
            intermediate: linear("intermediate.dense", hidden, inner, config.activation)?,
            output: linear("output.dense", inner, hidden, Activation::Identity)?,
            output_norm: layer_norm(weights, &format!("{name}.output.LayerNorm"), config)?,
        })
    }

    fn forward(&self, hidden: &Tensor, heads: usize, batch: &Batch) -> Result<Tensor> {
        let size = hidden.dim(1)?;
        let qkv = self.qkv.forward(hidden)?;
        let column = |index: usize| qkv.narrow(1, index * size, size);
        let attended = attention(&column(0)?, &column(1)?, &column(2)?, heads, batch)?;
        let hidden =
            self.attention_norm.forward(&self.attention_output.forward_with_residual(&attended, hidden)?)?;
        let inner = self.intermediate.forward(&hidden)?;
        Ok(self.output_norm.forward(&self.output.forward_with_residual(&inner, &hidden)?)?)
    }
}

impl Config {
    fn read(file: &JsonFile) -> Result<Self> {
        let size = |key| file.require(key, "a whole number of at least 1", JsonFile::size);
        let act = file.require("hidden_act", "an activation such as \"gelu\"", JsonFile::string)?;
        let activation = Activation::from_hidden_act(&act).ok_or_else(|| {
            file.error(
                "hidden_act",
                format!("got {act:?}, wanted one of gelu, gelu_new, gelu_pytorch_tanh, relu, silu, swish"),
            )
        })?;
        let kind = file.string("position_embedding_type")?.unwrap_or_else(|| "absolute".to_owned());
        if kind != "absolute" {
            return Err(file.error("position_embedding_type", format!("got {kind:?}, wanted \"absolute\"")));
        }
        for key in ["is_decoder", "add_cross_attention"] {
            if file.bool(key)? == Some(true) {
                return Err(file.error(key, "got true, wanted an encoder"));
            }
        }
        let config = Self {
            vocab_size: size("vocab_size")?,
            hidden_size: size("hidden_size")?,
            layers: size("num_hidden_layers")?,
            heads: size("num_attention_heads")?,
            intermediate_size: size("intermediate_size")?,
            positions: size("max_position_embeddings")?,
            token_types: size("type_vocab_size")?,
            activation,
            layer_norm_eps: file.positive("layer_norm_eps")?.unwrap_or(1e-12),
        };
        if !config.hidden_size.is_multiple_of(config.heads) {
            let problem =
                format!("got {}, wanted a divisor of hidden_size {}", config.heads, config.hidden_size);
            return Err(file.error("num_attention_heads", problem));
        }
        Ok(config)
    }
}

fn layer_norm(weights: &Weights, name: &str, config: &Config) -> Result<LayerNorm> {
    let part = |suffix| weights.get(&format!("{name}.{suffix}"), &[config.hidden_size]);
    Ok(LayerNorm::new(&part("weight")?, &part("bias")?, config.layer_norm_eps)?)
}
