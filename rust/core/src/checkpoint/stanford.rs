//! Stanford's ColBERT format (`HF_ColBERT`): the backbone and its projection in one weights file, the knobs in
//! `artifact.metadata`. Read as PyLate reads it; its `mask_punctuation` is passed over there and here.

use super::json::JsonFile;
use super::{Format, Knobs, PUNCTUATION, Setting, Spec, choose, transformer_config};
use crate::error::Result;
use crate::files::Place;

/// Whether the transformer's folder says that it is one.
pub(super) fn is_stanford(transformer: &Place) -> Result<bool> {
    let file = transformer.join("config.json");
    if !file.stands() {
        return Ok(false);
    }
    let classes = JsonFile::open(&file, "")?.strings("architectures")?.unwrap_or_default();
    Ok(classes.first().is_some_and(|class| class == "HF_ColBERT"))
}

pub(super) fn read(root: &Place, transformer: Place, knobs: &Knobs) -> Result<Spec> {
    let metadata = JsonFile::open_optional(&root.join("artifact.metadata"))?;
    let transformer_config = transformer_config(&transformer)?;
    let size = |argument, key, default| choose(argument, &metadata, key, JsonFile::size, default);
    let flag = |argument, key, default| choose(argument, &metadata, key, JsonFile::bool, default);
    let text = |argument: &Option<String>, key, default: &str| {
        choose(argument.clone(), &metadata, key, JsonFile::string, default.to_owned())
    };
    let query_length = size(knobs.query_length, "query_maxlen", 32)?;
    let mut spec = Spec {
        format: Format::Stanford,
        expansion_length: query_length.clone(),
        query_length,
        document_length: size(knobs.document_length, "doc_maxlen", 180)?,
        query_prefix: text(&knobs.query_prefix, "query_token_id", "[unused0]")?,
        document_prefix: text(&knobs.document_prefix, "doc_token_id", "[unused1]")?,
        skiplist_words: Setting::or_default(
            knobs.skiplist_words.clone(),
            PUNCTUATION.chars().map(String::from).collect(),
        ),
        do_query_expansion: Setting::or_default(knobs.do_query_expansion, true),
        attend_to_expansion_tokens: flag(knobs.attend_to_expansion_tokens, "attend_to_mask_tokens", false)?,
        do_lower_case: choose(None, &transformer_config, "do_lower_case", JsonFile::bool, false)?,
        ..Spec::plain(root, transformer)
    };
    spec.attend_only_to_an_expansion();
    Ok(spec)
}
