//! Multi-vectors in a safetensors file: `data` (rows, dim) and `offsets` (texts + 1).

use std::borrow::Cow;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::files;
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
    let file = files::read(path, "multi-vectors are read from it")?;
    let fault = |key: &str, problem: String| Error::model(path, key, problem);
    let tensors = SafeTensors::deserialize(&file)
        .map_err(|e| fault("", format!("not a whole safetensors file ({} bytes): {e}", file.len())))?;
    let tensor = |key: &str| {
        let mut found = tensors.names();
        found.truncate(5);
        let missing = |_| {
            fault(key, format!("no such tensor among {found:?}; wanted a file that MultiVectors.save wrote"))
        };
        tensors.tensor(key).map_err(missing)
    };
    let (data, offsets) = (tensor("data")?, tensor("offsets")?);
    let &[_, dim] = data.shape() else {
        return Err(fault("data", format!("shape {:?}, wanted (rows, dim)", data.shape())));
    };
    if u32::try_from(dim).is_err() {
        return Err(fault("data", format!("rows of {dim}, wanted at most 4294967295")));
    }
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

/// A crash or a full disk leaves the old file as it was. A link stays, and what it names is written; what is no plain
/// file (a pipe, `/dev/null`) is written to as it is.
fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let failed = |e| Error::reading(path, e, "wanted a file in a folder that exists");
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(_) if !files::stands(path) => path.to_owned(),
        Err(e) => return Err(Error::Io { path: path.to_owned(), source: e }),
    };
    let old = target.metadata().ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return std::fs::write(&target, content).map_err(failed);
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = old.map_or(std::fs::Permissions::from_mode(0o666), |old| old.permissions());
    let written =
        tempfile::Builder::new().permissions(permissions).tempfile_in(folder).and_then(|mut file| {
            file.write_all(content)?;
            file.as_file().sync_all()?;
            file.persist(&target).map_err(|e| e.error)
        });
    written.map(drop).map_err(failed)
}
