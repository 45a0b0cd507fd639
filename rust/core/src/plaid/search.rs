//! The stages of a search: each looks more closely at fewer documents.

use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};

use super::segment::PlaidSegment;
use super::table::Table;
use crate::error::{Error, Result};
use crate::kernels::{Cpu, Panels};
use crate::maxsim::Ordered;
use crate::queue::{self, GoOn, Observer};

/// Centroids of a job.
const CENTROIDS: usize = 512;

/// Documents of a job that looks up bytes.
const DOCUMENTS: usize = 1024;

/// Documents of a job that multiplies.
const FULL: usize = 32;

/// So many times as many documents as are scored by their residuals are scored by their parts.
const BY_PARTS: usize = 16;

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
        let candidates = places.map_or_else(|| (0..all as u32).collect(), <[u32]>::to_vec);
        let most = options.n_full_scores.max(options.k);
        let near = if candidates.len() > most {
            self.shortlist(query, &panels, options.n_ivf_probe, candidates, most, cpu, &mut *observer)?
        } else {
            candidates
        };
        let scored = self.by_residuals(&panels, &near, cpu, observer)?;
        let order = |(place, score): &Scored| (Reverse(Ordered(*score + 0.0)), *place);
        let mut found = best(scored, options.k, order);
        found.sort_unstable_by_key(order);
        Ok(found)
    }

    /// Those of the candidates, `most` of them, that their codes say are best; rising, as they lie in the file.
    #[allow(clippy::too_many_arguments)] // all that the stages share
    fn shortlist(
        &self,
        query: &[f32],
        panels: &Panels,
        n_ivf_probe: Option<usize>,
        mut near: Vec<u32>,
        most: usize,
        cpu: Cpu,
        observer: Observer,
    ) -> Result<Vec<u32>> {
        let products = self.products(panels, cpu, &mut *observer)?;
        if let Some(probe) = n_ivf_probe.filter(|probe| *probe < self.partitions()) {
            self.keep_probed(&products, panels, probe, &mut near)?;
        }
        let table = Table::new(&products, panels.stride(), query, self, cpu.simd)?;
        for (count, parts) in [(most.saturating_mul(BY_PARTS), false), (most, true)] {
            if near.len() > count {
                let scored = self.by_codes(&table, &near, parts, cpu, &mut *observer)?;
                let first = best(scored, count, |(place, score)| (Reverse(*score), *place));
                near = first.into_iter().map(|(place, _)| place).collect();
                near.sort_unstable();
            }
        }
        Ok(near)
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

    /// Keeps those that have a token near one of the query's.
    fn keep_probed(
        &self,
        products: &[f32],
        panels: &Panels,
        probe: usize,
        candidates: &mut Vec<u32>,
    ) -> Result<()> {
        let mut cells = vec![false; self.partitions()];
        for token in 0..panels.columns() {
            let column = products.iter().skip(token).step_by(panels.stride()).copied();
            let order = |(cell, product): &Scored| (Reverse(Ordered(*product)), *cell);
            for (cell, _) in best((0u32..).zip(column).collect(), probe, order) {
                cells[cell as usize] = true;
            }
        }
        let mut has = vec![false; self.rows().len()];
        for cell in (0..cells.len()).filter(|cell| cells[*cell]) {
            for document in self.cell(cell)? {
                *has.get_mut(*document as usize).ok_or_else(|| self.damaged("documents"))? = true;
            }
        }
        candidates.retain(|place| has[*place as usize]);
        Ok(())
    }

    /// Every document's score if each of its tokens were its centroid, or that with what the parts add.
    fn by_codes(
        &self,
        table: &Table,
        places: &[u32],
        parts: bool,
        cpu: Cpu,
        observer: Observer,
    ) -> Result<Vec<(u32, u32)>> {
        let (codes, subcodes, scales) = (self.codes()?, self.subcodes(), self.scales());
        let mut scored: Vec<(u32, u32)> = places.iter().map(|place| (*place, 0)).collect();
        let jobs = scored.chunks_mut(DOCUMENTS).collect();
        let worker = || {
            |documents: &mut [(u32, u32)], _: GoOn| {
                for (place, score) in documents.iter_mut() {
                    let tokens = self.tokens_of(*place as usize);
                    let found = if parts {
                        table.by_parts(&codes[tokens.clone()], &subcodes[tokens.clone()], &scales[tokens])
                    } else {
                        table.by_centroids(&codes[tokens])
                    };
                    *score = found.ok_or_else(|| self.damaged("codes"))?;
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
        let (dim, centroids, codes, scales) = (self.dim(), self.centroids()?, self.codes()?, self.scales());
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
                    let residuals =
                        self.residuals(tokens.clone()).chunks_exact(width).zip(&scales[tokens.clone()]);
                    let coded = rows.chunks_exact_mut(dim).zip(&codes[tokens]).zip(residuals);
                    for ((row, code), (bytes, scale)) in coded {
                        let start = usize::from(*code) * dim;
                        let centroid =
                            centroids.get(start..start + dim).ok_or_else(|| self.damaged("codes"))?;
                        self.buckets().decompress(bytes, *scale, centroid, row);
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

/// The `count` first by a key, in no particular order.
fn best<T, K: Ord>(mut all: Vec<T>, count: usize, key: impl Fn(&T) -> K) -> Vec<T> {
    if count < all.len() {
        all.select_nth_unstable_by_key(count, key);
        all.truncate(count);
    }
    all
}
