//! `pytorch_model.bin`: a zip archive of one pickle and the storages beside it, none of them compressed.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::Stored;
use super::pickle::{self, PickledTensor, brief};
use crate::error::{Error, Result};

/// The tensors of the archive.
pub(super) fn tensors(path: &Path, content: &[u8]) -> Result<Vec<Stored>> {
    let members = members(path, content)?;
    let mut pickles =
        members.iter().filter_map(|(name, place)| Some((name.strip_suffix("data.pkl")?, place)));
    let (Some((folder, place)), None) = (pickles.next(), pickles.next()) else {
        return Err(Error::model(path, "", "wanted an archive with one data.pkl, as torch.save writes it"));
    };
    if let Some(order) = members.get(&format!("{folder}byteorder")).map(|place| &content[place.clone()])
        && order != b"little"
    {
        let got = brief(&String::from_utf8_lossy(order));
        return Err(Error::model(
            path,
            "byteorder",
            format!("got {got:?}, wanted \"little\"; save it as safetensors"),
        ));
    }
    let named = pickle::tensors(&content[place.clone()])
        .map_err(|problem| Error::model(path, "data.pkl", problem))?;
    if named.is_empty() {
        return Err(Error::model(path, "data.pkl", "its dictionary holds no tensors, wanted a state dict"));
    }
    // Before names are copied: a few bytes repeat a long one.
    let mut seen = HashSet::new();
    if let Some((name, _)) = named.iter().find(|(name, _)| !seen.insert(name)) {
        return Err(Error::model(path, &brief(name), "more than one tensor of this name, wanted one"));
    }
    let read = |name: &str, tensor: &PickledTensor| {
        let storage = members.get(&format!("{folder}data/{}", tensor.storage.key));
        let storage = storage
            .ok_or_else(|| format!("its storage {:?} is not in the archive", brief(&tensor.storage.key)))?;
        let bytes = bytes(tensor, storage)?;
        Ok(Stored { name: name.to_owned(), dtype: tensor.storage.dtype, shape: tensor.shape.clone(), bytes })
    };
    let stored = named.iter().map(|(name, tensor)| {
        read(name, tensor).map_err(|problem: String| Error::model(path, &brief(name), problem))
    });
    stored.collect()
}

/// The place of every member of the archive.
fn members(path: &Path, content: &[u8]) -> Result<HashMap<String, Range<usize>>> {
    let damaged = |e: zip::result::ZipError| {
        let problem = format!(
            "not a whole archive as torch.save writes it since PyTorch 1.6 ({} bytes): {e}; fetch it again, or save \
             it as safetensors",
            content.len()
        );
        Error::model(path, "", problem)
    };
    let mut archive = ZipArchive::new(Cursor::new(content)).map_err(damaged)?;
    let mut members = HashMap::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(damaged)?;
        let name = String::from_utf8_lossy(member.name_raw()).into_owned();
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            return Err(Error::model(
                path,
                &brief(&name),
                "is compressed or encrypted, wanted it as torch.save stores it",
            ));
        }
        if member.compressed_size() != member.size() {
            let problem =
                format!("takes {} bytes for {}; fetch it again", member.compressed_size(), member.size());
            return Err(Error::model(path, &brief(&name), problem));
        }
        let start = member.data_start().and_then(|start| usize::try_from(start).ok());
        let size = usize::try_from(member.size()).ok();
        let place = start.zip(size).and_then(|(start, size)| Some(start..start.checked_add(size)?));
        let place = place.filter(|place| place.end <= content.len());
        let place = place
            .ok_or_else(|| Error::model(path, &brief(&name), "reaches beyond the file; fetch it again"))?;
        members.insert(name, place);
    }
    Ok(members)
}

/// Where in the file the elements of a tensor stand.
fn bytes(tensor: &PickledTensor, storage: &Range<usize>) -> std::result::Result<Range<usize>, String> {
    let mut count = 1_usize;
    for (&size, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        if size > 1 && stride != count {
            return Err(format!(
                "strides {:?}, wanted rows one after the other; save it contiguous",
                tensor.strides
            ));
        }
        count = count.checked_mul(size).ok_or_else(|| format!("shape {:?}", tensor.shape))?;
    }
    if tensor.strides.len() != tensor.shape.len() {
        return Err(format!("shape {:?} with strides {:?}", tensor.shape, tensor.strides));
    }
    let width = tensor.storage.dtype.bitsize() / 8;
    let place = || {
        let end = tensor.offset.checked_add(count).filter(|end| *end <= tensor.storage.elements)?;
        let start = storage.start.checked_add(tensor.offset.checked_mul(width)?)?;
        let end = storage.start.checked_add(end.checked_mul(width)?)?;
        (end <= storage.end).then_some(start..end)
    };
    place().ok_or_else(|| "reaches beyond its storage; fetch the file again".to_owned())
}
