//! Core explanation -> the plain object that the types describe, with places counted as JavaScript counts them.

use chandelier::TextExplanation;
use js_sys::{Array, Float32Array, Object, Reflect, Uint32Array};
use wasm_bindgen::prelude::*;

/// An object with these keys.
pub(crate) fn object<const N: usize>(entries: [(&str, JsValue); N]) -> Object {
    let object = Object::new();
    for (key, value) in entries {
        // A new plain object refuses no key.
        let _ = Reflect::set(&object, &key.into(), &value);
    }
    object
}

pub(crate) fn strings(texts: impl IntoIterator<Item = String>) -> JsValue {
    texts.into_iter().map(JsValue::from).collect::<Array>().into()
}

/// Row numbers as a `Uint32Array`.
fn whole_numbers(rows: &[usize]) -> JsValue {
    let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    Uint32Array::from(&rows[..]).into()
}

/// The explanation of the score of `document` against `query`.
pub(crate) fn to_javascript(found: TextExplanation, query: &str, document: &str) -> JsValue {
    let (query_units, units) = (Units::of(query), Units::of(document));
    let matches = found.explanation.matches.iter().enumerate().map(|(row, found_match)| {
        let entry = object([
            ("queryToken", row.into()),
            ("documentToken", found_match.row.into()),
            ("similarity", found_match.similarity.into()),
            ("share", found_match.share.into()),
        ]);
        if let Some(span) = found.document.spans.get(found_match.row).copied().flatten() {
            let _ = Reflect::set(&entry, &"span".into(), &units.place(span));
        }
        entry
    });
    let matches: Array = matches.collect();
    let spans: Array = found
        .spans
        .iter()
        .map(|span| {
            object([
                ("start", units.before(span.start).into()),
                ("end", units.before(span.end).into()),
                ("weight", span.weight.into()),
                ("wordWeight", span.word_weight.into()),
                ("queryTokens", whole_numbers(&span.query_rows)),
            ])
        })
        .collect();
    object([
        ("score", found.explanation.score.into()),
        ("queryTokens", strings(found.query.tokens)),
        ("documentTokens", strings(found.document.tokens)),
        ("similarities", Float32Array::from(&found.explanation.similarities[..]).into()),
        ("querySpans", query_units.places(&found.query.spans)),
        ("documentSpans", units.places(&found.document.spans)),
        ("querySeen", query_units.place(found.query.seen)),
        ("documentSeen", units.place(found.document.seen)),
        ("matches", matches.into()),
        ("spans", spans.into()),
    ])
    .into()
}

/// UTF-16 code units before each character of a text, and in all.
pub(crate) struct Units(Vec<usize>);

impl Units {
    pub(crate) fn of(text: &str) -> Self {
        let ends = text.chars().scan(0, |units, character| {
            *units += character.len_utf16();
            Some(*units)
        });
        Self(std::iter::once(0).chain(ends).collect())
    }

    /// `[start, end]` of a span that is counted in characters.
    pub(crate) fn place(&self, (start, end): (usize, usize)) -> JsValue {
        Array::of2(&self.before(start).into(), &self.before(end).into()).into()
    }

    /// One a token: `null` for those that stand for no text.
    fn places(&self, spans: &[Option<(usize, usize)>]) -> JsValue {
        spans.iter().map(|span| span.map_or(JsValue::NULL, |span| self.place(span))).collect::<Array>().into()
    }

    fn before(&self, character: usize) -> usize {
        self.0[character.min(self.0.len() - 1)]
    }
}
