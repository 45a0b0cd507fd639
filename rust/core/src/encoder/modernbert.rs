//! ModernBERT (Warner et al., 2024), as transformers' `ModernBertModel` computes it: norms before the sublayers, rotary
//! positions, GeGLU, and layers that see a window only between those that see everything.

use candle_core::Tensor;

use super::{Architecture, Encoder, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{Activation, Embedding, Heads, LayerNorm, Linear, Mask, Rope, attention, gate};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["modernbert"],
    prefix: "model.",
    own_code: &[],
    load: |config, weights| Ok(Box::new(ModernBert::load(config, weights)?)),
};

struct ModernBert {
    config: Config,
    embedding: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    global_rope: Rope,
    local_rope: Rope,
}

struct Config {
    vocabulary: usize,
    hidden: usize,
    intermediate: usize,
    heads: Heads,
    positions: usize,
    activation: Activation,
    norm_eps: f64,
    norm_bias: bool,
    attention_bias: bool,
    mlp_bias: bool,
    /// How far a token of a local layer sees, on both sides.
    window: usize,
    /// For every layer whether it is local.
    local: Vec<bool>,
    global_theta: f64,
    local_theta: f64,
}

struct Layer {
    /// The first layer has none: its input was just normalised.
    attention_norm: Option<LayerNorm>,
    qkv: Linear,
    attention_output: Linear,
    mlp_norm: LayerNorm,
    mlp_input: Linear,
    mlp_output: Linear,
    local: bool,
}

impl ModernBert {
    fn load(file: &JsonFile, weights: &Weights) -> Result<Self> {
        let config = Config::read(file)?;
        let words = weights.get("embeddings.tok_embeddings.weight", &[config.vocabulary, config.hidden])?;
        let layer = |index| Layer::load(weights, index, config.local[index], &config);
        Ok(Self {
            embedding: Embedding::new(words)?,
            norm: config.norm(weights, "embeddings.norm")?,
            layers: parts::each_layer(weights, config.local.len(), layer)?,
            final_norm: config.norm(weights, "final_norm")?,
            global_rope: Rope::new(config.heads.size, config.global_theta)?,
            local_rope: Rope::new(config.heads.size, config.local_theta)?,
            config,
        })
    }
}

impl Encoder for ModernBert {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let mut hidden = self.norm.forward(&self.embedding.forward(batch)?)?;
        for layer in &self.layers {
            let (rope, mask) = if layer.local {
                (&self.local_rope, Mask::Window(self.config.window))
            } else {
                (&self.global_rope, Mask::Bidirectional)
            };
            hidden = layer.forward(&hidden, &self.config, rope, mask, batch)?;
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
        let Config { heads, activation, norm_eps, window, global_theta, local_theta, local, .. } =
            &self.config;
        let layers: String = local.iter().map(|local| if *local { 'l' } else { 'g' }).collect();
        format!(
            "modernbert layers={layers} heads={} activation={} norm_eps={norm_eps:e} window={window} \
             global_theta={global_theta} local_theta={local_theta}",
            heads.query,
            activation.name()
        )
    }
}

impl Layer {
    fn load(weights: &Weights, index: usize, local: bool, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("layers.{index}.{part}");
        let linear =
            |part, sizes, bias| parts::linear(weights, &name(part), sizes, bias, Activation::Identity);
        let attention_norm = (index > 0).then(|| config.norm(weights, &name("attn_norm"))).transpose()?;
        Ok(Self {
            attention_norm,
            qkv: linear("attn.Wqkv", (hidden, 3 * hidden), config.attention_bias)?,
            attention_output: linear("attn.Wo", (hidden, hidden), config.attention_bias)?,
            mlp_norm: config.norm(weights, &name("mlp_norm"))?,
            mlp_input: linear("mlp.Wi", (hidden, 2 * inner), config.mlp_bias)?,
            mlp_output: linear("mlp.Wo", (inner, hidden), config.mlp_bias)?,
            local,
        })
    }

    fn forward(
        &self,
        hidden: &Tensor,
        config: &Config,
        rope: &Rope,
        mask: Mask,
        batch: &Batch,
    ) -> Result<Tensor> {
        let size = config.hidden;
        let normed = self.attention_norm.as_ref().map_or(Ok(hidden.clone()), |norm| norm.forward(hidden))?;
        let qkv = self.qkv.forward(&normed)?;
        let query = rope.forward(&qkv.narrow(1, 0, size)?, batch)?;
        let key = rope.forward(&qkv.narrow(1, size, size)?, batch)?;
        let attended = attention(&query, &key, &qkv.narrow(1, 2 * size, size)?, config.heads, mask, batch)?;
        let hidden = self.attention_output.forward_with_residual(&attended, hidden)?;
        let inner = gate(&self.mlp_input.forward(&self.mlp_norm.forward(&hidden)?)?, config.activation)?;
        Ok(self.mlp_output.forward_with_residual(&inner, &hidden)?)
    }
}

impl Config {
    fn read(file: &JsonFile) -> Result<Self> {
        let flag = |key| file.bool(key).map(|value| value.unwrap_or(false));
        let (hidden, heads) = (parts::size(file, "hidden_size")?, parts::size(file, "num_attention_heads")?);
        let head_size = parts::head_size(file, "num_attention_heads", heads, hidden)?;
        parts::even(file, "num_attention_heads", head_size)?;
        // Old files carry layer_norm_eps as well, which transformers never reads.
        let norm_eps = file.positive("norm_eps")?;
        if let Some(other) = file.positive("layer_norm_eps")?.filter(|eps| norm_eps.is_none() && *eps != 1e-5)
        {
            return Err(file
                .error("layer_norm_eps", format!("got {other} without a norm_eps, wanted it by that name")));
        }
        let (global_theta, local_theta) = thetas(file)?;
        Ok(Self {
            vocabulary: parts::size(file, "vocab_size")?,
            hidden,
            intermediate: parts::size(file, "intermediate_size")?,
            heads: Heads::equal(heads, head_size),
            positions: file.size("max_position_embeddings")?.unwrap_or(8192),
            activation: parts::activation(file, "hidden_activation", Some("gelu"))?,
            norm_eps: norm_eps.unwrap_or(1e-5),
            norm_bias: flag("norm_bias")?,
            attention_bias: flag("attention_bias")?,
            mlp_bias: flag("mlp_bias")?,
            // The newer name for half of it counts where both are there.
            window: match file.size("sliding_window")? {
                Some(half) => half,
                None => file.size("local_attention")?.unwrap_or(128) / 2,
            },
            local: local_layers(file)?,
            global_theta,
            local_theta,
        })
    }

    fn norm(&self, weights: &Weights, name: &str) -> Result<LayerNorm> {
        parts::layer_norm(weights, name, self.hidden, self.norm_bias, self.norm_eps)
    }
}

/// Which layers are local: as `layer_types` lists them (transformers 5), else all but every n-th. A new file may carry a
/// stale `global_attn_every_n_layers` beside the list.
fn local_layers(file: &JsonFile) -> Result<Vec<bool>> {
    if let Some(local) = parts::layer_kinds(file, "sliding_attention", "full_attention")? {
        return Ok(local);
    }
    let every = file.size("global_attn_every_n_layers")?.unwrap_or(3);
    Ok((0..parts::layers(file, "num_hidden_layers")?).map(|index| index % every != 0).collect())
}

/// The rotary bases of global and local layers: under `rope_parameters` (transformers 5), else by their old names.
fn thetas(file: &JsonFile) -> Result<(f64, f64)> {
    parts::refuse(file, "rope_scaling", "none")?;
    let new = file.object("rope_parameters")?;
    let kinds = ["full_attention", "sliding_attention"];
    if let Some(other) = new.iter().flat_map(JsonFile::keys).find(|key| !kinds.contains(key)) {
        return Err(file.error("rope_parameters", format!("got {other:?} in it, wanted {kinds:?} only")));
    }
    let theta = |kind: &str, old: &str, default: f64| -> Result<f64> {
        let rope = new.as_ref().map(|rope| rope.object(kind)).transpose()?.flatten();
        let found = rope.as_ref().map(parts::rope_theta).transpose()?.flatten();
        Ok(found.or(file.positive(old)?).unwrap_or(default))
    };
    Ok((
        theta("full_attention", "global_rope_theta", 160_000.0)?,
        theta("sliding_attention", "local_rope_theta", 10_000.0)?,
    ))
}
