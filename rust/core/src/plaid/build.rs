//! Documents into a segment: trained on a sample, then given a portion at a time, written in the end.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::MOST_PARTITIONS;
use super::kmeans::{Centroids, Nearness};
use super::residual::{Buckets, normalise};
use super::segment::{self, Contents};
use super::subspaces::{PARTS, Scratch, Subspaces};
use crate::error::{Error, Result};
use crate::kernels::Cpu;
use crate::matrices::MatrixView;
use crate::multivectors::MultiVectorsView;
use crate::queue::{self, GoOn, Observer};

/// Rows of the sample whose residuals tell the buckets and the codebooks of parts.
const RESIDUAL_ROWS: usize = 1 << 15;

/// Rows of a job.
const JOB: usize = 512;

/// Codes and residuals of documents, and what they were made with.
pub struct PlaidBuilder {
    centroids: Centroids,
    buckets: Buckets,
    subspaces: Subspaces,
    dim: usize,
    /// The caller's number of each document.
    rows: Vec<i64>,
    /// Where each document's tokens begin, and at the end how many there are.
    offsets: Vec<usize>,
    codes: Vec<u16>,
    subcodes: Vec<u8>,
    scales: Vec<u8>,
    residuals: Vec<u8>,
}

/// What is kept of rows beside their codes.
struct Compressed {
    subcodes: Vec<u8>,
    scales: Vec<u8>,
    residuals: Vec<u8>,
}

impl PlaidBuilder {
    /// Trains centroids and buckets on a sample of rows of `dim`; `partitions` centroids, or as many as there are rows.
    ///
    /// # Errors
    /// [`Error::Argument`] if `nbits` is neither 2 nor 4, `partitions` is not in 1 to 65,536 or a value is not finite,
    /// [`Error::Shape`] if there are no rows of `dim`, and whatever the observer returns.
    pub fn train(
        sample: MatrixView,
        dim: usize,
        nbits: usize,
        partitions: usize,
        cpu: Cpu,
        observer: Observer,
    ) -> Result<Self> {
        Buckets::check(nbits)?;
        if !(1..=MOST_PARTITIONS).contains(&partitions) {
            return Err(Error::argument("partitions", partitions, format!("1 to {MOST_PARTITIONS}")));
        }
        if dim == 0 || sample.len() == 0 || !sample.len().is_multiple_of(dim) {
            return Err(Error::shape("sample", sample.len(), format!("one or more rows of {dim}")));
        }
        let centroids = Centroids::train(sample, dim, partitions, Nearness::Cosine, cpu, &mut *observer)?;
        let (rows, mut scratch) = (sample.len() / dim, Vec::new());
        let mut residuals = Vec::new();
        for row in (0..rows).step_by(rows.div_ceil(RESIDUAL_ROWS)) {
            let view = sample.slice(row * dim..(row + 1) * dim);
            residuals.extend_from_slice(view.widened(cpu.simd, &mut scratch));
        }
        let codes = centroids.nearest(MatrixView::Float32(&residuals), cpu, &mut *observer)?;
        for (row, code) in residuals.chunks_exact_mut(dim).zip(codes) {
            row.iter_mut().zip(centroids.get(usize::from(code))).for_each(|(x, c)| *x -= c);
        }
        let buckets = Buckets::of(residuals.clone(), dim, nbits);
        residuals.chunks_exact_mut(dim).for_each(normalise);
        let subspaces = Subspaces::train(&residuals, dim, cpu, observer)?;
        Ok(Self {
            centroids,
            buckets,
            subspaces,
            dim,
            rows: Vec::new(),
            offsets: vec![0],
            codes: Vec::new(),
            subcodes: Vec::new(),
            scales: Vec::new(),
            residuals: Vec::new(),
        })
    }

    /// Takes further documents: their numbers, all their rows, and where each document's begin.
    ///
    /// # Errors
    /// [`Error::Argument`] if the numbers do not rise or a value is not finite, [`Error::Shape`] if sizes do not fit or a
    /// document has no rows, and whatever the observer returns; nothing is taken then.
    pub fn add(
        &mut self,
        rows: &[i64],
        data: MatrixView,
        offsets: &[usize],
        cpu: Cpu,
        observer: Observer,
    ) -> Result<()> {
        MultiVectorsView::check(data.len(), offsets, self.dim)?;
        if offsets.len() != rows.len() + 1 {
            return Err(Error::shape(
                "rows",
                rows.len(),
                format!("{}, one for each document", offsets.len() - 1),
            ));
        }
        if !self.rows.last().into_iter().chain(rows).is_sorted_by(|first, second| first < second) {
            return Err(Error::argument("rows", "numbers that do not rise", "rising ones"));
        }
        if let Some(place) = offsets.windows(2).position(|pair| pair[0] == pair[1]) {
            return Err(Error::shape(format!("documents[{place}]"), "no rows", "one or more"));
        }
        let codes = self.centroids.nearest(data, cpu, &mut *observer)?;
        let Compressed { subcodes, scales, residuals } = self.compress(data, &codes, cpu, observer)?;
        let tokens = self.codes.len();
        self.rows.extend_from_slice(rows);
        self.offsets.extend(offsets[1..].iter().map(|offset| tokens + offset));
        self.codes.extend_from_slice(&codes);
        self.subcodes.extend_from_slice(&subcodes);
        self.scales.extend_from_slice(&scales);
        self.residuals.extend_from_slice(&residuals);
        Ok(())
    }

    /// The codes of parts and the residuals of rows that have these codes.
    fn compress(&self, data: MatrixView, codes: &[u16], cpu: Cpu, observer: Observer) -> Result<Compressed> {
        let (dim, width) = (self.dim, self.buckets.row_bytes(self.dim));
        let all = Mutex::new(Compressed {
            subcodes: vec![0; codes.len() * PARTS],
            scales: vec![0; codes.len()],
            residuals: vec![0; codes.len() * width],
        });
        let worker = || {
            let (mut wide, mut left, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
            let (mut parts, mut scales, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
            let all = &all;
            move |start: usize, _: GoOn| {
                let end = codes.len().min(start + JOB);
                let rows = data.slice(start * dim..end * dim).widened(cpu.simd, &mut wide);
                left.clear();
                for (row, code) in rows.chunks_exact(dim).zip(&codes[start..end]) {
                    left.extend(row.iter().zip(self.centroids.get(usize::from(*code))).map(|(x, c)| x - c));
                }
                parts.clear();
                scales.clear();
                bytes.clear();
                scales.extend(left.chunks_exact(dim).map(|row| self.buckets.scale(row)));
                left.chunks_exact_mut(dim).for_each(normalise);
                self.subspaces.compress(&left, &mut scratch, &mut parts);
                left.chunks_exact(dim).for_each(|row| self.buckets.compress(row, &mut bytes));
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.subcodes[start * PARTS..end * PARTS].copy_from_slice(&parts);
                all.scales[start..end].copy_from_slice(&scales);
                all.residuals[start * width..end * width].copy_from_slice(&bytes);
                Ok(end - start)
            }
        };
        queue::run((0..codes.len()).step_by(JOB).collect(), cpu.threads, worker, observer)?;
        Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes a file that [`super::PlaidSegment`] opens, whole or not at all; what it holds is on the disk then.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Missing`] for a folder that does not exist.
    pub fn write(&self, path: &Path) -> Result<()> {
        let (cells, documents) = self.inverted();
        segment::write(
            path,
            &Contents {
                dim: self.dim,
                nbits: self.buckets.nbits(),
                row_bytes: self.buckets.row_bytes(self.dim),
                rows: &self.rows,
                offsets: &self.offsets,
                cells: &cells,
                centroids: self.centroids.values(),
                subcentroids: &self.subspaces.values(),
                cutoffs: self.buckets.cutoffs(),
                weights: self.buckets.weights(),
                unit: self.buckets.unit(),
                documents: &documents,
                codes: &self.codes,
                subcodes: &self.subcodes,
                scales: &self.scales,
                residuals: &self.residuals,
            },
        )
    }

    /// For every centroid the documents that have a token there, rising, and where each centroid's begin.
    fn inverted(&self) -> (Vec<usize>, Vec<u32>) {
        let mut cells = vec![0usize; self.centroids.values().len() / self.dim + 1];
        let each = |visit: &mut dyn FnMut(usize, u32)| {
            let mut own = Vec::new();
            for (document, ends) in self.offsets.windows(2).enumerate() {
                own.clear();
                own.extend_from_slice(&self.codes[ends[0]..ends[1]]);
                own.sort_unstable();
                own.dedup();
                own.iter().for_each(|code| visit(usize::from(*code), document as u32));
            }
        };
        each(&mut |code, _| cells[code + 1] += 1);
        for index in 1..cells.len() {
            cells[index] += cells[index - 1];
        }
        let mut documents = vec![0u32; cells[cells.len() - 1]];
        let mut next = cells.clone();
        each(&mut |code, document| {
            documents[next[code]] = document;
            next[code] += 1;
        });
        (cells, documents)
    }
}
