//! Weights in several safetensors files, listed by `model.safetensors.index.json`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::{Entry, Stored, WeightsFile, safetensors};
use crate::checkpoint::JsonFile;
use crate::error::Result;
use crate::files::Place;

/// The files that the index names, and the tensors that it promises in them.
pub(super) fn open(index: &Place) -> Result<(Vec<WeightsFile>, Vec<Entry>)> {
    let json = JsonFile::open(index, "")?;
    let wanted = "an object that gives every tensor its file";
    let map = json.require("weight_map", wanted, JsonFile::string_map)?;
    if map.is_empty() {
        return Err(json.error("weight_map", "is empty, wanted a file for every tensor"));
    }
    let mut promised: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in map {
        let is_name = Path::new(&file).file_name().is_some_and(|name| name == file.as_str());
        if !is_name || file.len() > 255 || file.contains('\0') {
            let file: String = file.chars().take(100).collect();
            return Err(
                json.error("weight_map", format!("got {file:?}, wanted the name of a file beside the index"))
            );
        }
        promised.entry(file).or_default().push(tensor);
    }
    let mut files = Vec::new();
    let mut entries = Vec::new();
    for (name, tensors) in promised {
        let place = index.beside(&name);
        let file =
            WeightsFile::open(&place, "model.safetensors.index.json names it; fetch the checkpoint again")?;
        let found = safetensors::tensors(&file.path, &file.content)?;
        let mut found: HashMap<String, Stored> = found.into_iter().map(|s| (s.name.clone(), s)).collect();
        for tensor in tensors {
            let stored = found.remove(&tensor).ok_or_else(|| {
                json.error(
                    "weight_map",
                    format!("{name} holds no tensor {tensor:?}; fetch the checkpoint again"),
                )
            })?;
            entries.push(Entry { file: files.len(), stored });
        }
        files.push(file);
    }
    Ok((files, entries))
}
