//! PLAID (Santhanam et al., CIKM 2022): documents whose rows are kept as the nearest of some centroids and a residual of
//! a few bits a value, and searched in stages, each of which leaves fewer for the next.
//!
//! ```text
//! kmeans     sample of rows -> centroids
//! subspaces  row minus centroid -> eight bytes, enough to rank by
//! residual   row minus centroid -> a few bits a value, and back
//! build      rows -> codes, residuals, inverted file
//! segment    all of that in one safetensors file, mapped
//! table      query -> the products of all that a code can mean, in a byte each
//! search     query -> probed cells -> scores by centroids, by parts, by residuals -> the best
//! ```
//!
//! A segment never changes; who keeps documents that come and go (the Python package's `PlaidStore`) says which of its
//! documents may be found, and scores the best exactly from the rows themselves.

mod build;
mod kmeans;
mod residual;
mod search;
mod segment;
mod subspaces;
mod table;

pub use build::PlaidBuilder;
pub use search::PlaidSearch;
pub use segment::PlaidSegment;

/// Codes are 16 bits wide.
const MOST_PARTITIONS: usize = 1 << 16;

/// The number of centroids for so many rows: the power of two below `16 * sqrt(tokens)`, as ColBERTv2 has it, at most
/// 65,536.
///
/// ```
/// use chandelier::plaid_partitions;
/// assert_eq!([1, 100, 1_000_000, 1 << 40].map(plaid_partitions), [16, 128, 8192, 65536]);
/// ```
pub fn plaid_partitions(tokens: usize) -> usize {
    let wanted = (16.0 * (tokens.max(1) as f64).sqrt()).min(MOST_PARTITIONS as f64);
    1 << wanted.log2().floor() as u32
}
