//! The only error type that leaves the crate.
//!
//! Kinds carry fields, and a message names the thing, what came, what was wanted and the way out.

use std::path::{Path, PathBuf};

/// What every fallible function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder that must exist does not.
    #[error("{}: {problem}", path.display())]
    Missing {
        /// The path that was looked for.
        path: PathBuf,
        /// What it is needed for, and the way out.
        problem: String,
    },
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file in question.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// A checkpoint that cannot be used as it is.
    #[error("{}: {}{problem}", file.display(), if key.is_empty() { String::new() } else { format!("{key}: ") })]
    Model {
        /// The file at fault.
        file: PathBuf,
        /// The key or tensor inside it; empty if the whole file is at fault.
        key: String,
        /// What was found, what was wanted, the way out.
        problem: String,
    },
    /// An argument outside what the function takes.
    #[error("{name}: got {got}, wanted {wanted}")]
    Argument {
        /// The argument's name.
        name: String,
        /// What came.
        got: String,
        /// What is accepted.
        wanted: String,
    },
    /// Arrays whose sizes do not fit together.
    #[error("{what}: got {got}, wanted {wanted}")]
    Shape {
        /// Which array.
        what: String,
        /// The size or value that came.
        got: String,
        /// The size or value that fits.
        wanted: String,
    },
    /// A device that is unknown or that this build cannot reach.
    #[error("device {name:?}: {problem}")]
    Device {
        /// The name that was given.
        name: String,
        /// Why it cannot be used.
        problem: String,
    },
    /// A hub name that did not become a folder.
    #[cfg(feature = "hub")]
    #[error("{repository:?} (revision {revision:?}): {problem}")]
    Hub {
        /// The hub name.
        repository: String,
        /// The branch, tag or commit that was asked for.
        revision: String,
        /// What went wrong.
        kind: crate::hub::HubErrorKind,
        /// The same in words, and the way out.
        problem: String,
    },
    /// The caller's observer asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The tensor library failed: a defect of this crate, not of the input.
    #[error("internal error: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn model(file: &Path, key: &str, problem: impl Into<String>) -> Self {
        Self::Model { file: file.to_owned(), key: key.to_owned(), problem: problem.into() }
    }

    pub(crate) fn argument(name: &str, got: impl std::fmt::Display, wanted: impl Into<String>) -> Self {
        Self::Argument { name: name.to_owned(), got: got.to_string(), wanted: wanted.into() }
    }

    pub(crate) fn shape(
        what: impl Into<String>,
        got: impl std::fmt::Display,
        wanted: impl Into<String>,
    ) -> Self {
        Self::Shape { what: what.into(), got: got.to_string(), wanted: wanted.into() }
    }

    /// A failed read: a missing file keeps its own kind, because a caller handles it differently.
    pub(crate) fn reading(path: &Path, source: std::io::Error, hint: &str) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            Self::Missing { path: path.to_owned(), problem: format!("no such file; {hint}") }
        } else {
            Self::Io { path: path.to_owned(), source }
        }
    }
}
