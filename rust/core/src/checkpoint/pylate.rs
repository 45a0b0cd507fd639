//! PyLate's folder format: `modules.json`, the transformer's folder, the Dense folders and the knobs.
//!
//! The order of files and the precedence of knobs (argument, file, default) follow `pylate/models/colbert.py`.

use super::json::JsonFile;
use super::modules::Module;
use super::{Knobs, Origin, PUNCTUATION, Projection, Spec, choose, transformer_config};
use crate::error::{Error, Result};
use crate::files::Place;

/// Reads a folder with or without `modules.json`; a bare transformer is enough where there is to be no projection.
pub(super) fn read(
    root: &Place,
    modules: Option<Vec<Module>>,
    config: &JsonFile,
    projection: Projection,
    knobs: &Knobs,
) -> Result<Spec> {
    let modules = check(root, modules, projection)?;
    let transformer = modules.first().map_or(root, |module| &module.folder).clone();
    let transformer_config = transformer_config(&transformer)?;
    let dense = modules.iter().filter(|module| module.kind == "Dense").map(Module::dense);

    let from_bert = projection == Projection::Absent;
    let prefix = |text: &str| if from_bert { String::new() } else { text.to_owned() };
    let size = |argument, key, default| choose(argument, config, key, JsonFile::size, default);
    let flag = |argument, key, default| choose(argument, config, key, JsonFile::bool, default);
    let text = |argument, key, default| choose(argument, config, key, JsonFile::string, default);

    let mut document_length = size(knobs.document_length, "document_length", 180)?;
    if from_bert && document_length.origin == Origin::Default {
        // Without ColBERT's own limit, a document may be as long as the transformer was trained for.
        let default = document_length.value;
        document_length = choose(None, &transformer_config, "max_seq_length", JsonFile::size, default)?;
    }
    let query_length = size(knobs.query_length, "query_length", 32)?;
    let prompts = config.string_map("prompts")?.unwrap_or_default();
    let default_prompt = default_prompt_name(config, &prompts)?;
    let mut spec = Spec {
        dense: dense.collect::<Result<_>>()?,
        expansion_length: query_length.clone(),
        query_length,
        document_length,
        query_prefix: text(knobs.query_prefix.clone(), "query_prefix", prefix("[Q] "))?,
        document_prefix: text(knobs.document_prefix.clone(), "document_prefix", prefix("[D] "))?,
        skiplist_words: choose(
            knobs.skiplist_words.clone(),
            config,
            "skiplist_words",
            JsonFile::strings,
            PUNCTUATION.chars().map(String::from).collect(),
        )?,
        do_query_expansion: flag(knobs.do_query_expansion, "do_query_expansion", !from_bert)?,
        attend_to_expansion_tokens: flag(
            knobs.attend_to_expansion_tokens,
            "attend_to_expansion_tokens",
            false,
        )?,
        do_lower_case: choose(None, &transformer_config, "do_lower_case", JsonFile::bool, false)?,
        query_prompt_name: default_prompt.clone(),
        document_prompt_name: default_prompt,
        prompts,
        ..Spec::plain(root, transformer)
    };
    spec.attend_only_to_an_expansion();
    Ok(spec)
}

/// The modules, if they are what PyLate would keep or drop. It pools nothing and normalises by itself.
fn check(root: &Place, modules: Option<Vec<Module>>, projection: Projection) -> Result<Vec<Module>> {
    let file = root.join("modules.json");
    let Some(modules) = modules else {
        return match projection {
            Projection::Absent => Ok(Vec::new()),
            Projection::Required => {
                let problem = "no such file; wanted a checkpoint of PyLate, of sentence-transformers (MultiVectorEncoder) \
                               or of Stanford's ColBERT (HF_ColBERT); a bare BERT opens with from_bert (--from-bert)";
                Err(Error::Missing { path: file.path().to_owned(), problem: problem.to_owned() })
            }
        };
    };
    for (index, module) in modules.iter().enumerate().skip(1) {
        if !matches!(module.kind.as_str(), "Dense" | "Pooling" | "Normalize" | "Dropout") {
            let wanted = "a Transformer first, then Dense (Pooling, Normalize and Dropout are passed over)";
            return Err(module.unexpected(index, wanted));
        }
    }
    let has_dense = modules.iter().any(|module| module.kind == "Dense");
    match projection {
        Projection::Required if !has_dense => {
            let problem = "no Dense module, so this is not a ColBERT checkpoint; if late interaction over the bare \
                           hidden states is what you want, open it with from_bert (--from-bert)";
            Err(Error::model(file.path(), "type", problem))
        }
        Projection::Absent if has_dense => {
            let problem = "has a Dense module; from_bert is for models without one, open this one as ColBERT (without --from-bert)";
            Err(Error::model(file.path(), "type", problem))
        }
        _ => Ok(modules),
    }
}

fn default_prompt_name(config: &JsonFile, prompts: &[(String, String)]) -> Result<Option<String>> {
    let Some(name) = config.string("default_prompt_name")? else { return Ok(None) };
    if prompts.iter().any(|(known, _)| *known == name) {
        return Ok(Some(name));
    }
    Err(config
        .error("default_prompt_name", format!("got {name:?}, wanted one of the names under \"prompts\"")))
}
