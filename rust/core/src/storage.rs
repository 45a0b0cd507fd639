//! Multi-vectors in a safetensors file: `data` (rows, dim) and `offsets` (texts + 1).

use std::borrow::Cow;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use half::f16;
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

/// Where the rows of a file lie, to be mapped by whoever does not want them in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// Whether they are in half precision.
    pub half: bool,
    /// The byte of the file at which they begin, a multiple of a value's size.
    pub start: usize,
    /// Where each text's rows begin, and at the end how many rows there are.
    pub offsets: Vec<usize>,
    /// The length of a row.
    pub dim: usize,
}

/// Writes a file whole or not at all: under another name first, then renamed. The rows are not copied.
///
/// # Errors
/// [`Error::Io`], [`Error::Missing`] for a folder that does not exist, [`Error::Shape`] if the parts do not fit.
pub fn save(path: &Path, rows: &Rows, offsets: &[usize], dim: usize) -> Result<()> {
    let (dtype, data, values) = match rows {
        Rows::F32(rows) => ("F32", bytemuck::cast_slice(rows), rows.len()),
        Rows::F16(rows) => ("F16", bytemuck::cast_slice::<f16, u8>(rows), rows.len()),
    };
    MultiVectorsView::check(values, offsets, dim)?;
    let wide: Vec<u64> = offsets.iter().map(|offset| *offset as u64).collect();
    let starts: &[u8] = bytemuck::cast_slice(&wide);
    // The offsets first, so that the rows are aligned. The library would write nothing before it has copied all.
    let header = serde_json::json!({
        "offsets": {"dtype": "I64", "shape": [offsets.len()], "data_offsets": [0, starts.len()]},
        "data": {
            "dtype": dtype,
            "shape": [values / dim, dim],
            "data_offsets": [starts.len(), starts.len() + data.len()],
        },
    });
    let mut header = header.to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    write_whole(path, &[&(header.len() as u64).to_le_bytes(), header.as_bytes(), starts, data])
}

/// Values are read and written as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"), "safetensors files are little-endian");

/// Reads what [`save`] wrote.
///
/// # Errors
/// [`Error::Missing`], [`Error::Io`], and [`Error::Model`] for a file that holds something else.
pub fn load(path: &Path) -> Result<Stored> {
    let file = files::read(path, HINT)?;
    let Located { half, start, offsets, dim } = layout(path, &file)?;
    let count = offsets.last().map_or(0, |rows| rows * dim);
    let data = &file[start..start + count * if half { size_of::<f16>() } else { size_of::<f32>() }];
    let rows = if half {
        Rows::F16(values(data, f16::from_le_bytes))
    } else {
        Rows::F32(values(data, f32::from_le_bytes))
    };
    Ok(Stored { rows, offsets, dim })
}

/// Says where the rows lie in what [`save`] wrote; they are not read.
///
/// # Errors
/// As [`load`].
pub fn locate(path: &Path) -> Result<Located> {
    let file = files::open(path, HINT)?;
    // SAFETY: of the mapped bytes only the header and the offsets are read, before this function ends. A process that
    // cuts the file meanwhile ends this one, as it would while the rows are used.
    let bytes =
        unsafe { memmap2::Mmap::map(&file) }.map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let located = layout(path, &bytes)?;
    let size = if located.half { size_of::<f16>() } else { size_of::<f32>() };
    if !located.start.is_multiple_of(size) {
        let problem =
            format!("begins at byte {}, wanted a multiple of {size}; load it without mmap", located.start);
        return Err(Error::model(path, "data", problem));
    }
    Ok(located)
}

const HINT: &str = "multi-vectors are read from it";

fn layout(path: &Path, file: &[u8]) -> Result<Located> {
    let fault = |key: &str, problem: String| Error::model(path, key, problem);
    let tensors = SafeTensors::deserialize(file)
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
    let half = match data.dtype() {
        Dtype::F32 => false,
        Dtype::F16 => true,
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
    let count = data.data().len() / if half { size_of::<f16>() } else { size_of::<f32>() };
    MultiVectorsView::check(count, &offsets, dim).map_err(|e| fault("offsets", e.to_string()))?;
    let start = data.data().as_ptr().addr() - file.as_ptr().addr();
    Ok(Located { half, start, offsets, dim })
}

fn values<T: Clone, const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Cow<'static, [T]> {
    let (chunks, _) = bytes.as_chunks::<N>();
    Cow::Owned(chunks.iter().map(|chunk| convert(*chunk)).collect())
}

/// A crash or a full disk leaves the old file as it was. A link stays, and what it names is written; what is no plain
/// file (a pipe, `/dev/null`) is written to as it is.
pub(crate) fn write_whole(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let failed = |e| Error::reading(path, e, "wanted a file in a folder that exists");
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(_) if !files::stands(path) => path.to_owned(),
        Err(e) => return Err(Error::Io { path: path.to_owned(), source: e }),
    };
    let old = target.metadata().ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let written = std::fs::File::create(&target).and_then(|file| write_all(&file, parts));
        return written.map_err(failed);
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = old.map_or(std::fs::Permissions::from_mode(0o666), |old| old.permissions());
    let written = tempfile::Builder::new().permissions(permissions).tempfile_in(folder).and_then(|file| {
        write_all(file.as_file(), parts)?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|e| e.error)
    });
    written.map(drop).map_err(failed)
}

fn write_all(mut file: &std::fs::File, parts: &[&[u8]]) -> std::io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))
}
