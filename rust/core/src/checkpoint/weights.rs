//! Tensors by canonical name from a memory-mapped safetensors file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::files;

/// An open weights file. Names are canonical: the backbone's own prefix (`bert.`) is gone and
/// `LayerNorm.gamma/beta`, which transformers 5.3 still writes, read as `weight/bias`.
///
/// The file is mapped only while it is being read: tensors are copied out, so a file that changes later cannot
/// reach into a running process.
pub(crate) struct Weights {
    path: PathBuf,
    map: Mmap,
    stamp: Stamp,
    entries: BTreeMap<String, Entry>,
    used: RefCell<BTreeSet<String>>,
}

/// One tensor's place in the file.
struct Entry {
    stored_name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// The tensors that a model was made of, enough to read them again.
#[derive(Debug, Clone)]
pub(crate) struct Provenance {
    path: PathBuf,
    prefix: String,
    stamp: Stamp,
    names: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Weights {
    /// Opens `path`, whose tensor names may all carry `prefix`.
    pub(crate) fn open(path: &Path, prefix: &str, hint: &str) -> Result<Self> {
        let reading = |e| Error::reading(path, e, hint);
        let file = files::open(path, hint)?;
        let metadata = file.metadata().map_err(reading)?;
        let stamp = Stamp { length: metadata.len(), modified: metadata.modified().ok() };
        // SAFETY: the map is read-only and lives only while the checkpoint is opened; that nobody truncates the
        // file in that moment is the one assumption that every memory-mapped reader makes.
        let map = unsafe { Mmap::map(&file) }.map_err(reading)?;
        let entries = entries(path, &map, prefix)?;
        Ok(Self { path: path.to_owned(), map, stamp, entries, used: RefCell::default() })
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The tensor as float32, after its shape was checked.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let entry = self.entries.get(name).ok_or_else(|| {
            Error::model(&self.path, name, "no such tensor; is this the weights file of this architecture?")
        })?;
        if entry.shape != shape {
            let problem = format!("shape {:?}, wanted {shape:?} as the configuration says", entry.shape);
            return Err(Error::model(&self.path, &entry.stored_name, problem));
        }
        self.used.borrow_mut().insert(name.to_owned());
        self.float32(entry)
    }

    fn float32(&self, entry: &Entry) -> Result<Tensor> {
        let dtype = match entry.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                let problem = format!("dtype {other:?}, wanted F32, F16 or BF16");
                return Err(Error::model(&self.path, &entry.stored_name, problem));
            }
        };
        let bytes = &self.map[entry.bytes.clone()];
        Ok(Tensor::from_raw_buffer(bytes, dtype, &entry.shape, &Device::Cpu)?.to_dtype(DType::F32)?)
    }

    pub(crate) fn provenance(&self, prefix: &str) -> Provenance {
        Provenance {
            path: self.path.clone(),
            prefix: prefix.to_owned(),
            stamp: self.stamp.clone(),
            names: self.used.borrow().clone(),
        }
    }
}

impl Provenance {
    /// Feeds the hash with every tensor that was used: name, shape and float32 values.
    ///
    /// # Errors
    /// [`Error::Model`] if the file is no longer the one that was opened.
    pub(crate) fn hash(&self, hasher: &mut blake3::Hasher) -> Result<()> {
        let weights = Weights::open(&self.path, &self.prefix, "the model was opened from it")?;
        if weights.stamp != self.stamp {
            let problem = "changed since the model was opened from it; open the model again";
            return Err(Error::model(&self.path, "", problem));
        }
        for name in &self.names {
            let Some(entry) = weights.entries.get(name) else { continue };
            hasher.update(format!("{name}{:?}", entry.shape).as_bytes());
            if entry.dtype == Dtype::F32 {
                hasher.update(&weights.map[entry.bytes.clone()]);
            } else {
                for x in weights.float32(entry)?.flatten_all()?.to_vec1::<f32>()? {
                    hasher.update(&x.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

/// The tensors of the file, by canonical name. The header is validated as a whole: sizes, order, no overlap, no gap.
fn entries(path: &Path, map: &Mmap, prefix: &str) -> Result<BTreeMap<String, Entry>> {
    let (header, metadata) = SafeTensors::read_metadata(map).map_err(|e| {
        let problem = format!("not a whole safetensors file ({} bytes): {e}; fetch it again", map.len());
        Error::model(path, "", problem)
    })?;
    let data = header + size_of::<u64>();
    let mut entries = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let canonical = canonical_name(&name, prefix);
        let entry = Entry {
            stored_name: name,
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: data + info.data_offsets.0..data + info.data_offsets.1,
        };
        if let Some(other) = entries.insert(canonical.clone(), entry) {
            let problem = format!("more than one tensor stands for {canonical:?}; wanted one");
            return Err(Error::model(path, &other.stored_name, problem));
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
