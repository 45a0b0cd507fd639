//! The inputs to begin with: the goldens' own files, and tokenizers made of parts that no golden has.

use serde_json::{Value, json};

use crate::oracle::Slot;

/// Words of a vocabulary that are kept: what the fuzzer changes should be something else than the next word.
const WORDS: usize = 60;

/// The seeds of a slot. A file of many numbers would leave the fuzzer nothing but numbers to change, so weights stand
/// in for themselves only as header, pickle or directory, and whole only as far as those reach.
pub(crate) fn seeds(slot: &Slot) -> Vec<Vec<u8>> {
    let golden = slot.golden();
    let mut contents = vec![golden[..golden.len().min(16 << 10)].to_vec()];
    if slot.name.ends_with("/tokenizer.json") {
        contents.clear();
        if let Ok(tokenizer) = serde_json::from_slice(golden) {
            let small = trimmed(tokenizer);
            contents.push(small.to_string().into_bytes());
            // BERT's normaliser is made from another file, so that those would do nothing in its tokenizer.
            if slot.name.starts_with("h_") {
                contents.extend(variations(&small).iter().map(|value| value.to_string().into_bytes()));
            }
        }
    }
    contents.iter().map(|content| [slot.name.as_bytes(), b"\n", content].concat()).collect()
}

/// The tokenizer with the first words of its vocabulary only.
fn trimmed(mut tokenizer: Value) -> Value {
    if let Some(map) = tokenizer["normalizer"].as_object_mut()
        && let Some(Value::String(charsmap)) = map.get_mut("precompiled_charsmap")
    {
        *charsmap = CHARSMAP.to_owned();
    }
    let model = &mut tokenizer["model"];
    match &mut model["vocab"] {
        Value::Object(vocab) => vocab.retain(|word, id| {
            id.as_u64().is_some_and(|id| id < WORDS as u64) || word.starts_with(['[', '<'])
        }),
        Value::Array(vocab) => vocab.truncate(WORDS),
        _ => {}
    }
    if let Some(merges) = model["merges"].as_array_mut() {
        merges.clear();
    }
    tokenizer
}

/// A character map of two states and one replacement.
const CHARSMAP: &str = "CAAAAAAAAAAAAAAAYWJjAA==";

/// Normalisers, pre-tokenizers, post-processors and models, each with what may be wrong about it left for the fuzzer.
pub(crate) fn parts() -> Vec<(&'static str, Value)> {
    let regex = json!({"Regex": "(a|b)*\\s+$"});
    let words = json!([["<unk>", 0.0], ["\u{2581}a", -1.5], ["b", -2.0], ["<0x41>", -3.0]]);
    vec![
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": CHARSMAP})),
        ("normalizer", json!({"type": "Replace", "pattern": regex, "content": "xy"})),
        ("normalizer", json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"})),
        ("normalizer", json!({"type": "Strip", "strip_left": true, "strip_right": true})),
        ("normalizer", json!({"type": "Prepend", "prepend": "\u{2581}"})),
        ("normalizer", json!({"type": "ByteLevel"})),
        ("normalizer", json!({"type": "Nmt"})),
        (
            "normalizer",
            json!({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}]}),
        ),
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 3})),
        (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": false}),
        ),
        ("pre_tokenizer", json!({"type": "CharDelimiterSplit", "delimiter": " "})),
        ("pre_tokenizer", json!({"type": "Digits", "individual_digits": true})),
        ("pre_tokenizer", json!({"type": "Punctuation", "behavior": "Contiguous"})),
        ("pre_tokenizer", json!({"type": "UnicodeScripts"})),
        (
            "pre_tokenizer",
            json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": true}),
        ),
        ("pre_tokenizer", json!({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}]})),
        ("post_processor", json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]})),
        (
            "post_processor",
            json!({"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2], "trim_offsets": true, "add_prefix_space": true}),
        ),
        (
            "post_processor",
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        ),
        ("post_processor", json!({"type": "Sequence", "processors": []})),
        ("model", json!({"type": "Unigram", "unk_id": 0, "vocab": words, "byte_fallback": true})),
        ("model", json!({"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"})),
        (
            "model",
            json!({"type": "BPE", "dropout": 0.5, "unk_token": "u", "continuing_subword_prefix": "##", "end_of_word_suffix": "</w>", "fuse_unk": true, "byte_fallback": true, "ignore_merges": true, "vocab": {"u": 0, "a": 1, "##b</w>": 2, "ab</w>": 3}, "merges": [["a", "##b</w>"]]}),
        ),
        (
            "truncation",
            json!({"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 2}),
        ),
        (
            "padding",
            json!({"strategy": {"Fixed": 8}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}),
        ),
    ]
}

/// The tokenizer with one part exchanged after the other.
fn variations(tokenizer: &Value) -> Vec<Value> {
    let exchanged = parts().into_iter().map(|(key, part)| {
        let mut tokenizer = tokenizer.clone();
        tokenizer[key] = part;
        tokenizer
    });
    exchanged.collect()
}
