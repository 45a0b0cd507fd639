//! `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` -> a tokenizer without habits of its own.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::normalizers::{BertNormalizer, Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{AddedToken, Tokenizer, TruncationDirection};

use super::JsonFile;
use crate::error::{Error, Result};
use crate::files;

/// What the tokenizer files say, truncation and padding excepted: those that a file carries are left-overs of
/// the last call before it was saved.
pub(crate) struct TokenizerFiles {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) truncation: TruncationDirection,
    /// The token that fills a query: the mask token, else the end of sequence, else the padding.
    pub(crate) expansion_token: Option<u32>,
    /// The file to name when a token is missing.
    pub(crate) path: PathBuf,
}

/// What a tokenizer says about itself cannot hang or end the process: the library panics on a few malformed files.
fn parse(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    let parsed = std::panic::catch_unwind(|| Tokenizer::from_bytes(bytes));
    let problem = match parsed {
        Ok(Ok(tokenizer)) => return Ok(tokenizer),
        Ok(Err(error)) => format!("not a tokenizer: {error}"),
        Err(_) => "not a tokenizer: the library that reads it gave up; fetch the checkpoint again".to_owned(),
    };
    Err(Error::model(path, "", problem))
}

/// Tokens of `BertTokenizer` that hold when no file names others.
const BERT_DEFAULTS: [(&str, &str); 2] = [("mask_token", "[MASK]"), ("pad_token", "[PAD]")];

impl TokenizerFiles {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = files::read(&path, "the tokenizer is read from it")?;
        let invalid = |e: tokenizers::Error| Error::model(&path, "", format!("not a tokenizer: {e}"));
        let mut tokenizer = parse(&path, &bytes)?;
        tokenizer.with_truncation(None).map_err(invalid)?;
        tokenizer.with_padding(None);

        let config = JsonFile::open_optional(&folder.join("tokenizer_config.json"))?;
        let class = config.string("tokenizer_class")?.unwrap_or_default();
        let is_bert = matches!(class.as_str(), "BertTokenizer" | "BertTokenizerFast");
        if is_bert {
            tokenizer.with_normalizer(Some(bert_normalizer(&config)?)).map_err(invalid)?;
        }
        let truncation = match config.string("truncation_side")?.as_deref() {
            None | Some("right") => TruncationDirection::Right,
            Some("left") => TruncationDirection::Left,
            Some(other) => {
                let problem = format!("got {other:?}, wanted \"right\" or \"left\"");
                return Err(config.error("truncation_side", problem));
            }
        };
        let expansion_token = expansion_token(folder, &config, &tokenizer, is_bert)?;
        Ok(Self { tokenizer, truncation, expansion_token, path })
    }
}

impl TokenizerFiles {
    /// Makes the prefixes tokens that are found in a text as a whole, as PyLate does: those of Stanford's format stand in
    /// the vocabulary only, whose words would be taken apart. What the vocabulary lacks is left to the caller to refuse.
    pub(crate) fn add_prefixes(&mut self, prefixes: [&str; 2]) -> Result<()> {
        let known = prefixes.into_iter().filter(|prefix| self.tokenizer.token_to_id(prefix).is_some());
        let tokens: Vec<AddedToken> = known.map(|prefix| AddedToken::from(prefix, false)).collect();
        let failed = |e| Error::model(&self.path, "added_tokens", format!("cannot add {prefixes:?}: {e}"));
        self.tokenizer.add_tokens(tokens).map_err(failed)?;
        Ok(())
    }

    /// Lowercases inside the tokenizer, as sentence-transformers 6 does: added tokens keep their case, the words between
    /// them lose it.
    pub(crate) fn lowercase(&mut self) -> Result<()> {
        let lowercase = NormalizerWrapper::from(Lowercase);
        let chain = match self.tokenizer.get_normalizer().cloned() {
            None => lowercase,
            Some(NormalizerWrapper::Lowercase(_)) => return Ok(()),
            Some(NormalizerWrapper::Sequence(sequence)) => {
                if sequence.as_ref().iter().any(|part| matches!(part, NormalizerWrapper::Lowercase(_))) {
                    return Ok(());
                }
                Sequence::new([&[lowercase], sequence.as_ref()].concat()).into()
            }
            Some(other) => Sequence::new(vec![lowercase, other]).into(),
        };
        let failed = |e| Error::model(&self.path, "normalizer", format!("cannot lowercase: {e}"));
        self.tokenizer.with_normalizer(Some(chain)).map_err(failed)?;
        Ok(())
    }
}

/// transformers 5 ignores the normaliser in `tokenizer.json` for this class and follows `tokenizer_config.json`.
fn bert_normalizer(config: &JsonFile) -> Result<NormalizerWrapper> {
    let flag = |key| config.bool(key).map(|v| v.unwrap_or(true));
    let (chinese, lowercase) = (flag("tokenize_chinese_chars")?, flag("do_lower_case")?);
    Ok(BertNormalizer::new(true, chinese, config.bool("strip_accents")?, lowercase).into())
}

fn expansion_token(
    folder: &Path,
    config: &JsonFile,
    tokenizer: &Tokenizer,
    is_bert: bool,
) -> Result<Option<u32>> {
    let legacy_map = JsonFile::open_optional(&folder.join("special_tokens_map.json"))?;
    // The legacy file counts only for saves that predate `added_tokens_decoder`, and then it wins.
    let files =
        if config.get("added_tokens_decoder").is_some() { vec![config] } else { vec![&legacy_map, config] };
    for key in ["mask_token", "eos_token", "pad_token"] {
        for file in &files {
            let Some(value) = file.get(key) else { continue };
            let text = match value {
                Value::String(text) => Some(text.as_str()),
                Value::Object(token) => token.get("content").and_then(Value::as_str),
                _ => None,
            };
            let text =
                text.ok_or_else(|| file.error(key, "wanted a string or an object with \"content\""))?;
            let id = tokenizer.token_to_id(text).ok_or_else(|| {
                file.error(key, format!("got {text:?}, wanted a token that tokenizer.json holds"))
            })?;
            return Ok(Some(id));
        }
        let default = BERT_DEFAULTS.iter().find(|(name, _)| is_bert && *name == key);
        if let Some(id) = default.and_then(|(_, text)| tokenizer.token_to_id(text)) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
