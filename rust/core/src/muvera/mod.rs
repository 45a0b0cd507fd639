//! MUVERA: fixed dimensional encodings, one long vector a text whose inner products imitate MaxSim.
//!
//! Rows fall into clusters by the sides of random hyperplanes; a query adds up the rows of each cluster, a document
//! averages them, and all clusters of all repetitions, made smaller by random signs, stand end to end (Dhulipala et al.,
//! "MUVERA: Multi-Vector Retrieval via Fixed Dimensional Encodings", 2024).
//!
//! Which random numbers are drawn, and what stands in an empty cluster, is left open by the paper. Here it is as in
//! FastEmbed, number for number.

mod block;
mod partition;
mod pcg64;
mod ziggurat;

use crate::error::{Error, Result};
use crate::kernels::Cpu;
use crate::matrices::Matrices;
use crate::queue::Observer;
use crate::single::one_each;
use block::{Block, Role, Scratch};
use partition::Partition;
use pcg64::Pcg64;

/// The longest row.
const MAX_DIM: usize = 1 << 16;

/// The longest encoding, of 64 MiB.
const MAX_SIZE: usize = 1 << 24;

/// The largest random matrices: half a gigabyte of hyperplanes.
const MAX_DRAWN: usize = 1 << 26;

/// What an encoding is made with. Vectors of two encoders can be compared if all of it is equal, and `dim`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MuveraOptions {
    /// Hyperplanes a repetition, which make `2^ksim` clusters.
    pub ksim: usize,
    /// How many values a cluster's vector is projected to; `dim` of them are the vector itself.
    pub dprojections: usize,
    /// How often all is repeated, each time with other hyperplanes and signs.
    pub repetitions: usize,
    /// The seed of numpy's `default_rng`.
    pub seed: u128,
}

impl Default for MuveraOptions {
    /// FastEmbed's defaults.
    fn default() -> Self {
        Self { ksim: 5, dprojections: 16, repetitions: 20, seed: 42 }
    }
}

/// Encodes matrices of rows of `dim` values into single vectors; see [the options](MuveraOptions).
///
/// ```
/// use chandelier::{Cpu, MultiVectors, Muvera, MuveraOptions};
/// let options = MuveraOptions { dprojections: 2, ksim: 3, ..MuveraOptions::default() };
/// let muvera = Muvera::new(2, &options, Cpu::detect()?)?;
/// let texts = MultiVectors::new(vec![1.0, 0.0, 0.0, 1.0, -0.6, 0.8], vec![0, 2, 3], 2)?;
/// let documents = muvera.encode_documents(&(&texts).into(), &mut |_| Ok(()))?;
/// assert_eq!(documents.len(), 2 * muvera.size());
/// # Ok::<(), chandelier::Error>(())
/// ```
pub struct Muvera {
    dim: usize,
    options: MuveraOptions,
    cpu: Cpu,
    signs: Vec<i8>,
    partition: Partition,
    blocks: Vec<Block>,
}

impl Muvera {
    /// Draws the hyperplanes and signs for rows of `dim` values. How much of the processor the calls then use changes
    /// no bit of what they return.
    ///
    /// # Errors
    /// [`Error::Argument`] if a number is 0 (but for `ksim` and `seed`), if there are more projections than `dim`, or
    /// if the encodings, or what is drawn for them, would be larger than any use of them.
    pub fn new(dim: usize, options: &MuveraOptions, cpu: Cpu) -> Result<Self> {
        let MuveraOptions { ksim, dprojections, repetitions, seed } = *options;
        if !(1..=MAX_DIM).contains(&dim) {
            return Err(Error::argument("dim", dim, format!("from 1 to {MAX_DIM}")));
        }
        if !(1..=dim).contains(&dprojections) {
            return Err(Error::argument("dprojections", dprojections, format!("from 1 to dim, {dim} here")));
        }
        if repetitions == 0 {
            return Err(Error::argument("repetitions", repetitions, "at least 1"));
        }
        // Wide enough for anything: a power of two is cut off where it is too large already.
        let size = (repetitions as u128 * dprojections as u128) << ksim.min(25);
        if size > MAX_SIZE as u128 {
            let got = format!("{ksim} with {repetitions} repetitions of {dprojections} projections");
            let wanted = format!("repetitions * 2^ksim * dprojections of at most {MAX_SIZE}");
            return Err(Error::argument("ksim", got, wanted));
        }
        let projected = if dprojections < dim { dprojections } else { 0 };
        if repetitions * dim * ksim.max(projected) > MAX_DRAWN {
            let got =
                format!("{repetitions} with {ksim} hyperplanes and {dprojections} projections of dim {dim}");
            let wanted = format!("at most {MAX_DRAWN} values to draw");
            return Err(Error::argument("repetitions", got, wanted));
        }
        let mut random = Pcg64::new(seed);
        let partition = Partition::draw(dim, ksim, repetitions, cpu.simd, &mut random);
        let signs = random.signs(repetitions * dim * projected);
        let block = |index| {
            let count = dim * projected;
            Block::new(dim, dprojections, &signs[index * count..][..count], cpu.simd)
        };
        let blocks = (0..repetitions).map(block).collect();
        Ok(Self { dim, options: *options, cpu, partition, blocks, signs })
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What this was made with.
    pub fn options(&self) -> &MuveraOptions {
        &self.options
    }

    /// The length of an encoding: `repetitions * 2^ksim * dprojections`.
    pub fn size(&self) -> usize {
        (self.options.repetitions * self.options.dprojections) << self.options.ksim
    }

    /// What makes encodings comparable: the implementation and everything that this was made with.
    pub fn fingerprint(&self) -> String {
        let MuveraOptions { ksim, dprojections, repetitions, seed } = self.options;
        format!(
            "muvera-fastembed-dim{}-ksim{ksim}-dproj{dprojections}-reps{repetitions}-seed{seed}",
            self.dim
        )
    }

    /// The normal vectors of the hyperplanes, `[repetitions, dim, ksim]`.
    pub fn hyperplanes(&self) -> Vec<f64> {
        self.partition.planes()
    }

    /// The signs that project, `[repetitions, dim, dprojections]` of -1 and 1; empty if nothing is projected.
    pub fn signs(&self) -> &[i8] {
        &self.signs
    }

    /// One encoding a query, flat: the rows of a cluster are added up.
    ///
    /// # Errors
    /// [`Error::Shape`] if rows have another length than `dim` or a query has none, [`Error::Argument`] for a value
    /// that is not finite, for sums that overflow float32, or if the encodings do not fit into memory; and whatever
    /// the observer returns, who is told how many are done.
    pub fn encode_queries(&self, queries: &Matrices, observer: Observer) -> Result<Vec<f32>> {
        self.encode("queries", Role::Query, queries, observer)
    }

    /// One encoding a document, flat: the rows of a cluster are averaged, and an empty cluster holds the first row of
    /// the cluster that differs from it in the fewest hyperplanes (of several the one with the lowest number).
    ///
    /// # Errors
    /// As [`Muvera::encode_queries`].
    pub fn encode_documents(&self, documents: &Matrices, observer: Observer) -> Result<Vec<f32>> {
        self.encode("documents", Role::Document, documents, observer)
    }

    fn encode(&self, name: &str, role: Role, texts: &Matrices, observer: Observer) -> Result<Vec<f32>> {
        if texts.dim() != self.dim {
            let wanted = format!("rows of {}, for which this encoder was made", self.dim);
            return Err(Error::shape(name, format!("rows of {}", texts.dim()), wanted));
        }
        one_each(name, texts, self.size(), self.cpu, observer, |rows, encoding, go_on| {
            let count = rows.len() / self.dim;
            let mut clusters = Vec::new();
            clusters.try_reserve_exact(self.blocks.len() * count).map_err(|_| {
                let got = format!("a text of {count} rows, whose clusters do not fit into memory");
                Error::argument(name, got, "shorter ones, or fewer repetitions")
            })?;
            clusters.resize(self.blocks.len() * count, 0);
            self.partition.find_clusters(rows, &mut clusters, &mut *go_on)?;
            let clusters = clusters.chunks_exact(count);
            let parts = encoding.chunks_exact_mut(self.size() / self.blocks.len());
            let mut scratch = Scratch::default();
            for ((block, clusters), part) in self.blocks.iter().zip(clusters).zip(parts) {
                block.encode(role, rows, clusters, &mut scratch, part);
                go_on()?;
            }
            Ok(())
        })
    }
}
