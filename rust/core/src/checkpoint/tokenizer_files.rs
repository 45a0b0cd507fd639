//! `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` -> a tokenizer without habits of its own.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::normalizers::{BertNormalizer, Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{AddedToken, Tokenizer, TruncationDirection};

use super::JsonFile;
use crate::error::{Error, Result};
use crate::files::Place;
use crate::panics::survive;

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

/// Whatever the library does with a tokenizer that was read from `path`. It panics where a file asks for pieces of no
/// length, for a template of the wrong sequence, for a regular expression that a text sends round in circles; some of
/// it shows with the first text only.
pub(crate) fn guarded<T>(
    path: &Path,
    failure: &str,
    work: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T> {
    let problem = match survive(work) {
        Some(Ok(done)) => return Ok(done),
        Some(Err(error)) => format!("{failure}: {error}"),
        None => format!("{failure}: the library that reads it gave up; fetch the checkpoint again"),
    };
    Err(Error::model(path, "", problem))
}

/// Refuses what would exhaust the memory while the library reads it, before it reads it.
fn check_memory(path: &Path, bytes: &[u8]) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Stages {
        #[serde(default)]
        normalizer: Value,
        #[serde(default)]
        pre_tokenizer: Value,
    }
    // The library would reserve the memory before it came to what makes the file no JSON.
    let Stages { normalizer, pre_tokenizer } = serde_json::from_slice(bytes)
        .map_err(|error| Error::model(path, "", format!("not a tokenizer: {error}")))?;
    if !charsmaps_fit(&normalizer) {
        let problem = "says that it has 16 megabytes or more; fetch the checkpoint again";
        return Err(Error::model(path, "precompiled_charsmap", problem));
    }
    let growth = growth(&normalizer) * growth(&pre_tokenizer);
    if growth > LARGEST_GROWTH {
        let problem = format!(
            "could make a text {growth:e} times as long, wanted at most {LARGEST_GROWTH:e} times; fetch the checkpoint \
             again"
        );
        return Err(Error::model(path, "normalizer", problem));
    }
    Ok(())
}

/// Whether every character map (SentencePiece's normalisation, in base64) has less than 16 megabytes by its own account,
/// the four bytes at its start: the library believes them, and reserves the memory before it looks for so much.
fn charsmaps_fit(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().all(charsmaps_fit),
        Value::Object(map) => map.iter().all(|(key, value)| match value {
            Value::String(map) if key == "precompiled_charsmap" => {
                map.len() < 6 || matches!(map.as_bytes()[4..6], [b'A', b'A'..=b'P'])
            }
            other => charsmaps_fit(other),
        }),
        _ => true,
    }
}

/// How much longer a text may become, at most: models add a few characters, and [`growth`] overstates that.
const LARGEST_GROWTH: f64 = 1e4;

/// How much longer a chain of normalisers or pre-tokenizers may make a text, each link what comes from the one before.
fn growth(value: &Value) -> f64 {
    match value {
        Value::Array(list) => list.iter().map(growth).product(),
        Value::Object(map) => {
            let own = match (map.get("content"), map.get("type")) {
                (Some(Value::String(content)), _) => 1.0 + content.chars().count() as f64,
                (_, Some(kind)) if kind == "ByteLevel" => 2.0,
                // As long as its map says: one is what many models have, two is what none has.
                _ if map.contains_key("precompiled_charsmap") => 200.0,
                _ => 1.0,
            };
            own * map.values().map(growth).product::<f64>()
        }
        _ => 1.0,
    }
}

/// Tokens of `BertTokenizer` that hold when no file names others.
const BERT_DEFAULTS: [(&str, &str); 2] = [("mask_token", "[MASK]"), ("pad_token", "[PAD]")];

impl TokenizerFiles {
    pub(crate) fn open(folder: &Place) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        let hint = if folder.join("vocab.txt").stands() || folder.join("tokenizer.model").stands() {
            "only an older tokenizer file is there; make it in Python: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        } else {
            "the tokenizer is read from it"
        };
        let bytes = file.read(hint)?;
        let path = file.path().to_owned();
        let invalid = "not a tokenizer";
        check_memory(&path, &bytes)?;
        let mut tokenizer = guarded(&path, invalid, || Tokenizer::from_bytes(&*bytes))?;
        guarded(&path, invalid, || tokenizer.with_truncation(None).map(drop))?;
        tokenizer.with_padding(None);

        let config = JsonFile::open_optional(&folder.join("tokenizer_config.json"))?;
        let class = tokenizer_class(folder, &config)?;
        let is_bert = matches!(class.as_str(), "BertTokenizer" | "BertTokenizerFast");
        refuse_habits(&config, &class)?;
        if is_bert {
            let normalizer = bert_normalizer(&config)?;
            guarded(&path, invalid, || tokenizer.with_normalizer(Some(normalizer)).map(drop))?;
        }
        add_special_tokens(folder, &config, &mut tokenizer)?;
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
        guarded(&self.path, &format!("cannot add {prefixes:?}"), || self.tokenizer.add_tokens(tokens))?;
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
        guarded(&self.path, "cannot lowercase", || self.tokenizer.with_normalizer(Some(chain)).map(drop))
    }
}

/// The class that transformers would make: the one that is named, else that of the architecture.
fn tokenizer_class(folder: &Place, config: &JsonFile) -> Result<String> {
    if let Some(class) = config.string("tokenizer_class")? {
        return Ok(class);
    }
    let model = JsonFile::open_optional(&folder.join("config.json"))?;
    let class = model.string("tokenizer_class")?.unwrap_or_default();
    let is_bert = matches!(model.string("model_type")?.as_deref(), Some("bert" | "distilbert"));
    Ok(if class.is_empty() && is_bert { "BertTokenizer".to_owned() } else { class })
}

/// Settings that make other tokens of a text, or stand them elsewhere, and are not followed here.
fn refuse_habits(config: &JsonFile, class: &str) -> Result<()> {
    if let Some(side) = config.string("padding_side")?.filter(|side| side != "right") {
        let problem = format!("got {side:?}, wanted \"right\": fill and padding stand behind a text here");
        return Err(config.error("padding_side", problem));
    }
    if config.bool("split_special_tokens")? == Some(true) {
        return Err(config.error("split_special_tokens", "got true, wanted false"));
    }
    if class.starts_with("XLMRoberta") && config.bool("add_prefix_space")? == Some(false) {
        return Err(config.error("add_prefix_space", "got false, wanted true"));
    }
    Ok(())
}

/// Tokens that other files add to `tokenizer.json`'s: those that its vocabulary holds are found as a whole in a text
/// from then on, as in transformers. Newer saves name all of them there again, so mostly there is nothing to do.
fn add_special_tokens(folder: &Place, config: &JsonFile, tokenizer: &mut Tokenizer) -> Result<()> {
    let legacy = JsonFile::open_optional(&folder.join("added_tokens.json"))?;
    let mut named: Vec<(&JsonFile, &str, String)> =
        legacy.keys().map(|t| (&legacy, "", t.to_owned())).collect();
    for key in ["additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"] {
        let values: Vec<&Value> = match config.get(key) {
            Some(Value::Array(list)) => list.iter().collect(),
            Some(Value::Object(map)) => map.values().collect(),
            _ => continue,
        };
        named.extend(values.into_iter().filter_map(token_text).map(|text| (config, key, text.to_owned())));
    }
    let known = tokenizer.get_added_tokens_decoder();
    let known: Vec<&str> = known.values().map(|token| token.content.as_str()).collect();
    let mut missing = Vec::new();
    for (file, key, text) in named {
        if known.contains(&text.as_str()) {
            continue;
        }
        if tokenizer.token_to_id(&text).is_none() {
            return Err(file.error(key, format!("names {text:?}, wanted tokens that tokenizer.json holds")));
        }
        missing.push(AddedToken::from(text, true));
    }
    let file = folder.join("tokenizer.json");
    guarded(file.path(), "cannot add its special tokens", || tokenizer.add_special_tokens(missing))?;
    Ok(())
}

/// The text of a token, which files give plainly or as an object.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str))
}

/// transformers 5 ignores the normaliser in `tokenizer.json` for this class and follows `tokenizer_config.json`.
fn bert_normalizer(config: &JsonFile) -> Result<NormalizerWrapper> {
    let flag = |key| config.bool(key).map(|v| v.unwrap_or(true));
    let (chinese, lowercase) = (flag("tokenize_chinese_chars")?, flag("do_lower_case")?);
    Ok(BertNormalizer::new(true, chinese, config.bool("strip_accents")?, lowercase).into())
}

fn expansion_token(
    folder: &Place,
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
            let text = token_text(value)
                .ok_or_else(|| file.error(key, "wanted a string or an object with \"content\""))?;
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
