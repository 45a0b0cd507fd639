//! Configuration keys and tensors -> operations: what every architecture reads in the same way.

use candle_core::Tensor;

use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{Activation, LayerNorm, Linear, RmsNorm};
use crate::queue::{self, GoOn};

/// A size that the configuration must give.
pub(super) fn size(config: &JsonFile, key: &str) -> Result<usize> {
    config.require(key, "a whole number of at least 1", JsonFile::size)
}

/// The number of layers; the limit keeps a damaged file from asking for the whole memory.
pub(super) fn layers(config: &JsonFile, key: &str) -> Result<usize> {
    let count = size(config, key)?;
    if count <= 1000 {
        Ok(count)
    } else {
        Err(config.error(key, format!("got {count}, wanted at most 1000")))
    }
}

/// For every layer whether `layer_types` says `yes` of it and not `no`; nothing if there is no such list.
pub(super) fn layer_kinds(config: &JsonFile, yes: &str, no: &str) -> Result<Option<Vec<bool>>> {
    let (key, count) = ("layer_types", layers(config, "num_hidden_layers")?);
    let Some(kinds) = config.strings(key)? else { return Ok(None) };
    if kinds.len() != count {
        let problem = format!("got {} of them, wanted {count} (num_hidden_layers)", kinds.len());
        return Err(config.error(key, problem));
    }
    if let Some(other) = kinds.iter().find(|kind| *kind != yes && *kind != no) {
        return Err(config.error(key, format!("got {other:?}, wanted {yes:?} or {no:?}")));
    }
    Ok(Some(kinds.iter().map(|kind| kind == yes).collect()))
}

/// An activation by the name that transformers gives it.
pub(super) fn activation(config: &JsonFile, key: &str, default: Option<&str>) -> Result<Activation> {
    let name = match (config.string(key)?, default) {
        (Some(name), _) => name,
        (None, Some(default)) => default.to_owned(),
        (None, None) => config.require(key, "an activation such as \"gelu\"", JsonFile::string)?,
    };
    Activation::from_hidden_act(&name).ok_or_else(|| {
        let wanted = "gelu, gelu_new, gelu_pytorch_tanh, relu, silu, swish";
        config.error(key, format!("got {name:?}, wanted one of {wanted}"))
    })
}

/// The size of a head, where `count` (read from `key`) of them share `width` columns.
pub(super) fn head_size(config: &JsonFile, key: &str, count: usize, width: usize) -> Result<usize> {
    if width.is_multiple_of(count) {
        return Ok(width / count);
    }
    Err(config.error(key, format!("got {count}, wanted a divisor of hidden_size {width}")))
}

/// Refuses heads that cannot be turned: `key` gave them their size.
pub(super) fn even(config: &JsonFile, key: &str, size: usize) -> Result<()> {
    if size.is_multiple_of(2) {
        return Ok(());
    }
    Err(config.error(key, format!("gives heads of {size}, wanted an even size")))
}

/// Refuses grouped queries that do not divide.
pub(super) fn shared_heads(config: &JsonFile, heads: usize, key_value: usize) -> Result<()> {
    if heads.is_multiple_of(key_value) {
        return Ok(());
    }
    let problem = format!("got {key_value}, wanted a divisor of num_attention_heads {heads}");
    Err(config.error("num_key_value_heads", problem))
}

/// Refuses other position embeddings: the same `model_type` may stand over any of them.
pub(super) fn positions_are(config: &JsonFile, wanted: &str) -> Result<()> {
    let key = "position_embedding_type";
    let kind = config.string(key)?.unwrap_or_else(|| "absolute".to_owned());
    if kind == wanted { Ok(()) } else { Err(config.error(key, format!("got {kind:?}, wanted {wanted:?}"))) }
}

/// Refuses a key that changes the arithmetic in a way that is not computed here.
pub(super) fn refuse(config: &JsonFile, key: &str, wanted: &str) -> Result<()> {
    match config.get(key) {
        Some(value) if value.as_bool() != Some(false) => {
            Err(config.error(key, format!("got {value}, wanted {wanted}")))
        }
        _ => Ok(()),
    }
}

/// The base of the rotary embedding: under `rope_parameters` (transformers 5), else by its old name.
pub(super) fn theta(config: &JsonFile) -> Result<Option<f64>> {
    refuse(config, "rope_scaling", "none")?;
    whole_heads(config)?;
    let found = config.object("rope_parameters")?.as_ref().map(rope_theta).transpose()?.flatten();
    Ok(found.or(config.positive("rope_theta")?))
}

/// Refuses to turn a part of every head only.
fn whole_heads(config: &JsonFile) -> Result<()> {
    match config.positive("partial_rotary_factor")? {
        Some(factor) if factor != 1.0 => {
            Err(config.error("partial_rotary_factor", format!("got {factor}, wanted 1")))
        }
        _ => Ok(()),
    }
}

/// The base of the rotary embedding in `rope_parameters`, where it must be the plain one.
pub(super) fn rope_theta(rope: &JsonFile) -> Result<Option<f64>> {
    whole_heads(rope)?;
    for key in ["rope_type", "type"] {
        if let Some(kind) = rope.string(key)?.filter(|kind| kind != "default") {
            return Err(rope.error(key, format!("got {kind:?}, wanted \"default\"")));
        }
    }
    rope.positive("rope_theta")
}

/// What `load` makes of every layer, by all threads: packing the weights is most of the time that opening a model takes.
pub(super) fn each_layer<T: Send>(
    weights: &Weights,
    count: usize,
    load: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut layers: Vec<Option<Result<T>>> = (0..count).map(|_| None).collect();
    let jobs = layers.iter_mut().enumerate().collect();
    let worker = || {
        |(index, place): (usize, &mut Option<Result<T>>), _: GoOn| {
            *place = Some(load(index));
            Ok(1)
        }
    };
    queue::run(jobs, weights.threads(), worker, &mut |_| Ok(()))?;
    // The first layer's error, whichever thread came to one first.
    layers.into_iter().flatten().collect()
}

/// A linear layer `name`: `name.weight [outputs, inputs]`, and `name.bias` if there is to be one.
pub(super) fn linear(
    weights: &Weights,
    name: &str,
    (inputs, outputs): (usize, usize),
    bias: bool,
    activation: Activation,
) -> Result<Linear> {
    load_linear(weights, &[(name.to_owned(), outputs)], inputs, bias, activation)
}

/// Several layers over the same input as one product, whose columns are theirs in turn: each by its name and outputs.
pub(super) fn joined(
    weights: &Weights,
    parts: &[(String, usize)],
    inputs: usize,
    bias: bool,
) -> Result<Linear> {
    load_linear(weights, parts, inputs, bias, Activation::Identity)
}

fn load_linear(
    weights: &Weights,
    parts: &[(String, usize)],
    inputs: usize,
    bias: bool,
    activation: Activation,
) -> Result<Linear> {
    let names = || parts.iter().map(|(name, outputs)| (format!("{name}.weight"), [*outputs, inputs]));
    let in_place: Vec<_> =
        names().map(|(name, shape)| weights.values(&name, &shape)).collect::<Result<_>>()?;
    let biases = || parts.iter().map(|(name, outputs)| weights.get(&format!("{name}.bias"), &[*outputs]));
    let biases = bias.then(|| biases().collect::<Result<Vec<Tensor>>>()).transpose()?;
    if let Some(values) = in_place.into_iter().collect::<Option<Vec<&[f32]>>>() {
        let biases =
            biases.map(|all| all.iter().map(Tensor::to_vec1).collect::<candle_core::Result<Vec<_>>>());
        let bias = biases.transpose()?.map(|parts| parts.concat());
        return Ok(Linear::from_values(&values, inputs, bias, activation, weights.precision())?);
    }
    let matrices = names().map(|(name, shape)| weights.get(&name, &shape)).collect::<Result<Vec<_>>>()?;
    Ok(Linear::joined(&matrices, biases.as_deref(), activation, weights.precision())?)
}

/// A layer norm `name` over `size` features.
pub(super) fn layer_norm(
    weights: &Weights,
    name: &str,
    size: usize,
    bias: bool,
    eps: f64,
) -> Result<LayerNorm> {
    let weight = weights.get(&format!("{name}.weight"), &[size])?;
    let bias = bias.then(|| weights.get(&format!("{name}.bias"), &[size])).transpose()?;
    Ok(LayerNorm::new(&weight, bias.as_ref(), eps)?)
}

/// A root mean square norm `name` over `size` features.
pub(super) fn rms_norm(weights: &Weights, name: &str, size: usize, eps: f64) -> Result<RmsNorm> {
    Ok(RmsNorm::new(&weights.get(&format!("{name}.weight"), &[size])?, eps)?)
}
