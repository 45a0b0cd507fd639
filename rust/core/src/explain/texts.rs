//! TWO TEXTS -> why they match: [`ColBert::explain`].

use super::{Explanation, WeightedSpan, explain, readable_spans, weighted_spans};
use crate::error::{Error, Result};
use crate::model::{BATCH_TOKENS, ColBert, Prompt};
use crate::queue::Observer;
use crate::tokenize::{Role, Spans, Tokens, strip};

/// Why a document matches a query.
#[derive(Debug, Clone, PartialEq)]
pub struct TextExplanation {
    /// Similarities and matches; their rows are the tokens of `query` and `document`.
    pub explanation: Explanation,
    /// The query.
    pub query: ExplainedText,
    /// The document.
    pub document: ExplainedText,
    /// The parts of the document that were chosen.
    pub spans: Vec<WeightedSpan>,
}

/// One of the two texts, by its scored rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedText {
    /// The token of each row, as the vocabulary spells it.
    pub tokens: Vec<String>,
    /// Where it stands in the text, see [`readable_spans`]; `None` for special and expansion tokens, and for the prompt's.
    pub spans: Vec<Option<(usize, usize)>>,
    /// The characters that the model saw: all, unless the text is longer than the role's length or a window was asked for.
    pub seen: (usize, usize),
}

impl ExplainedText {
    /// The same, counted from the start of a text in which so many characters stand before this one.
    fn behind(mut self, before: usize) -> Self {
        for (start, end) in self.spans.iter_mut().flatten().chain([&mut self.seen]) {
            *start += before;
            *end += before;
        }
        self
    }
}

/// The part of a text from one character to another; one of nothing only where there is nothing else.
fn part_of(text: &str, (start, end): (usize, usize)) -> Result<&str> {
    let byte = |text: &str, place| text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(place);
    let part = || {
        let rest = &text[byte(text, start)?..];
        Some(&rest[..byte(rest, end.checked_sub(start)?)?])
    };
    part().filter(|part| !part.is_empty() || strip(text).is_empty()).ok_or_else(|| {
        let wanted = format!("a part of the document, which has {} characters", text.chars().count());
        Error::argument("window", format!("({start}, {end})"), wanted)
    })
}

impl ColBert {
    /// Explains the score of a document against a query; with a `window`, its first character and the one behind its
    /// last, as if nothing else of the document were there, but in characters of the whole document.
    ///
    /// # Errors
    /// As [`Self::encode`]; [`Error::Argument`] if the window is no part of the document; [`Error::Model`] if the
    /// checkpoint pools rows, so that a row is no longer a token; [`Error::Shape`] if a skiplist leaves a text without
    /// a row.
    pub fn explain(
        &self,
        (query, query_prompt): (&str, Prompt),
        (document, document_prompt): (&str, Prompt),
        window: Option<(usize, usize)>,
        observer: Observer,
    ) -> Result<TextExplanation> {
        if let Some(spec) = &self.spec().pooling {
            let problem = format!(
                "pools rows (pool_factor {}), and a pooled row stands for several tokens, so none can be named; wanted a \
                 checkpoint without pooling",
                spec.pooling.factor
            );
            return Err(Error::model(&self.spec().root.join("modules.json"), "", problem));
        }
        let (query_rows, query) = self.rows_to_explain(query, query_prompt, Role::Query, observer)?;
        let (part, before) = match window {
            Some(window) => (part_of(document, window)?, window.0),
            None => (document, 0),
        };
        let (document_rows, side) = self.rows_to_explain(part, document_prompt, Role::Document, observer)?;
        let explanation = explain(&query_rows, &document_rows, self.dim())?;
        let mut spans = weighted_spans(part, &query.spans, &side.spans, &explanation.matches);
        for span in &mut spans {
            span.start += before;
            span.end += before;
        }
        Ok(TextExplanation { explanation, query, document: side.behind(before), spans })
    }

    fn rows_to_explain(
        &self,
        text: &str,
        prompt: Prompt,
        role: Role,
        observer: Observer,
    ) -> Result<(Vec<f32>, ExplainedText)> {
        let prompt = self.prompt(prompt, role)?;
        let (tokens, spans) = self.tokenizer().tokenize_with_offsets(text, prompt, role)?;
        let side = self.explained_text(text, &tokens, &spans);
        let (rows, _, _) = self.encode_tokens(&[tokens], BATCH_TOKENS, observer)?.into_parts();
        Ok((rows, side))
    }

    fn explained_text(&self, text: &str, tokens: &Tokens, spans: &Spans) -> ExplainedText {
        let spell = |&id: &u32| self.tokenizer().token(id).unwrap_or_default();
        fn kept<'a, T>(all: impl Iterator<Item = T> + 'a, keep: &'a [bool]) -> impl Iterator<Item = T> + 'a {
            all.zip(keep).filter_map(|(item, &keep)| keep.then_some(item))
        }
        let readable = readable_spans(text, &spans.tokens);
        // An accent that the tokenizer dropped belongs to a letter that was seen.
        let widen = |seen: (usize, usize), span: &(usize, usize)| (seen.0.min(span.0), seen.1.max(span.1));
        let seen = readable.iter().flatten().fold(spans.seen, widen);
        ExplainedText {
            tokens: kept(tokens.ids.iter(), &tokens.keep).map(spell).collect(),
            spans: kept(readable.into_iter(), &tokens.keep).collect(),
            seen,
        }
    }
}
