//! A folder on disk -> one typed [`Spec`], in which every setting says where its value came from.

mod json;
mod pylate;
mod tokenizer_files;
mod weights;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use json::JsonFile;
pub(crate) use tokenizer_files::TokenizerFiles;
pub(crate) use weights::{Provenance, Weights};

use crate::error::{Error, Result};
use crate::ops::Activation;

/// What a caller may set when a model is opened; `None` means "as the model says".
#[derive(Debug, Clone, Default)]
pub struct Knobs {
    /// Tokens of a query, prefix and special tokens included.
    pub query_length: Option<usize>,
    /// Most tokens of a document, prefix and special tokens included.
    pub document_length: Option<usize>,
    /// The token put before queries; `""` means none.
    pub query_prefix: Option<String>,
    /// The token put before documents; `""` means none.
    pub document_prefix: Option<String>,
    /// Tokens whose document rows are dropped; empty means none.
    pub skiplist_words: Option<Vec<String>>,
    /// Whether queries are filled up to `query_length` with mask tokens whose rows count.
    pub do_query_expansion: Option<bool>,
    /// Whether the other tokens see those mask tokens.
    pub attend_to_expansion_tokens: Option<bool>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The caller.
    Argument,
    /// A key of a checkpoint file.
    File {
        /// The file.
        file: PathBuf,
        /// The key inside it.
        key: String,
    },
    /// PyLate's default, or that of [`crate::ColBert::from_bert`].
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument => f.write_str("argument"),
            Self::File { file, key } => {
                write!(f, "{}: {key}", file.file_name().unwrap_or_default().to_string_lossy())
            }
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value in force.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T: fmt::Debug> Setting<T> {
    /// The error for a value that does not fit the rest of the model: it blames the file that the value came from,
    /// else the argument.
    pub(crate) fn unfit(&self, argument: &str, wanted: impl Into<String>) -> Error {
        let got = format!("{:?} ({})", self.value, self.origin);
        match &self.origin {
            Origin::File { file, key } => {
                Error::model(file, key, format!("got {got}, wanted {}", wanted.into()))
            }
            Origin::Argument | Origin::Default => Error::argument(argument, got, wanted),
        }
    }
}

/// One Dense layer of the projection: `act(W x + b)`, then the residual.
#[derive(Debug, Clone)]
pub struct DenseSpec {
    pub(crate) folder: PathBuf,
    /// Inputs.
    pub in_features: usize,
    /// Outputs.
    pub out_features: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// The activation, applied before the residual.
    pub activation: Activation,
    /// Whether the input (projected if the sizes differ) is added at the end.
    pub use_residual: bool,
}

/// Everything that a checkpoint folder says, and what the caller said over it.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The folder.
    pub root: PathBuf,
    pub(crate) transformer: PathBuf,
    /// The Dense chain, in `modules.json` order.
    pub dense: Vec<DenseSpec>,
    /// See [`Knobs::query_length`].
    pub query_length: Setting<usize>,
    /// See [`Knobs::document_length`].
    pub document_length: Setting<usize>,
    /// See [`Knobs::query_prefix`].
    pub query_prefix: Setting<String>,
    /// See [`Knobs::document_prefix`].
    pub document_prefix: Setting<String>,
    /// See [`Knobs::skiplist_words`].
    pub skiplist_words: Setting<Vec<String>>,
    /// See [`Knobs::do_query_expansion`].
    pub do_query_expansion: Setting<bool>,
    /// See [`Knobs::attend_to_expansion_tokens`].
    pub attend_to_expansion_tokens: Setting<bool>,
    /// Whether the text is lowercased before it is tokenised.
    pub do_lower_case: Setting<bool>,
    /// Named prompts, used on request only.
    pub prompts: Vec<(String, String)>,
    /// The prompt that is used without being asked for, if the model has one.
    pub default_prompt_name: Option<String>,
}

/// Whether the checkpoint must have a projection, or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projection {
    Required,
    Absent,
}

impl Spec {
    /// Reads a folder in PyLate's format.
    pub(crate) fn read(root: &Path, projection: Projection, knobs: &Knobs) -> Result<Self> {
        pylate::read(root, projection, knobs)
    }
}
