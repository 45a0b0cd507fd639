//! ColBERT late interaction: text in, one vector a token out, MaxSim between them.
//!
//! The pipeline, in the order of the modules:
//!
//! ```text
//! checkpoint  folder -> Spec            what the files say, and where each value came from
//! tokenize    text   -> Tokens          prefix, truncation, query expansion, keep mask
//! windows     text   -> parts           of a text that is too long, as much as the model reads
//! batch       Tokens -> Batch           ragged: ids end to end, nothing padded
//! encoder     Batch  -> hidden states   one architecture a file, written on `ops`
//! project     hidden -> MultiVectors    Dense chain, keep mask, L2 normalisation
//! pool        MultiVectors -> fewer     token pooling, where a checkpoint or a caller asks for it
//! maxsim      MultiVectors -> scores
//! explain     two texts -> why          which tokens matched, what that was worth, and where they stand
//! muvera      MultiVectors -> vectors   one a text, to find candidates by; `mean` is the small one, `recall` measures
//! plaid       MultiVectors -> a file    an index of centroids and residuals, to find candidates by
//! ```
//!
//! [`ColBert`] wires it together:
//!
//! ```no_run
//! use chandelier::{maxsim, ColBert};
//!
//! let model = ColBert::open("path/to/checkpoint")?;
//! let documents = model.encode_documents(&["Paris is in France.", "Bread needs flour."])?;
//! let query = model.encode_queries(&["where is Paris?"])?;
//! let scores = maxsim(query.get(0), &documents)?;
//! assert!(scores[0] > scores[1]);
//! # Ok::<(), chandelier::Error>(())
//! ```
//!
//! With the feature `hub`, `ColBert::from_hub` opens a model by its hub name.
//!
//! The features `cuda` and `metal` let a model be opened on a GPU.
//!
//! Results equal PyLate's (>= 1.5): ids, attention and kept rows exactly, values within 2e-5.

pub mod batch;
pub mod checkpoint;
mod decimals;
pub mod device;
mod encoder;
mod error;
mod explain;
mod files;
#[cfg(feature = "hub")]
pub mod hub;
pub mod kernels;
mod matrices;
mod maxsim;
mod mean;
mod memory;
mod model;
mod multivectors;
mod muvera;
pub mod ops;
mod panics;
#[cfg(feature = "native")]
mod plaid;
mod pool;
mod project;
mod queue;
mod recall;
mod rows;
mod single;
#[cfg(feature = "native")]
pub mod storage;
mod team;
mod threads;
pub mod tokenize;
mod windows;

pub use batch::Batch;
pub use checkpoint::{Knobs, Spec};
pub use decimals::short_decimals;
pub use error::{Error, Result};
pub use explain::{
    ExplainedText, Explanation, Match, TextExplanation, WeightedSpan, explain, readable_spans, weighted_spans,
};
pub use files::Files;
pub use kernels::Cpu;
pub use matrices::{Matrices, MatrixView};
pub use maxsim::{maxsim, maxsim_matrix, maxsim_with, top_k, top_k_each};
pub use mean::mean_vectors;
pub use model::{BATCH_TOKENS, ColBert, EncodeOptions, MAX_BATCH_TOKENS, OpenOptions, Prompt};
pub use multivectors::{MultiVectors, MultiVectorsView};
pub use muvera::{Muvera, MuveraOptions};
#[cfg(feature = "native")]
pub use plaid::{PlaidBuilder, PlaidSearch, PlaidSegment, plaid_partitions};
pub use pool::{Pooling, pool_tokens};
pub use project::DenseShape;
pub use queue::Observer;
pub use recall::{Candidates, Share, share_found};
pub use rows::check_rows;
pub use threads::default_threads;
pub use tokenize::{Role, Tokens};
