//! Batch -> hidden states: one architecture a file, all on the operations of [`crate::ops`].

mod bert;

use std::path::Path;

use candle_core::Tensor;

use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Provenance, Weights};
use crate::error::Result;

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

/// Reads `config.json` and the weights beside it; `model_type` chooses the architecture.
pub(crate) fn load(folder: &Path) -> Result<(Box<dyn Encoder>, Provenance)> {
    let config = JsonFile::open(&folder.join("config.json"), "the architecture is read from it")?;
    let model_type = config.require("model_type", "the architecture, such as \"bert\"", JsonFile::string)?;
    match model_type.as_str() {
        "bert" => {
            let weights = open_weights(folder, bert::PREFIX)?;
            let encoder = bert::Bert::load(&config, &weights)?;
            Ok((Box::new(encoder), weights.provenance(bert::PREFIX)))
        }
        other => {
            let problem =
                format!("got {other:?}, wanted an architecture that this version computes: \"bert\"");
            Err(config.error("model_type", problem))
        }
    }
}

/// The one weights file of a folder; `prefix` may stand before its tensors' names.
pub(crate) fn open_weights(folder: &Path, prefix: &str) -> Result<Weights> {
    let others = ["model.safetensors.index.json", "pytorch_model.bin"];
    let hint = match others.iter().find(|name| folder.join(name).exists()) {
        Some(other) => format!(
            "found {other}, which this version does not read; save the weights as one safetensors file"
        ),
        None => "the weights are read from it".to_owned(),
    };
    Weights::open(&folder.join("model.safetensors"), prefix, &hint)
}
