//! PyLate's folder format: `modules.json`, the transformer's folder, the Dense folders and the knobs.
//!
//! The order of files and the precedence of knobs (argument, file, default) follow `pylate/models/colbert.py`.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::json::{self, JsonFile};
use super::{DenseSpec, Knobs, Origin, Projection, Setting, Spec};
use crate::error::{Error, Result};
use crate::files;
use crate::ops::Activation;

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

pub(super) fn read(root: &Path, projection: Projection, knobs: &Knobs) -> Result<Spec> {
    if !root.is_dir() {
        let found = if root.exists() { "is a file" } else { "no such folder" };
        let problem = format!(
            "{found}; wanted the folder of a checkpoint (hub names are not resolved: download it first)"
        );
        return Err(Error::Missing { path: root.to_owned(), problem });
    }
    let modules = Modules::read(root, projection)?;
    let config = JsonFile::open_optional(&root.join("config_sentence_transformers.json"))?;
    if config.string("model_type")?.as_deref() == Some("MultiVectorEncoder") {
        let problem = "got \"MultiVectorEncoder\", the native format of sentence-transformers 6, which this version does not read; wanted \"ColBERT\"";
        return Err(config.error("model_type", problem));
    }
    let transformer_config = transformer_config(&modules.transformer)?;
    let dense = modules.dense.iter().map(|folder| read_dense(folder)).collect::<Result<Vec<_>>>()?;

    let from_bert = projection == Projection::Absent;
    let prefix = |text: &str| if from_bert { String::new() } else { text.to_owned() };
    let size = |argument, key, default| choose(argument, &config, key, JsonFile::size, default);
    let flag = |argument, key, default| choose(argument, &config, key, JsonFile::bool, default);
    let text = |argument, key, default| choose(argument, &config, key, JsonFile::string, default);

    let mut document_length = size(knobs.document_length, "document_length", 180)?;
    if from_bert && document_length.origin == Origin::Default {
        // Without ColBERT's own limit, a document may be as long as the transformer was trained for.
        let default = document_length.value;
        document_length = choose(None, &transformer_config, "max_seq_length", JsonFile::size, default)?;
    }
    let do_query_expansion = flag(knobs.do_query_expansion, "do_query_expansion", !from_bert)?;
    let mut attend = flag(knobs.attend_to_expansion_tokens, "attend_to_expansion_tokens", false)?;
    if !do_query_expansion.value {
        attend = Setting { value: false, origin: do_query_expansion.origin.clone() };
    }
    let punctuation = PUNCTUATION.chars().map(String::from).collect();
    Ok(Spec {
        query_length: size(knobs.query_length, "query_length", 32)?,
        document_length,
        query_prefix: text(knobs.query_prefix.clone(), "query_prefix", prefix("[Q] "))?,
        document_prefix: text(knobs.document_prefix.clone(), "document_prefix", prefix("[D] "))?,
        skiplist_words: choose(
            knobs.skiplist_words.clone(),
            &config,
            "skiplist_words",
            JsonFile::strings,
            punctuation,
        )?,
        do_query_expansion,
        attend_to_expansion_tokens: attend,
        do_lower_case: choose(None, &transformer_config, "do_lower_case", JsonFile::bool, false)?,
        prompts: config.string_map("prompts")?.unwrap_or_default(),
        default_prompt_name: default_prompt_name(&config)?,
        root: root.to_owned(),
        transformer: modules.transformer,
        dense,
    })
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
        (Some(value), _) => Setting { value, origin: Origin::Argument },
        (None, Some(value)) => {
            Setting { value, origin: Origin::File { file: file.path.clone(), key: key.to_owned() } }
        }
        (None, None) => Setting { value: default, origin: Origin::Default },
    })
}

fn default_prompt_name(config: &JsonFile) -> Result<Option<String>> {
    let Some(name) = config.string("default_prompt_name")? else { return Ok(None) };
    let prompts = config.string_map("prompts")?.unwrap_or_default();
    if prompts.iter().any(|(known, _)| *known == name) {
        return Ok(Some(name));
    }
    Err(config
        .error("default_prompt_name", format!("got {name:?}, wanted one of the names under \"prompts\"")))
}

fn transformer_config(folder: &Path) -> Result<JsonFile> {
    for name in TRANSFORMER_CONFIGS {
        let path = folder.join(name);
        if files::stands(&path) {
            return JsonFile::open_optional(&path);
        }
    }
    JsonFile::open_optional(&folder.join(TRANSFORMER_CONFIGS[0]))
}

/// The folders that `modules.json` lists, in its order.
struct Modules {
    transformer: PathBuf,
    dense: Vec<PathBuf>,
}

impl Modules {
    fn read(root: &Path, projection: Projection) -> Result<Self> {
        let path = root.join("modules.json");
        if !files::stands(&path) {
            return Self::without_list(root, &path, projection);
        }
        let Value::Array(entries) = json::read_value(&path, "")? else {
            return Err(Error::model(&path, "", "wanted a list of modules"));
        };
        let mut transformers = Vec::new();
        let mut dense = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let entry = JsonFile::nested(&path, entry)?;
            let class = entry.require("type", "the module's class", JsonFile::string)?;
            let relative = entry.require("path", "the module's folder", JsonFile::string)?;
            let folder = inside(root, &relative).ok_or_else(|| {
                entry.error("path", format!("got {relative:?}, wanted a folder inside the checkpoint"))
            })?;
            match class.rsplit('.').next().unwrap_or_default() {
                "Transformer" if index == 0 => transformers.push(folder),
                "Dense" if !relative.is_empty() => dense.push(folder),
                "Dense" => return Err(entry.error("path", "got \"\", wanted the Dense's own folder")),
                // PyLate drops these: it pools nothing and normalises by itself.
                "Pooling" | "Normalize" | "Dropout" => {}
                _ => {
                    let wanted =
                        "a Transformer first, then Dense (Pooling, Normalize and Dropout are passed over)";
                    return Err(
                        entry.error("type", format!("got {class:?} at position {index}, wanted {wanted}"))
                    );
                }
            }
        }
        let Some(transformer) = transformers.pop() else {
            return Err(Error::model(&path, "type", "the list is empty, wanted a Transformer first"));
        };
        match projection {
            Projection::Required if dense.is_empty() => {
                let problem = "no Dense module, so this is not a ColBERT checkpoint; if late interaction over the bare \
                               hidden states is what you want, open it with from_bert (--from-bert)";
                Err(Error::model(&path, "type", problem))
            }
            Projection::Absent if !dense.is_empty() => {
                let problem = "has a Dense module; from_bert is for models without one, open this one as ColBERT (without --from-bert)";
                Err(Error::model(&path, "type", problem))
            }
            _ => Ok(Self { transformer, dense }),
        }
    }

    /// A bare transformer folder is enough for `from_bert`, and only for it.
    fn without_list(root: &Path, path: &Path, projection: Projection) -> Result<Self> {
        match projection {
            Projection::Absent => Ok(Self { transformer: root.to_owned(), dense: Vec::new() }),
            Projection::Required => {
                let problem = "no such file; wanted a checkpoint in PyLate's format (a bare BERT opens with from_bert; \
                               Stanford's HF_ColBERT format is not read by this version)";
                Err(Error::Missing { path: path.to_owned(), problem: problem.to_owned() })
            }
        }
    }
}

/// `root/relative`, unless that would leave `root`.
fn inside(root: &Path, relative: &str) -> Option<PathBuf> {
    let relative = Path::new(relative);
    let stays = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    stays.then(|| if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(relative) })
}

fn read_dense(folder: &Path) -> Result<DenseSpec> {
    let config = JsonFile::open(&folder.join("config.json"), "modules.json lists this Dense")?;
    let key = "activation_function";
    let class = config.require(
        key,
        "a torch class such as \"torch.nn.modules.linear.Identity\"",
        JsonFile::string,
    )?;
    let activation =
        Activation::from_torch_class(&class).ok_or_else(|| config.error(key, Activation::unknown(&class)))?;
    Ok(DenseSpec {
        folder: folder.to_owned(),
        in_features: config.require("in_features", "the number of inputs", JsonFile::size)?,
        out_features: config.require("out_features", "the number of outputs", JsonFile::size)?,
        bias: config.bool("bias")?.unwrap_or(true),
        activation,
        use_residual: config.bool("use_residual")?.unwrap_or(false),
    })
}
