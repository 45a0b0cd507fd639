//! The stages of a search: each looks more closely at fewer documents.

use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};

use multiversion::multiversion;

use super::segment::PlaidSegment;
use crate::error::{Error, Result};
use crate::kernels::{Cpu, Panels};
use crate::maxsim::Ordered;
use crate::queue::{self, GoOn, Observer};

/// Columns of the table of bytes that are looked at together: a register.
const LANES: usize = 32;

/// Centroids of a job.
const CENTROIDS: usize = 512;

/// Documents of a job of the second stage.
const DOCUMENTS: usize = 1024;

/// Documents of a job of the third stage.
const FULL: usize = 32;

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaidSearch {
    /// How many documents are wanted.
    pub k: usize,
    /// The nearest centroids of each query token whose documents are candidates; None for all documents.
    pub n_ivf_probe: Option<usize>,
    /// How many candidates, the best by their centroids, are scored with their residuals.
    pub n_full_scores: usize,
}

/// A document's place and its score.
type Scored = (u32, f32);

impl PlaidSegment {
    /// The places of the documents that seem best, and about their scores, best first; of equal ones the first.
    ///
    /// # Errors
    /// [`Error::Shape`] if the query has no rows of the segment's dim, [`Error::Argument`] if a value is not finite or a
    /// number of `places` is none of a document or they do not rise, [`Error::Model`] if the file is damaged, and what the
    /// observer returns.
    pub fn search(
        &self,
        query: &[f32],
        options: PlaidSearch,
        places: Option<&[u32]>,
        cpu: Cpu,
        observer: Observer,
    ) -> Result<Vec<Scored>> {
        if query.is_empty() || !query.len().is_multiple_of(self.dim()) {
            let wanted = format!("one or more rows of {}", self.dim());
            return Err(Error::shape("query", format!("{} values", query.len()), wanted));
        }
        let rises = |places: &[u32]| places.is_sorted_by(|first, second| first < second);
        let last = |places: &[u32]| places.last().is_none_or(|last| (*last as usize) < self.rows().len());
        if !places.is_none_or(|places| rises(places) && last(places)) {
            let wanted = format!("rising numbers below {}", self.rows().len());
            return Err(Error::argument("places", "other numbers", wanted));
        }
        let all = places.map_or(self.rows().len(), <[u32]>::len);
        if options.k == 0 || all == 0 {
            return Ok(Vec::new());
        }
        let panels = Panels::pack(cpu.simd, query, self.dim());
        let mut documents = if options.n_full_scores.max(options.k) < all {
            let products = self.products(&panels, cpu, &mut *observer)?;
            let candidates = match options.n_ivf_probe {
                Some(probe) if probe < self.partitions() => self.probed(&products, &panels, probe, places)?,
                _ => places.map_or_else(|| (0..all as u32).collect(), <[u32]>::to_vec),
            };
            let table = Table::new(&products, panels.columns(), panels.stride());
            let scored = self.by_centroids(&table, &candidates, cpu, &mut *observer)?;
            best(scored, options.n_full_scores.max(options.k), |(place, score)| (Reverse(*score), *place))
                .into_iter()
                .map(|(place, _)| place)
                .collect()
        } else {
            places.map_or_else(|| (0..all as u32).collect(), <[u32]>::to_vec)
        };
        documents.sort_unstable(); // as they lie in the file
        let scored = self.by_residuals(&panels, &documents, cpu, observer)?;
        let order = |(place, score): &Scored| (Reverse(Ordered(*score + 0.0)), *place);
        let mut found = best(scored, options.k, order);
        found.sort_unstable_by_key(order);
        Ok(found)
    }

    /// The product of every centroid with every query token, `[partitions, stride]`.
    fn products(&self, panels: &Panels, cpu: Cpu, observer: Observer) -> Result<Vec<f32>> {
        let (centroids, stride) = (self.centroids()?, panels.stride());
        let mut products = vec![0.0; self.partitions() * stride];
        let jobs =
            products.chunks_mut(CENTROIDS * stride).zip(centroids.chunks(CENTROIDS * self.dim())).collect();
        let worker = || {
            |(products, centroids): (&mut [f32], &[f32]), _: GoOn| {
                let wanted = "finite values of moderate size, and a segment that is not damaged";
                let refused = || Error::argument("query", "products that are not finite", wanted);
                panels.products(centroids, products).then_some(0).ok_or_else(refused)
            }
        };
        queue::run(jobs, cpu.threads, worker, observer)?;
        Ok(products)
    }

    /// Those of the places that have a token near one of the query's.
    fn probed(
        &self,
        products: &[f32],
        panels: &Panels,
        probe: usize,
        places: Option<&[u32]>,
    ) -> Result<Vec<u32>> {
        let mut cells = vec![false; self.partitions()];
        for token in 0..panels.columns() {
            let nearest =
                (0u32..).zip(products.iter().skip(token).step_by(panels.stride()).copied()).collect();
            for (cell, _) in best(nearest, probe, |(cell, product)| (Reverse(Ordered(*product)), *cell)) {
                cells[cell as usize] = true;
            }
        }
        let mut has = vec![false; self.rows().len()];
        for cell in (0..cells.len()).filter(|cell| cells[*cell]) {
            for document in self.cell(cell)? {
                *has.get_mut(*document as usize).ok_or_else(|| self.damaged("documents"))? = true;
            }
        }
        Ok(match places {
            None => (0u32..).zip(&has).filter_map(|(place, has)| has.then_some(place)).collect(),
            Some(places) => places.iter().copied().filter(|place| has[*place as usize]).collect(),
        })
    }

    /// Every document's score if each of its tokens were its centroid.
    fn by_centroids(
        &self,
        table: &Table,
        places: &[u32],
        cpu: Cpu,
        observer: Observer,
    ) -> Result<Vec<(u32, u32)>> {
        let codes = self.codes()?;
        let mut scored: Vec<(u32, u32)> = places.iter().map(|place| (*place, 0)).collect();
        let jobs = scored.chunks_mut(DOCUMENTS).collect();
        let worker = || {
            |documents: &mut [(u32, u32)], _: GoOn| {
                for (place, score) in documents.iter_mut() {
                    let codes = &codes[self.tokens_of(*place as usize)];
                    *score = table.score(codes).ok_or_else(|| self.damaged("codes"))?;
                }
                Ok(0)
            }
        };
        queue::run(jobs, cpu.threads, worker, observer)?;
        Ok(scored)
    }

    /// MaxSim with the rows as the residuals tell them.
    fn by_residuals(
        &self,
        panels: &Panels,
        places: &[u32],
        cpu: Cpu,
        observer: Observer,
    ) -> Result<Vec<Scored>> {
        let (dim, centroids, codes) = (self.dim(), self.centroids()?, self.codes()?);
        let width = self.buckets().row_bytes(dim);
        let scored = Mutex::new(Vec::with_capacity(places.len()));
        let worker = || {
            let (mut rows, mut best) = (Vec::new(), vec![0.0; panels.stride()]);
            let scored = &scored;
            move |places: &[u32], _: GoOn| {
                let mut found = Vec::with_capacity(places.len());
                for place in places {
                    let tokens = self.tokens_of(*place as usize);
                    rows.resize(tokens.len() * dim, 0.0);
                    let residuals = self.residuals(tokens.clone()).chunks_exact(width);
                    for ((row, code), bytes) in rows.chunks_exact_mut(dim).zip(&codes[tokens]).zip(residuals)
                    {
                        let start = usize::from(*code) * dim;
                        let centroid =
                            centroids.get(start..start + dim).ok_or_else(|| self.damaged("codes"))?;
                        self.buckets().decompress(bytes, centroid, row);
                    }
                    best.fill(f32::NEG_INFINITY);
                    if !panels.maxima(&rows, &mut best) {
                        let wanted = "finite values of moderate size, and a segment that is not damaged";
                        return Err(Error::argument("query", "products that are not finite", wanted));
                    }
                    found.push((*place, best[..panels.columns()].iter().sum()));
                }
                scored.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                Ok(0)
            }
        };
        queue::run(places.chunks(FULL).collect(), cpu.threads, worker, observer)?;
        Ok(scored.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The products of centroids and query tokens in a byte each: for the second stage, which only ranks.
struct Table {
    /// `[partitions, stride]`.
    bytes: Vec<u8>,
    stride: usize,
}

impl Table {
    /// A token's largest product is 255, what is less than its average 0; all have the same step, so that they add up.
    fn new(products: &[f32], tokens: usize, product_stride: usize) -> Self {
        let stride = tokens.next_multiple_of(LANES);
        let mut most = vec![f32::NEG_INFINITY; tokens];
        let mut sums = vec![0.0f64; tokens];
        for row in products.chunks_exact(product_stride) {
            for ((most, sum), x) in most.iter_mut().zip(&mut sums).zip(row) {
                *most = most.max(*x);
                *sum += f64::from(*x);
            }
        }
        let partitions = products.len() / product_stride;
        let ranges = most.iter().zip(&sums).map(|(most, sum)| most - (sum / partitions as f64) as f32);
        let step = (ranges.fold(0.0, f32::max) / 255.0).max(f32::MIN_POSITIVE);
        let mut bytes = vec![0u8; partitions * stride];
        for (bytes, row) in bytes.chunks_exact_mut(stride).zip(products.chunks_exact(product_stride)) {
            for ((byte, x), most) in bytes.iter_mut().zip(row).zip(&most) {
                *byte = (255.5 - (most - x) / step) as u8; // never below 0, nor above 255
            }
        }
        Self { bytes, stride }
    }

    /// The sum over the query's tokens of the best of a document's codes; None if a code is none of a centroid.
    fn score(&self, codes: &[u16]) -> Option<u32> {
        (0..self.stride).step_by(LANES).map(|column| score(&self.bytes, self.stride, column, codes)).sum()
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn score(bytes: &[u8], stride: usize, column: usize, codes: &[u16]) -> Option<u32> {
    let mut best = [0u8; LANES];
    for code in codes {
        let row: &[u8; LANES] = bytes.get(usize::from(*code) * stride + column..)?.first_chunk()?;
        for (best, byte) in best.iter_mut().zip(row) {
            *best = (*best).max(*byte);
        }
    }
    Some(best.iter().map(|byte| u32::from(*byte)).sum())
}

/// The `count` first by a key, in no particular order.
fn best<T, K: Ord>(mut all: Vec<T>, count: usize, key: impl Fn(&T) -> K) -> Vec<T> {
    if count < all.len() {
        all.select_nth_unstable_by_key(count, key);
        all.truncate(count);
    }
    all
}
