//! Batch -> hidden states: one architecture a file, all on the operations of [`crate::ops`].

mod bert;
mod distilbert;
mod eurobert;
mod jina;
mod lfm2;
mod llama;
mod modernbert;
mod parts;
mod post_norm;
mod qwen3;
mod xlm_roberta;
mod xmod;

use candle_core::Tensor;

use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::device::Compute;
use crate::error::Result;
use crate::files::Place;

/// A transformer that turns tokens into hidden states.
pub(crate) trait Encoder: Send + Sync {
    /// `[tokens, hidden_size]`, every text of the batch by itself.
    fn forward(&self, batch: &Batch) -> Result<Tensor>;
    fn hidden_size(&self) -> usize;
    /// How many positions a text may have.
    fn positions(&self) -> usize;
    /// How many token ids there are rows for.
    fn vocabulary(&self) -> usize;
    /// Everything besides the weights that the hidden states depend on, as `name key=value ...`. Fingerprints hang on
    /// this text.
    fn describe(&self) -> String;
}

/// An architecture that this crate computes.
struct Architecture {
    /// The `model_type` values of its configurations.
    model_types: &'static [&'static str],
    /// What may stand before the names of its tensors: where a model with a head keeps the backbone.
    prefix: &'static str,
    /// The class of its own code that a checkpoint may bring along (`auto_map`), because what we compute is that.
    own_code: &'static [&'static str],
    load: fn(&JsonFile, &Weights) -> Result<Box<dyn Encoder>>,
}

const ARCHITECTURES: [Architecture; 9] = [
    bert::ARCHITECTURE,
    distilbert::ARCHITECTURE,
    xlm_roberta::ARCHITECTURE,
    jina::ARCHITECTURE,
    xmod::ARCHITECTURE,
    modernbert::ARCHITECTURE,
    eurobert::ARCHITECTURE,
    qwen3::ARCHITECTURE,
    lfm2::ARCHITECTURE,
];

/// Reads `config.json` and the weights beside it, which are left open: what else they hold is the caller's.
pub(crate) fn load(folder: &Place, compute: &Compute) -> Result<(Box<dyn Encoder>, Weights)> {
    let config = JsonFile::open(&folder.join("config.json"), "the architecture is read from it")?;
    let architecture = find(&config)?;
    let weights = Weights::open(folder, architecture.prefix, compute.clone())?;
    let encoder = (architecture.load)(&config, &weights)?;
    Ok((encoder, weights))
}

fn find(config: &JsonFile) -> Result<&'static Architecture> {
    let model_type = match config.string("model_type")? {
        None if is_rotary(config)? => jina::MODEL_TYPE.to_owned(),
        Some(kind) if kind == "xlm-roberta" && is_rotary(config)? => jina::MODEL_TYPE.to_owned(),
        Some(kind) => kind,
        None => config.require("model_type", "the architecture, such as \"bert\"", JsonFile::string)?,
    };
    let known = ARCHITECTURES.iter().find(|a| a.model_types.contains(&model_type.as_str()));
    let architecture = known.ok_or_else(|| {
        let all: Vec<&str> = ARCHITECTURES.iter().flat_map(|a| a.model_types).copied().collect();
        let problem =
            format!("got {model_type:?}, wanted an architecture that this version computes: {all:?}");
        config.error("model_type", problem)
    })?;
    // Code in a checkpoint may compute anything under the name of a known architecture.
    if let Some(code) = config.object("auto_map")?.map(|map| map.string("AutoModel")).transpose()?.flatten() {
        let class = code.rsplit('.').next().unwrap_or_default();
        if !architecture.own_code.contains(&class) {
            let problem = format!(
                "got {code:?}, an architecture that this version does not compute: the checkpoint brings its own code, \
                 which is never run"
            );
            return Err(config.error("auto_map", problem));
        }
    }
    Ok(architecture)
}

fn is_rotary(config: &JsonFile) -> Result<bool> {
    Ok(config.string("position_embedding_type")?.as_deref() == Some("rotary"))
}
