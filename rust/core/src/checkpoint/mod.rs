//! A folder on disk -> one typed [`Spec`], in which every setting says where its value came from.

mod json;
mod modules;
mod multi_vector;
mod pylate;
mod stanford;
mod tokenizer_files;
mod weights;

use std::fmt;
use std::path::PathBuf;

pub(crate) use json::JsonFile;
pub(crate) use tokenizer_files::{TokenizerFiles, guarded};
pub(crate) use weights::{Provenance, Weights};

use crate::error::{Error, Result};
use crate::files::Place;
use crate::pool::Pooling;
use crate::project::DenseShape;
use crate::tokenize::Role;

/// `string.punctuation`, PyLate's default skiplist.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// The names under which sentence-transformers has saved this file, newest first.
const TRANSFORMER_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

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

impl<T> Setting<T> {
    fn or_default(argument: Option<T>, default: T) -> Self {
        match argument {
            Some(value) => Self { value, origin: Origin::Argument },
            None => Self { value: default, origin: Origin::Default },
        }
    }

    fn from_file(value: T, file: &JsonFile, key: &str) -> Self {
        Self { value, origin: Origin::File { file: file.path.clone(), key: key.to_owned() } }
    }
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

/// One Dense layer of the projection, and where its weights are.
#[derive(Debug, Clone)]
pub(crate) struct DenseSpec {
    pub(crate) folder: Place,
    pub(crate) shape: DenseShape,
}

/// Who wrote a checkpoint, which decides what its texts go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// PyLate, all versions; and what sentence-transformers wrote for single vectors.
    PyLate,
    /// Stanford's ColBERT, `HF_ColBERT`.
    Stanford,
    /// sentence-transformers 6 and newer.
    MultiVectorEncoder,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PyLate => "PyLate",
            Self::Stanford => "Stanford (HF_ColBERT)",
            Self::MultiVectorEncoder => "sentence-transformers 6 (MultiVectorEncoder)",
        })
    }
}

/// Token pooling that a checkpoint prescribes.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolingSpec {
    /// How rows are pooled.
    pub pooling: Pooling,
    /// Whose rows.
    pub roles: Vec<Role>,
}

/// Everything that a checkpoint folder says, and what the caller said over it.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The folder.
    pub root: PathBuf,
    pub(crate) transformer: Place,
    /// Who wrote it.
    pub format: Format,
    /// The Dense chain, in `modules.json` order; Stanford's stands among the backbone's weights instead.
    pub(crate) dense: Vec<DenseSpec>,
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
    /// Whose rows the skiplist drops.
    pub skiplist_roles: Vec<Role>,
    /// If not empty, the only tokens whose document rows are kept.
    pub keep_only_token_ids: Vec<u32>,
    /// See [`Knobs::do_query_expansion`].
    pub do_query_expansion: Setting<bool>,
    /// The fewest rows of an expanded query; `query_length`, but for a model that leaves long queries long.
    pub expansion_length: Setting<usize>,
    /// The token that fills queries, where the checkpoint names one.
    pub expansion_token: Option<String>,
    /// See [`Knobs::attend_to_expansion_tokens`].
    pub attend_to_expansion_tokens: Setting<bool>,
    /// Whether the text is lowercased before it is tokenised.
    pub do_lower_case: Setting<bool>,
    /// Named prompts.
    pub prompts: Vec<(String, String)>,
    /// The prompt that queries have without being asked for, if any.
    pub query_prompt_name: Option<String>,
    /// The prompt that documents have without being asked for, if any.
    pub document_prompt_name: Option<String>,
    /// Whether rows are divided by their length.
    pub normalize: bool,
    /// What is pooled after that.
    pub pooling: Option<PoolingSpec>,
    /// Whether the model asks for the mean over query rows instead of the sum: the order of documents is the same.
    pub mean_similarity: bool,
}

/// Whether the checkpoint must have a projection, or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projection {
    Required,
    Absent,
}

impl Spec {
    /// Reads a folder in any of the three formats.
    pub(crate) fn read(root: &Place, projection: Projection, knobs: &Knobs) -> Result<Self> {
        root.check_folder()?;
        let modules = modules::read(root)?;
        let config = JsonFile::open_optional(&root.join("config_sentence_transformers.json"))?;
        let is_native = config.string("model_type")?.as_deref() == Some("MultiVectorEncoder");
        let has_dense = modules.iter().flatten().any(|module| module.kind == "Dense");
        let transformer = modules.iter().flatten().next().map_or(root, |module| &module.folder);
        let is_stanford = !has_dense && stanford::is_stanford(transformer)?;
        match projection {
            Projection::Required if is_native => {
                let missing = || Error::Missing {
                    path: root.join("modules.json").path().to_owned(),
                    problem: "no such file; a MultiVectorEncoder lists its modules in it".to_owned(),
                };
                multi_vector::read(root, modules.ok_or_else(missing)?, &config, knobs)
            }
            Projection::Absent if is_native => {
                let problem = "got \"MultiVectorEncoder\", which has a projection; from_bert is for models without one, open this one as ColBERT (without --from-bert)";
                Err(config.error("model_type", problem))
            }
            Projection::Required if is_stanford => stanford::read(root, transformer.clone(), knobs),
            Projection::Absent if is_stanford => {
                let problem = "got HF_ColBERT, which has a projection; from_bert is for models without one, open this one as ColBERT (without --from-bert)";
                Err(Error::model(transformer.join("config.json").path(), "architectures", problem))
            }
            _ => pylate::read(root, modules, &config, projection, knobs),
        }
    }

    /// What holds where a format says nothing.
    fn plain(root: &Place, transformer: Place) -> Self {
        fn default<T: Default>() -> Setting<T> {
            Setting { value: T::default(), origin: Origin::Default }
        }
        Self {
            root: root.path().to_owned(),
            transformer,
            format: Format::PyLate,
            dense: Vec::new(),
            query_length: default(),
            document_length: default(),
            query_prefix: default(),
            document_prefix: default(),
            skiplist_words: default(),
            skiplist_roles: vec![Role::Document],
            keep_only_token_ids: Vec::new(),
            do_query_expansion: default(),
            expansion_length: default(),
            expansion_token: None,
            attend_to_expansion_tokens: default(),
            do_lower_case: default(),
            prompts: Vec::new(),
            query_prompt_name: None,
            document_prompt_name: None,
            normalize: true,
            pooling: None,
            mean_similarity: false,
        }
    }

    /// Without an expansion there is nothing of it to attend to.
    fn attend_only_to_an_expansion(&mut self) {
        if !self.do_query_expansion.value {
            let origin = self.do_query_expansion.origin.clone();
            self.attend_to_expansion_tokens = Setting { value: false, origin };
        }
    }
}

/// Argument over file over default. The file is read in any case: a wrong type is an error even where it is overruled.
fn choose<T>(
    argument: Option<T>,
    file: &JsonFile,
    key: &str,
    read: impl Fn(&JsonFile, &str) -> Result<Option<T>>,
    default: T,
) -> Result<Setting<T>> {
    let stored = read(file, key)?;
    Ok(match (argument, stored) {
        (None, Some(value)) => Setting::from_file(value, file, key),
        (argument, _) => Setting::or_default(argument, default),
    })
}

/// What sentence-transformers notes about the transformer.
fn transformer_config(folder: &Place) -> Result<JsonFile> {
    let found = TRANSFORMER_CONFIGS.iter().map(|name| folder.join(name)).find(Place::stands);
    JsonFile::open_optional(&found.unwrap_or_else(|| folder.join(TRANSFORMER_CONFIGS[0])))
}
