//! Multi-vectors in a safetensors file: `data` (rows, dim) and `offsets` (texts + 1).

use std::borrow::Cow;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::multivectors::MultiVectorsView;

/// Rows in the precision they are stored in.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows<'a> {
    /// Single precision.
    F32(Cow<'a, [f32]>),
    /// Half precision, for storage: arithmetic is done in single precision.
    F16(Cow<'a, [f16]>),
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// All rows, one after the other.
    pub rows: Rows<'static>,
    /// Where each text's rows begin, and at the end how many rows there are.
    pub offsets: Vec<usize>,
    /// The length of a row.
    pub dim: usize,
}

/// Writes a file whole or not at all: under another name first, then renamed.
///
/// # Errors
/// [`Error::Io`], [`Error::Missing`] for a folder that does not exist, [`Error::Shape`] if the parts do not fit.
pub fn save(path: &Path, rows: &Rows, offsets: &[usize], dim: usize) -> Result<()> {
    let (dtype, data, values) = match rows {
        Rows::F32(rows) => (Dtype::F32, bytes(rows, |x| x.to_le_bytes()), rows.len()),
        Rows::F16(rows) => (Dtype::F16, bytes(rows, |x| x.to_le_bytes()), rows.len()),
    };
    MultiVectorsView::check(values, offsets, dim)?;
    let offset_bytes = bytes(offsets, |offset| (*offset as u64).to_le_bytes());
    let internal = |e: safetensors::SafeTensorError| Error::Io {
        path: path.to_owned(),
        source: std::io::Error::other(e),
    };
    let views = [
        ("data", TensorView::new(dtype, vec![values / dim, dim], &data).map_err(internal)?),
        ("offsets", TensorView::new(Dtype::I64, vec![offsets.len()], &offset_bytes).map_err(internal)?),
    ];
    let file = safetensors::serialize(views, None).map_err(internal)?;
    write_whole(path, &file)
}

/// Reads what [`save`] wrote.
///
/// # Errors
/// [`Error::Missing`], [`Error::Io`], and [`Error::Model`] for a file that holds something else.
pub fn load(path: &Path) -> Result<Stored> {
    let file = std::fs::read(path).map_err(|e| Error::reading(path, e, "multi-vectors are read from it"))?;
    let fault = |key: &str, problem: String| Error::model(path, key, problem);
    let tensors = SafeTensors::deserialize(&file)
        .map_err(|e| fault("", format!("not a whole safetensors file ({} bytes): {e}", file.len())))?;
    let tensor = |key: &str| {
        let found = tensors.names();
        let missing = |_| {
            fault(key, format!("no such tensor, found {found:?}; wanted a file that MultiVectors.save wrote"))
        };
        tensors.tensor(key).map_err(missing)
    };
    let (data, offsets) = (tensor("data")?, tensor("offsets")?);
    let &[_, dim] = data.shape() else {
        return Err(fault("data", format!("shape {:?}, wanted (rows, dim)", data.shape())));
    };
    let rows = match data.dtype() {
        Dtype::F32 => Rows::F32(values(data.data(), f32::from_le_bytes)),
        Dtype::F16 => Rows::F16(values(data.data(), f16::from_le_bytes)),
        other => return Err(fault("data", format!("dtype {other:?}, wanted F32 or F16"))),
    };
    if offsets.dtype() != Dtype::I64 || offsets.shape().len() != 1 {
        let problem = format!("{:?} {:?}, wanted I64 (texts + 1)", offsets.dtype(), offsets.shape());
        return Err(fault("offsets", problem));
    }
    let offsets: Vec<usize> = values(offsets.data(), i64::from_le_bytes)
        .iter()
        .map(|&offset| usize::try_from(offset).map_err(|_| fault("offsets", format!("holds {offset}"))))
        .collect::<Result<_>>()?;
    let count = match &rows {
        Rows::F32(rows) => rows.len(),
        Rows::F16(rows) => rows.len(),
    };
    MultiVectorsView::check(count, &offsets, dim).map_err(|e| fault("offsets", e.to_string()))?;
    Ok(Stored { rows, offsets, dim })
}

fn bytes<T, const N: usize>(values: &[T], convert: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(convert).collect()
}

fn values<T: Clone, const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Cow<'static, [T]> {
    let (chunks, _) = bytes.as_chunks::<N>();
    Cow::Owned(chunks.iter().map(|chunk| convert(*chunk)).collect())
}

/// A crash or a full disk leaves the old file as it was. What is no plain file (a pipe, `/dev/null`) is written to.
fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = |e| Error::reading(path, e, "wanted a file in a folder that exists");
    if target.metadata().is_ok_and(|m| !m.is_file()) {
        return std::fs::write(&target, content).map_err(failed);
    }
    let temporary = temporary_name(&target);
    let written = std::fs::File::create_new(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, &target));
    written.map_err(|e| {
        // What is left of the attempt helps nobody; that it cannot be removed is no second error.
        std::fs::remove_file(&temporary).ok();
        failed(e)
    })
}

fn temporary_name(target: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()))
}
