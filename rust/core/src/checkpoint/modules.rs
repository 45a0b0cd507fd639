//! `modules.json`: the chain of modules that sentence-transformers and PyLate write, in its order.

use std::path::{Component, Path};

use serde_json::Value;

use super::DenseSpec;
use super::json::{self, JsonFile};
use crate::error::{Error, Result};
use crate::files::Place;
use crate::ops::Activation;
use crate::project::DenseShape;

/// One module of the chain.
pub(super) struct Module {
    class: String,
    /// The last part of its class.
    pub(super) kind: String,
    pub(super) folder: Place,
    /// Its entry in the list.
    pub(super) entry: JsonFile,
}

/// The list, or nothing if there is no such file. The first module is a Transformer, and the only one.
pub(super) fn read(root: &Place) -> Result<Option<Vec<Module>>> {
    let file = root.join("modules.json");
    if !file.stands() {
        return Ok(None);
    }
    let Value::Array(entries) = json::read_value(&file, "")? else {
        return Err(Error::model(file.path(), "", "wanted a list of modules"));
    };
    let modules =
        entries.into_iter().map(|entry| module(root, file.path(), entry)).collect::<Result<Vec<_>>>()?;
    if modules.is_empty() {
        return Err(Error::model(file.path(), "type", "the list is empty, wanted a Transformer first"));
    }
    for (index, module) in modules.iter().enumerate() {
        if (module.kind == "Transformer") != (index == 0) {
            return Err(module.unexpected(index, "a Transformer first, and no other"));
        }
    }
    Ok(Some(modules))
}

fn module(root: &Place, path: &Path, entry: Value) -> Result<Module> {
    let entry = JsonFile::nested(path, entry)?;
    let class = entry.require("type", "the module's class", JsonFile::string)?;
    let relative = entry.require("path", "the module's folder", JsonFile::string)?;
    let folder = inside(root, &relative).ok_or_else(|| {
        entry.error("path", format!("got {relative:?}, wanted a folder inside the checkpoint"))
    })?;
    let kind = class.rsplit('.').next().unwrap_or_default().to_owned();
    if kind == "Dense" && folder.path() == root.path() {
        return Err(entry.error("path", "got \"\", wanted the Dense's own folder"));
    }
    Ok(Module { class, kind, folder, entry })
}

impl Module {
    /// The error for a module that has no place here.
    pub(super) fn unexpected(&self, index: usize, wanted: &str) -> Error {
        self.entry.error("type", format!("got {:?} at position {index}, wanted {wanted}", self.class))
    }

    /// Its own configuration, without which it would do something else.
    pub(super) fn required_config(&self) -> Result<JsonFile> {
        JsonFile::open(
            &self.folder.join("config.json"),
            "modules.json lists this module; fetch the checkpoint again",
        )
    }

    /// Its own configuration, whose absence counts as empty.
    pub(super) fn config(&self) -> Result<JsonFile> {
        JsonFile::open_optional(&self.folder.join("config.json"))
    }

    /// Its configuration as that of a Dense.
    pub(super) fn dense(&self) -> Result<DenseSpec> {
        let config = JsonFile::open(&self.folder.join("config.json"), "modules.json lists this Dense")?;
        let key = "activation_function";
        let wanted = "a torch class such as \"torch.nn.modules.linear.Identity\"";
        let class = config.require(key, wanted, JsonFile::string)?;
        let activation = Activation::from_torch_class(&class)
            .ok_or_else(|| config.error(key, Activation::unknown(&class)))?;
        let shape = DenseShape {
            in_features: config.require("in_features", "the number of inputs", JsonFile::size)?,
            out_features: config.require("out_features", "the number of outputs", JsonFile::size)?,
            bias: config.bool("bias")?.unwrap_or(true),
            activation,
            use_residual: config.bool("use_residual")?.unwrap_or(false),
        };
        Ok(DenseSpec { folder: self.folder.clone(), shape })
    }
}

/// `root/relative`, unless that would leave `root`.
fn inside(root: &Place, relative: &str) -> Option<Place> {
    let stays =
        Path::new(relative).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    stays.then(|| if relative.is_empty() { root.clone() } else { root.join(relative) })
}
