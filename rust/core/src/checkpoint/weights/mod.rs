//! Tensors by canonical name, whichever file format they stand in.

mod pickle;
mod pytorch;
mod safetensors;
mod shards;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::safetensors::Dtype;
use candle_core::{DType, Device, Tensor};

use crate::device::Compute;
use crate::error::{Error, Result};
use crate::files::{Content, Place, Stamp};
use crate::kernels::Precision;
use crate::memory;

/// The weights of one folder: `model.safetensors`, else the shards of `model.safetensors.index.json`, else
/// `pytorch_model.bin`.
///
/// Names are canonical: the backbone's own prefix (`bert.`) is gone and `LayerNorm.gamma/beta`, which transformers 5.3
/// still writes, read as `weight/bias`. The files are mapped only while they are being read: tensors are copied out, so
/// a file that changes later cannot reach into a running process.
pub(crate) struct Weights {
    folder: Place,
    prefix: String,
    files: Vec<WeightsFile>,
    entries: BTreeMap<String, Entry>,
    compute: Compute,
    used: Mutex<BTreeSet<String>>,
}

/// What lists the tensors of several files.
const INDEX: &str = "model.safetensors.index.json";

/// One file, as a rule mapped.
struct WeightsFile {
    path: PathBuf,
    content: Content,
    stamp: Stamp,
}

/// One tensor's place: which of the files, and where in it.
struct Entry {
    file: usize,
    stored: Stored,
}

/// A tensor as a file describes it.
struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// The tensors that a model was made of, enough to read them again.
#[derive(Debug, Clone)]
pub(crate) struct Provenance {
    folder: Place,
    prefix: String,
    stamps: Vec<(PathBuf, Stamp)>,
    names: BTreeSet<String>,
    /// The file that lists the tensors.
    pub(crate) path: PathBuf,
    /// The types in which they are stored.
    pub(crate) dtypes: BTreeSet<String>,
}

impl Weights {
    /// Opens the weights of `folder`, whose tensor names may carry `prefix`. What is read from them goes to where
    /// `compute` says.
    pub(crate) fn open(folder: &Place, prefix: &str, compute: Compute) -> Result<Self> {
        let single = folder.join("model.safetensors");
        let index = folder.join(INDEX);
        let pickle = folder.join("pytorch_model.bin");
        let (files, tensors) = if !single.stands() && index.stands() {
            shards::open(&index)?
        } else if !single.stands() && pickle.stands() {
            let file = WeightsFile::open(&pickle, "")?;
            let tensors = pytorch::tensors(&file.path, &file.content)?;
            (vec![file], tensors.into_iter().map(|stored| Entry { file: 0, stored }).collect())
        } else {
            let file = WeightsFile::open(&single, missing(folder))?;
            let tensors = safetensors::tensors(&file.path, &file.content)?;
            (vec![file], tensors.into_iter().map(|stored| Entry { file: 0, stored }).collect())
        };
        let entries = canonical(&files, tensors, prefix)?;
        let (folder, prefix) = (folder.clone(), prefix.to_owned());
        Ok(Self { folder, prefix, files, entries, compute, used: Mutex::default() })
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Threads that may load at once.
    pub(crate) fn threads(&self) -> usize {
        self.compute.threads
    }

    /// What linear layers compute in.
    pub(crate) fn precision(&self) -> Precision {
        self.compute.precision
    }

    /// The shape of a tensor, where no configuration says it.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.entry(name)?.stored.shape)
    }

    /// The error for a tensor that is there, but is of no use.
    pub(crate) fn unfit(&self, name: &str, problem: &str) -> Error {
        self.entry(name).map_or_else(|missing| missing, |entry| self.error(entry, problem.to_owned()))
    }

    /// The tensor in the precision that is computed in, after its shape was checked.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(self.compute.place(&self.float32(self.checked(name, shape)?)?)?)
    }

    /// The tensor's values where they stand in the file, if they can be computed with as they are.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Option<&[f32]>> {
        let entry = self.checked(name, shape)?;
        let as_it_is =
            entry.stored.dtype == Dtype::F32 && self.compute.is_plain() && cfg!(target_endian = "little");
        Ok(if as_it_is { bytemuck::try_cast_slice(self.bytes(entry)).ok() } else { None })
    }

    fn checked(&self, name: &str, shape: &[usize]) -> Result<&Entry> {
        let entry = self.entry(name)?;
        if entry.stored.shape != shape {
            let problem =
                format!("shape {:?}, wanted {shape:?} as the configuration says", entry.stored.shape);
            return Err(self.error(entry, problem));
        }
        self.used().insert(name.to_owned());
        Ok(entry)
    }

    /// The names of the tensors that were read.
    fn used(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The types in which these tensors are stored.
    fn stored_dtypes(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let entries = names.iter().filter_map(|name| self.entries.get(name));
        entries.map(|entry| format!("{:?}", entry.stored.dtype)).collect()
    }

    pub(crate) fn provenance(&self) -> Provenance {
        let names = self.used().clone();
        Provenance {
            folder: self.folder.clone(),
            prefix: self.prefix.clone(),
            stamps: self.stamps(),
            dtypes: self.stored_dtypes(&names),
            names,
            path: self.path(),
        }
    }

    fn stamps(&self) -> Vec<(PathBuf, Stamp)> {
        self.files.iter().map(|file| (file.path.clone(), file.stamp.clone())).collect()
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            Error::model(&self.path(), name, "no such tensor; are these the weights of this architecture?")
        })
    }

    /// The file that lists all tensors.
    fn path(&self) -> PathBuf {
        match &self.files[..] {
            [only] => only.path.clone(),
            _ => self.folder.join(INDEX).path().to_owned(),
        }
    }

    fn error(&self, entry: &Entry, problem: String) -> Error {
        Error::model(&self.files[entry.file].path, &entry.stored.name, problem)
    }

    fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.files[entry.file].content[entry.stored.bytes.clone()]
    }

    fn float32(&self, entry: &Entry) -> Result<Tensor> {
        let dtype = match entry.stored.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(self.error(entry, format!("dtype {other:?}, wanted F32, F16 or BF16"))),
        };
        let bytes = self.bytes(entry);
        if let (DType::F32, Ok(values)) = (dtype, bytemuck::try_cast_slice::<u8, f32>(bytes)) {
            let mut copy = memory::reserve(values.len());
            copy.extend_from_slice(values);
            return Ok(Tensor::from_vec(copy, entry.stored.shape.as_slice(), &Device::Cpu)?);
        }
        let stored = Tensor::from_raw_buffer(bytes, dtype, &entry.stored.shape, &Device::Cpu)?;
        Ok(stored.to_dtype(DType::F32)?)
    }
}

impl Provenance {
    /// Feeds the hash with every tensor that was used: name, shape and float32 values.
    ///
    /// # Errors
    /// [`Error::Model`] if a file is no longer the one that was opened.
    pub(crate) fn hash(&self, hasher: &mut blake3::Hasher) -> Result<()> {
        let weights = Weights::open(&self.folder, &self.prefix, Compute::default())?;
        let now = weights.stamps();
        if let Some((path, _)) = self.stamps.iter().find(|stamp| !now.contains(stamp)) {
            let problem = "changed since the model was opened from it; open the model again";
            return Err(Error::model(path, "", problem));
        }
        for name in &self.names {
            let Some(entry) = weights.entries.get(name) else { continue };
            hasher.update(format!("{name}{:?}", entry.stored.shape).as_bytes());
            if entry.stored.dtype == Dtype::F32 {
                hasher.update(weights.bytes(entry));
            } else {
                for x in weights.float32(entry)?.flatten_all()?.to_vec1::<f32>()? {
                    hasher.update(&x.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

impl WeightsFile {
    fn open(file: &Place, hint: &str) -> Result<Self> {
        let (content, stamp) = file.map(hint)?;
        Ok(Self { path: file.path().to_owned(), content, stamp })
    }
}

/// What to say where no weights are.
fn missing(folder: &Place) -> &'static str {
    if folder.join("pytorch_model.bin.index.json").stands() {
        "found pytorch_model.bin.index.json, pickled weights in shards, which are not read; save the weights as safetensors"
    } else {
        "the weights are read from it, from model.safetensors.index.json or from pytorch_model.bin"
    }
}

/// The tensors by canonical name.
fn canonical(files: &[WeightsFile], tensors: Vec<Entry>, prefix: &str) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    for entry in tensors {
        let name = canonical_name(&entry.stored.name, prefix);
        if let Some(other) = entries.insert(name.clone(), entry) {
            let problem = format!("more than one tensor stands for {name:?}; wanted one");
            return Err(Error::model(&files[other.file].path, &other.stored.name, problem));
        }
    }
    Ok(entries)
}

fn canonical_name(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    if let Some(stem) = name.strip_suffix("LayerNorm.gamma") {
        format!("{stem}LayerNorm.weight")
    } else if let Some(stem) = name.strip_suffix("LayerNorm.beta") {
        format!("{stem}LayerNorm.bias")
    } else {
        name.to_owned()
    }
}
