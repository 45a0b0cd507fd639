//! A segment's file: a safetensors file that is mapped, and looked through when it is opened.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::{Pod, cast_slice, try_cast_slice};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::MOST_PARTITIONS;
use super::residual::Buckets;
use super::subspaces::{CODES, PARTS};
use crate::error::{Error, Result};
use crate::files;
use crate::storage::write_whole;

const FORMAT: &str = "chandelier plaid 1";
const HINT: &str = "a segment of an index is read from it";

/// What is written.
pub(super) struct Contents<'a> {
    pub(super) dim: usize,
    pub(super) nbits: usize,
    /// Of a row's residual.
    pub(super) row_bytes: usize,
    pub(super) rows: &'a [i64],
    pub(super) offsets: &'a [usize],
    pub(super) cells: &'a [usize],
    pub(super) centroids: &'a [f32],
    pub(super) subcentroids: &'a [f32],
    pub(super) cutoffs: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) unit: f32,
    pub(super) documents: &'a [u32],
    pub(super) codes: &'a [u16],
    pub(super) scales: &'a [u8],
    pub(super) subcodes: &'a [u8],
    pub(super) residuals: &'a [u8],
}

/// Writes a file whole or not at all. The widest numbers come first, so that all are aligned.
pub(super) fn write(path: &Path, contents: &Contents) -> Result<()> {
    let wide = |numbers: &[usize]| numbers.iter().map(|number| *number as u64).collect::<Vec<_>>();
    let (offsets, cells) = (wide(contents.offsets), wide(contents.cells));
    let (dim, tokens) = (contents.dim, contents.codes.len());
    let parts: [(&str, &str, Vec<usize>, &[u8]); 13] = [
        ("rows", "I64", vec![contents.rows.len()], cast_slice(contents.rows)),
        ("offsets", "I64", vec![offsets.len()], cast_slice(&offsets)),
        ("cells", "I64", vec![cells.len()], cast_slice(&cells)),
        ("centroids", "F32", vec![contents.centroids.len() / dim, dim], cast_slice(contents.centroids)),
        ("subcentroids", "F32", vec![contents.subcentroids.len()], cast_slice(contents.subcentroids)),
        ("cutoffs", "F32", vec![contents.cutoffs.len()], cast_slice(contents.cutoffs)),
        ("weights", "F32", vec![contents.weights.len()], cast_slice(contents.weights)),
        ("unit", "F32", vec![1], cast_slice(std::slice::from_ref(&contents.unit))),
        ("documents", "U32", vec![contents.documents.len()], cast_slice(contents.documents)),
        ("codes", "U16", vec![tokens], cast_slice(contents.codes)),
        ("scales", "U8", vec![tokens], contents.scales),
        ("subcodes", "U8", vec![tokens, PARTS], contents.subcodes),
        ("residuals", "U8", vec![tokens, contents.row_bytes], contents.residuals),
    ];
    let mut header = serde_json::Map::new();
    let nbits = contents.nbits.to_string();
    header.insert("__metadata__".into(), serde_json::json!({"format": FORMAT, "nbits": nbits}));
    let mut start = 0;
    for (name, dtype, shape, bytes) in &parts {
        let end = start + bytes.len();
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        header.insert((*name).into(), entry);
        start = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let length = (header.len() as u64).to_le_bytes();
    let bytes: Vec<&[u8]> =
        [&length[..], header.as_bytes()].into_iter().chain(parts.iter().map(|part| part.3)).collect();
    write_whole(path, &bytes)
}

/// An index of documents that never changes, mapped from its file: what is searched is read when it is needed.
///
/// Whoever cuts the file while it is mapped ends the process, as with any mapped file.
pub struct PlaidSegment {
    path: PathBuf,
    file: Mmap,
    dim: usize,
    buckets: Buckets,
    rows: Vec<i64>,
    offsets: Vec<usize>,
    cells: Vec<usize>,
    centroids: Range<usize>,
    subcentroids: Range<usize>,
    documents: Range<usize>,
    codes: Range<usize>,
    scales: Range<usize>,
    subcodes: Range<usize>,
    residuals: Range<usize>,
}

impl PlaidSegment {
    /// Maps what [`super::PlaidBuilder::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Io`], and [`Error::Model`] for a file that is cut off or holds something else.
    pub fn open(path: &Path) -> Result<Self> {
        let file = files::open(path, HINT)?;
        // SAFETY: nobody writes to a segment: it is written under another name, and renamed.
        let file =
            unsafe { Mmap::map(&file) }.map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let fault = |key: &str, problem: &str| Error::model(path, key, problem);
        let not_whole =
            |e: &dyn std::fmt::Display| format!("not a whole segment ({} bytes): {e}", file.len());
        let (_, header) = SafeTensors::read_metadata(&file).map_err(|e| fault("", &not_whole(&e)))?;
        let tensors = SafeTensors::deserialize(&file).map_err(|e| fault("", &not_whole(&e)))?;
        let known = header.metadata().as_ref();
        let named = |key: &str| known.and_then(|known| known.get(key)).map(String::as_str);
        if named("format") != Some(FORMAT) {
            let got = named("format").unwrap_or("no format").to_owned();
            return Err(fault("format", &format!("{got}, wanted {FORMAT}")));
        }
        let nbits = named("nbits").and_then(|nbits| nbits.parse().ok()).unwrap_or(0);
        Buckets::check(nbits).map_err(|e| fault("nbits", &e.to_string()))?;
        let tensor = |key: &str, dtype: Dtype, shape: &[Option<usize>]| -> Result<Range<usize>> {
            let found = tensors.tensor(key).map_err(|_| fault(key, "missing"))?;
            let fits = found.shape().len() == shape.len()
                && found.shape().iter().zip(shape).all(|(got, want)| want.is_none_or(|want| want == *got));
            if found.dtype() != dtype || !fits {
                let got = format!("{:?} {:?}, wanted {dtype:?} {shape:?}", found.dtype(), found.shape());
                return Err(fault(key, &got));
            }
            let start = found.data().as_ptr().addr() - file.as_ptr().addr();
            Ok(start..start + found.data().len())
        };
        let numbers = |range: Range<usize>, key: &str| -> Result<Vec<usize>> {
            let found: &[i64] = try_cast_slice(&file[range]).map_err(|_| fault(key, "not aligned"))?;
            found.iter().map(|x| usize::try_from(*x).map_err(|_| fault(key, "a negative number"))).collect()
        };
        let centroids = tensor("centroids", Dtype::F32, &[None, None])?;
        let shape = tensors.tensor("centroids").map(|found| found.shape().to_vec()).unwrap_or_default();
        let (partitions, dim) = (shape[0], shape[1]);
        if dim == 0 || !(1..=MOST_PARTITIONS).contains(&partitions) {
            return Err(fault("centroids", &format!("shape {shape:?}, wanted 1 to {MOST_PARTITIONS} rows")));
        }
        let cutoffs = tensor("cutoffs", Dtype::F32, &[Some((1 << nbits) - 1)])?;
        let weights = tensor("weights", Dtype::F32, &[Some(1 << nbits)])?;
        let floats = |range: Range<usize>| try_cast_slice::<u8, f32>(&file[range]).map(<[f32]>::to_vec);
        let unit = tensor("unit", Dtype::F32, &[Some(1)])?;
        let (Ok(cutoffs), Ok(weights), Ok(unit)) = (floats(cutoffs), floats(weights), floats(unit)) else {
            return Err(fault("weights", "not aligned"));
        };
        let buckets = Buckets::new(nbits, cutoffs, weights, unit[0]);
        let rows = tensor("rows", Dtype::I64, &[None])?;
        let rows = try_cast_slice::<u8, i64>(&file[rows]).map_err(|_| fault("rows", "not aligned"))?.to_vec();
        if !rows.is_sorted_by(|first, second| first < second) {
            return Err(fault("rows", "numbers that do not rise"));
        }
        let offsets = numbers(tensor("offsets", Dtype::I64, &[Some(rows.len() + 1)])?, "offsets")?;
        let cells = numbers(tensor("cells", Dtype::I64, &[Some(partitions + 1)])?, "cells")?;
        for (key, numbers) in [("offsets", &offsets), ("cells", &cells)] {
            if numbers[0] != 0 || !numbers.is_sorted() {
                return Err(fault(key, "numbers that do not rise from 0"));
            }
        }
        let tokens = offsets[rows.len()];
        let codes = tensor("codes", Dtype::U16, &[Some(tokens)])?;
        let subcentroids = tensor("subcentroids", Dtype::F32, &[Some(CODES * dim)])?;
        let scales = tensor("scales", Dtype::U8, &[Some(tokens)])?;
        let subcodes = tensor("subcodes", Dtype::U8, &[Some(tokens), Some(PARTS)])?;
        let residuals = tensor("residuals", Dtype::U8, &[Some(tokens), Some(buckets.row_bytes(dim))])?;
        let documents = tensor("documents", Dtype::U32, &[Some(cells[partitions])])?;
        drop(tensors);
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            dim,
            buckets,
            rows,
            offsets,
            cells,
            centroids,
            subcentroids,
            documents,
            codes,
            scales,
            subcodes,
            residuals,
        })
    }

    /// The caller's number of each document, rising.
    pub fn rows(&self) -> &[i64] {
        &self.rows
    }

    /// The length of a row of a document.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bits a value of a residual.
    pub fn nbits(&self) -> usize {
        self.buckets.nbits()
    }

    /// The number of centroids.
    pub fn partitions(&self) -> usize {
        self.cells.len() - 1
    }

    /// The number of rows of all documents.
    pub fn tokens(&self) -> usize {
        self.offsets[self.rows.len()]
    }

    pub(super) fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// `[partitions, dim]`.
    pub(super) fn centroids(&self) -> Result<&[f32]> {
        self.cast("centroids", &self.centroids)
    }

    /// For each part of a row its vectors, one after the other.
    pub(super) fn subcentroids(&self) -> Result<&[f32]> {
        self.cast("subcentroids", &self.subcentroids)
    }

    /// The documents that have a token nearest to this centroid.
    pub(super) fn cell(&self, centroid: usize) -> Result<&[u32]> {
        Ok(&self.cast("documents", &self.documents)?[self.cells[centroid]..self.cells[centroid + 1]])
    }

    /// The codes of all tokens.
    pub(super) fn codes(&self) -> Result<&[u16]> {
        self.cast("codes", &self.codes)
    }

    /// The lengths of all residuals, in units.
    pub(super) fn scales(&self) -> &[u8] {
        &self.file[self.scales.clone()]
    }

    /// The codes of the parts of all tokens.
    pub(super) fn subcodes(&self) -> &[[u8; PARTS]] {
        self.file[self.subcodes.clone()].as_chunks().0
    }

    /// Where a document's tokens stand.
    pub(super) fn tokens_of(&self, document: usize) -> Range<usize> {
        self.offsets[document]..self.offsets[document + 1]
    }

    /// The residuals of such tokens.
    pub(super) fn residuals(&self, tokens: Range<usize>) -> &[u8] {
        let width = self.buckets.row_bytes(self.dim);
        &self.file[self.residuals.clone()][tokens.start * width..tokens.end * width]
    }

    /// The error for contents that nobody wrote like this.
    pub(super) fn damaged(&self, key: &str) -> Error {
        Error::model(&self.path, key, "is damaged")
    }

    fn cast<T: Pod>(&self, key: &str, range: &Range<usize>) -> Result<&[T]> {
        try_cast_slice(&self.file[range.clone()]).map_err(|_| self.damaged(key))
    }
}
