//! The native format of sentence-transformers 6 (`MultiVectorEncoder`): everything is a module of its own.

use serde_json::Value;

use super::json::JsonFile;
use super::modules::Module;
use super::{Format, Knobs, Origin, PoolingSpec, Setting, Spec, choose, transformer_config};
use crate::error::{Error, Result};
use crate::files::Place;
use crate::pool::Pooling;
use crate::tokenize::Role;

/// The chain that this version computes.
const CHAIN: &str =
    "Transformer, Dense, MultiVectorMask, then Normalize and HierarchicalTokenPooling if wanted";

pub(super) fn read(root: &Place, modules: Vec<Module>, config: &JsonFile, knobs: &Knobs) -> Result<Spec> {
    let chain = Chain::check(&modules, root)?;
    let transformer = modules[0].folder.clone();
    let file = transformer_config(&transformer)?;
    check_transformer(&file)?;
    for (name, given) in [("query_prefix", &knobs.query_prefix), ("document_prefix", &knobs.document_prefix)]
    {
        if let Some(prefix) = given.as_ref().filter(|prefix| !prefix.is_empty()) {
            let wanted =
                "none: this checkpoint (sentence-transformers 6) puts prompts before texts; pass prompt=";
            return Err(Error::argument(name, format!("{prefix:?}"), wanted));
        }
    }
    let mask = chain.mask.required_config()?;
    let prompts = config.string_map("prompts")?.unwrap_or_default();
    // A prompt named otherwise ("passage") is never used by itself there: "document" is always there, empty if need be.
    let named = |name: &str| prompts.iter().any(|(known, _)| known == name).then(|| name.to_owned());
    let longest = longest(&transformer, &file)?;
    let mut spec = Spec {
        format: Format::MultiVectorEncoder,
        dense: chain.dense.iter().map(|module| module.dense()).collect::<Result<_>>()?,
        document_length: length(knobs.document_length, &file, "document_length", &longest)?,
        query_length: length(knobs.query_length, &file, "query_length", &longest)?,
        skiplist_words: choose(
            knobs.skiplist_words.clone(),
            &mask,
            "skiplist_words",
            JsonFile::strings,
            Vec::new(),
        )?,
        skiplist_roles: roles(&mask, "skiplist_tasks")?,
        keep_only_token_ids: mask.indices("keep_only_token_ids")?.unwrap_or_default(),
        do_lower_case: choose(None, &file, "do_lower_case", JsonFile::bool, false)?,
        query_prompt_name: named("query"),
        document_prompt_name: named("document"),
        prompts,
        normalize: chain.normalize,
        pooling: chain.pooling.map(pooling).transpose()?,
        mean_similarity: config.string("similarity_fn_name")?.as_deref() == Some("meanmaxsim"),
        ..Spec::plain(root, transformer)
    };
    expansion(&mut spec, &file, knobs)?;
    Ok(spec)
}

/// The modules by what they are for.
struct Chain<'a> {
    dense: Vec<&'a Module>,
    mask: &'a Module,
    normalize: bool,
    pooling: Option<&'a Module>,
}

impl<'a> Chain<'a> {
    fn check(modules: &'a [Module], root: &Place) -> Result<Self> {
        let (mut dense, mut mask, mut normalize, mut pooling) = (Vec::new(), None, false, None);
        for (index, module) in modules.iter().enumerate().skip(1) {
            match module.kind.as_str() {
                "Dense" if !normalize && pooling.is_none() => dense.push(module),
                "MultiVectorMask" if mask.is_none() && pooling.is_none() => mask = Some(module),
                "Normalize" if !normalize && pooling.is_none() => normalize = true,
                "HierarchicalTokenPooling" if mask.is_some() && pooling.is_none() => pooling = Some(module),
                _ => return Err(module.unexpected(index, CHAIN)),
            }
            // Of the features that modules hand on, these are the rows.
            let config = module.config()?;
            let named = ["module_input_name", "module_output_name"];
            let required = module.kind == "Normalize" && config.string(named[0])?.is_none();
            for key in named {
                let name = config.string(key)?;
                if required || name.as_ref().is_some_and(|name| name != "token_embeddings") {
                    return Err(config.error(key, format!("got {name:?}, wanted \"token_embeddings\"")));
                }
            }
        }
        let list = root.join("modules.json");
        let mask = mask.ok_or_else(|| {
            Error::model(list.path(), "type", format!("no MultiVectorMask, wanted {CHAIN}"))
        })?;
        if dense.is_empty() {
            return Err(Error::model(list.path(), "type", format!("no Dense, wanted {CHAIN}")));
        }
        Ok(Self { dense, mask, normalize, pooling })
    }
}

/// Only the plain use of a transformer is computed.
fn check_transformer(file: &JsonFile) -> Result<()> {
    let wanted = |key: &str, got: Option<String>, wanted: &str| match got {
        Some(got) if got != wanted => Err(file.error(key, format!("got {got:?}, wanted {wanted:?}"))),
        _ => Ok(()),
    };
    wanted("transformer_task", file.string("transformer_task")?, "feature-extraction")?;
    wanted("module_output_name", file.string("module_output_name")?, "token_embeddings")?;
    for key in ["processing_kwargs", "processor_kwargs"] {
        if file.object(key)?.is_some_and(|arguments| !arguments.is_empty()) {
            return Err(file.error(key, "got arguments for the tokenizer, wanted none"));
        }
    }
    let Some(modality) = file.object("modality_config")? else { return Ok(()) };
    if modality.get("message").is_some() {
        let problem = "texts go through a chat template, which this version does not have";
        return Err(file.error("modality_config", problem));
    }
    let text = modality.object("text")?;
    let text =
        text.ok_or_else(|| file.error("modality_config", "has no \"text\", wanted a model of texts"))?;
    for (key, plain) in [("method", "forward"), ("method_output_name", "last_hidden_state")] {
        if let Some(got) = text.string(key)?.filter(|got| got != plain) {
            let problem = format!("text.{key}: got {got:?}, wanted {plain:?}");
            return Err(file.error("modality_config", problem));
        }
    }
    Ok(())
}

/// The most tokens of a text where nothing else is said: what tokenizer and transformer can do at most.
fn longest(transformer: &Place, file: &JsonFile) -> Result<Setting<usize>> {
    let tokenizer = JsonFile::open_optional(&transformer.join("tokenizer_config.json"))?;
    let config = JsonFile::open_optional(&transformer.join("config.json"))?;
    if let Some(value) = file.size("max_seq_length")? {
        return Ok(Setting::from_file(value, file, "max_seq_length"));
    }
    // transformers writes 10^30 for "no limit".
    let limit = |file: &JsonFile, key: &str| -> Option<Setting<usize>> {
        let value =
            file.get(key).and_then(Value::as_f64).filter(|n| (1.0..=f64::from(u32::MAX)).contains(n))?;
        Some(Setting::from_file(value as usize, file, key))
    };
    let limits = [limit(&config, "max_position_embeddings"), limit(&tokenizer, "model_max_length")];
    let none = Setting { value: 512, origin: Origin::Default };
    Ok(limits.into_iter().flatten().min_by_key(|limit| limit.value).unwrap_or(none))
}

fn length(
    argument: Option<usize>,
    file: &JsonFile,
    key: &str,
    longest: &Setting<usize>,
) -> Result<Setting<usize>> {
    let length = choose(argument, file, key, JsonFile::size, longest.value)?;
    Ok(if length.origin == Origin::Default { longest.clone() } else { length })
}

const EXPANSION_KEYS: [&str; 4] = ["strategy", "attend", "token", "length"];

/// `query_expansion`: "fixed" gives every query the same length, "min" only fills short ones.
fn expansion(spec: &mut Spec, file: &JsonFile, knobs: &Knobs) -> Result<()> {
    let key = "query_expansion";
    let stored = file.object(key)?;
    let is_wanted = knobs.do_query_expansion.unwrap_or(stored.is_some());
    spec.do_query_expansion = match knobs.do_query_expansion {
        Some(value) => Setting { value, origin: Origin::Argument },
        None if stored.is_some() || file.is_null(key) => Setting::from_file(is_wanted, file, key),
        None => Setting::or_default(None, is_wanted),
    };
    spec.expansion_length = spec.query_length.clone();
    if !is_wanted {
        spec.attend_only_to_an_expansion();
        return Ok(());
    }
    let Some(stored) = stored else {
        if knobs.query_length.is_none() && file.size("query_length")?.is_none() {
            spec.query_length = Setting::or_default(None, 32);
        }
        spec.expansion_length = spec.query_length.clone();
        spec.attend_to_expansion_tokens = Setting::or_default(knobs.attend_to_expansion_tokens, false);
        return Ok(());
    };
    if let Some(other) = stored.keys().find(|key| !EXPANSION_KEYS.contains(key)) {
        let problem = format!("query_expansion.{other}: unknown, wanted {EXPANSION_KEYS:?}");
        return Err(file.error(other, problem));
    }
    spec.attend_to_expansion_tokens =
        choose(knobs.attend_to_expansion_tokens, &stored, "attend", JsonFile::bool, false)?;
    spec.expansion_token = stored.string("token")?;
    let fewest =
        stored.require("length", "the number of tokens that queries are filled up to", JsonFile::size)?;
    let fewest = Setting::from_file(fewest, file, "query_expansion.length");
    let strategy = stored.require("strategy", "\"fixed\" or \"min\"", JsonFile::string)?;
    if !["fixed", "min"].contains(&strategy.as_str()) {
        return Err(stored.error("strategy", format!("got {strategy:?}, wanted \"fixed\" or \"min\"")));
    }
    let is_given = spec.query_length.origin == Origin::Argument;
    if let Some(longest) = file.size("query_length")?.filter(|longest| *longest < fewest.value) {
        let problem = format!("got {longest}, wanted at least {}, to which queries are filled", fewest.value);
        return Err(file.error("query_length", problem));
    }
    match (strategy.as_str(), is_given) {
        ("fixed", true) => spec.expansion_length = spec.query_length.clone(),
        ("fixed", false) => {
            spec.query_length = fewest.clone();
            spec.expansion_length = fewest;
        }
        (_, true) if spec.query_length.value < fewest.value => {
            let wanted = format!("at least {}, to which this model fills its queries", fewest.value);
            return Err(Error::argument("query_length", spec.query_length.value, wanted));
        }
        // A text may be cut shorter than it is filled up to, where only the tokenizer's limit cuts it.
        _ => spec.expansion_length = fewest,
    }
    Ok(())
}

/// The tasks that a module applies to; documents where nothing is said.
fn roles(config: &JsonFile, key: &str) -> Result<Vec<Role>> {
    let tasks = match config.get(key) {
        Some(Value::String(task)) => vec![task.clone()],
        _ => config.strings(key)?.unwrap_or_else(|| vec!["document".to_owned()]),
    };
    let role = |task: &String| match task.as_str() {
        "query" => Some(Role::Query),
        "document" => Some(Role::Document),
        // Other tasks do not exist here.
        _ => None,
    };
    Ok(tasks.iter().filter_map(role).collect())
}

fn pooling(module: &Module) -> Result<PoolingSpec> {
    let config = module.required_config()?;
    let factor = config.positive("pool_factor")?.unwrap_or(1.0);
    if factor < 1.0 {
        return Err(config.error("pool_factor", format!("got {factor}, wanted at least 1")));
    }
    let protected = config.index("num_protected_tokens")?.unwrap_or(1) as usize;
    // A file without the key was written before there was a choice.
    let normalize = config.bool("normalize_embeddings")?.unwrap_or(false);
    Ok(PoolingSpec { pooling: Pooling { factor, protected, normalize }, roles: roles(&config, "tasks")? })
}
