//! TEXT -> TOKENS, as PyLate does it: strip, truncate, prefix id at index 1, query expansion, skiplist.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

use tokenizers::{Encoding, NormalizedString, Normalizer, PostProcessor, Tokenizer, TruncationDirection};

use crate::checkpoint::{Format, Setting, Spec, TokenizerFiles, guarded};
use crate::error::{Error, Result};

/// Which of the two kinds of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// What is asked: expanded with mask tokens if the model says so, never thinned out.
    Query,
    /// What is searched: cut at its own length, rows of skiplist tokens dropped.
    Document,
}

/// The tokens of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, prefix and special tokens included.
    pub ids: Vec<u32>,
    /// The attention mask is 1 for the first `attended` tokens and 0 for the rest.
    pub attended: usize,
    /// Whether the token's row is part of the result.
    pub keep: Vec<bool>,
}

impl Tokens {
    /// The number of rows that the text becomes.
    pub fn rows(&self) -> usize {
        self.keep.iter().filter(|keep| **keep).count()
    }
}

/// The most tokens of any text: where positions have no table, a configuration may speak of billions.
const LONGEST: usize = 1 << 20;

/// How much of a very long text is enough to see that it is cut off, and the most tokens of a part of a word that as a
/// whole is one: WordPiece makes letters of the beginning of a word, and nothing of one of more than 100.
const BEGINNING: usize = 1 << 16;
const LONGEST_WORD: usize = 1 << 10;

/// Where the tokens of a text stand in it, counted in characters: the first, and the one behind the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    /// For each token what it came from; `(0, 0)` for the prefix, special and expansion tokens and those of the prompt, and
    /// for all where the normaliser removed control characters and lost count.
    pub tokens: Vec<(usize, usize)>,
    /// What was not cut off: all of the text, or as much of it as the role's length lets through.
    pub seen: (usize, usize),
}

/// Turns texts into tokens for one model; no setting changes after it was made.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    truncation: TruncationDirection,
    /// Whether a text is stripped of white space, and whether it is lowercased, before the tokenizer sees it.
    strip: bool,
    lowercase: bool,
    query: RoleSettings,
    document: RoleSettings,
    expansion: Option<Expansion>,
    skiplist: HashSet<u32>,
    /// If not empty, the only tokens whose document rows are kept.
    keep_only: HashSet<u32>,
    vocabulary: usize,
    /// The spelling of added tokens: the tokenizer itself gives the normalised one, `[q] ` for `[Q] `.
    added_tokens: HashMap<u32, String>,
    path: PathBuf,
    unknown_skiplist_words: Vec<String>,
}

struct RoleSettings {
    prefix: Option<u32>,
    /// Tokens in all, and how many of them the text itself may have.
    length: usize,
    room: usize,
    /// Whether the skiplist applies.
    skips: bool,
}

/// Queries are filled up to 32 tokens, or some hundreds; the limit keeps a damaged file from taking hours over each.
const LONGEST_EXPANSION: usize = 8192;

struct Expansion {
    id: u32,
    attend: bool,
    /// The fewest tokens of a query.
    length: usize,
}

impl TextTokenizer {
    /// Resolves prefixes, lengths, expansion and skiplist against the tokenizer's files. `positions` is what the
    /// backbone can number and `vocabulary` how many ids it has a row for.
    pub(crate) fn new(
        spec: &Spec,
        mut files: TokenizerFiles,
        positions: usize,
        vocabulary: usize,
    ) -> Result<Self> {
        let last_added = files.tokenizer.get_added_tokens_decoder().into_keys().max();
        let ids = files.tokenizer.get_vocab_size(false).max(last_added.map_or(0, |id| id as usize + 1));
        if ids > vocabulary {
            let problem = format!(
                "holds {ids} tokens, but the embedding table has {vocabulary} rows; wanted no more tokens than rows"
            );
            return Err(Error::model(&files.path, "vocab", problem));
        }
        // sentence-transformers 6 takes a text as it comes, and lowercases behind the added tokens.
        let as_it_comes = spec.format == Format::MultiVectorEncoder;
        if as_it_comes && spec.do_lower_case.value {
            files.lowercase()?;
        }
        files.add_prefixes([&spec.query_prefix.value, &spec.document_prefix.value])?;
        let role = |role: Role, name: &str, length: &Setting<usize>, prefix: &Setting<String>| {
            let skips = spec.skiplist_roles.contains(&role);
            RoleSettings::new(&files, name, length, prefix, positions, skips)
        };
        let query = role(Role::Query, "query", &spec.query_length, &spec.query_prefix)?;
        let document = role(Role::Document, "document", &spec.document_length, &spec.document_prefix)?;
        let expansion =
            spec.do_query_expansion.value.then(|| Expansion::new(spec, &files, positions)).transpose()?;
        let mut skiplist = HashSet::new();
        let mut unknown_skiplist_words = Vec::new();
        for word in &spec.skiplist_words.value {
            // PyLate would map an unknown word to [UNK] and drop every real [UNK] with it.
            match files.tokenizer.token_to_id(word) {
                Some(id) => drop(skiplist.insert(id)),
                None => unknown_skiplist_words.push(word.clone()),
            }
        }
        let added = files.tokenizer.get_added_tokens_decoder().into_iter();
        Ok(Self {
            truncation: files.truncation,
            strip: !as_it_comes,
            lowercase: spec.do_lower_case.value && !as_it_comes,
            query,
            document,
            expansion,
            skiplist,
            keep_only: spec.keep_only_token_ids.iter().copied().collect(),
            vocabulary,
            added_tokens: added.map(|(id, token)| (id, token.content)).collect(),
            path: files.path,
            unknown_skiplist_words,
            tokenizer: files.tokenizer,
        })
    }

    /// Words of the skiplist that are no tokens of this model, and so skip nothing.
    pub fn unknown_skiplist_words(&self) -> &[String] {
        &self.unknown_skiplist_words
    }

    /// The id of the prefix token, if there is a prefix.
    pub fn prefix_id(&self, role: Role) -> Option<u32> {
        self.role(role).prefix
    }

    /// The id of the token that fills queries, if they are filled.
    pub fn expansion_id(&self) -> Option<u32> {
        self.expansion.as_ref().map(|expansion| expansion.id)
    }

    /// The token that stands for `id`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.added_tokens.get(&id).cloned().or_else(|| self.tokenizer.id_to_token(id))
    }

    /// The tokens of `prompt + text`.
    pub fn tokenize(&self, text: &str, prompt: &str, role: Role) -> Result<Tokens> {
        let encoding = self.encode(text, prompt)?;
        self.tokens(&self.post_process(encoding, role)?, role)
    }

    /// The most tokens that prompt and text may have together before some are cut off.
    pub(crate) fn room(&self, role: Role) -> usize {
        self.role(role).room
    }

    /// The number of tokens of `prompt + text` before any is cut off, prefix and special tokens not counted.
    pub(crate) fn count(&self, text: &str, prompt: &str) -> Result<usize> {
        Ok(self.encode(text, prompt)?.len())
    }

    /// Whether nothing of `prompt + text` is cut off.
    pub(crate) fn reads_whole(&self, text: &str, prompt: &str, role: Role) -> Result<bool> {
        let room = self.room(role);
        // A text has hardly fewer tokens than its beginning: it may complete its last word.
        let beginning = (BEGINNING..text.len()).find(|&end| text.is_char_boundary(end));
        if let Some(end) = beginning
            && self.count(&text[..end], prompt)? > room + LONGEST_WORD
        {
            return Ok(false);
        }
        Ok(self.count(text, prompt)? <= room)
    }

    /// About where the tokens of `prompt + text` stand in `text`, in bytes: a normaliser that changes lengths shifts
    /// them.
    pub(crate) fn rough_places(&self, text: &str, prompt: &str) -> Result<Vec<Range<usize>>> {
        let prompted = with_prompt(text, prompt);
        let stripped =
            if self.strip { prompted.len() - prompted.trim_start_matches(is_python_space).len() } else { 0 };
        let before = prompt.len().saturating_sub(stripped);
        let prepared = self.prepare(&prompted);
        let encoding = self.guarded(|| self.tokenizer.encode(prepared.as_ref(), false))?;
        let place = |offset: usize| offset.saturating_sub(before).min(text.len());
        Ok(encoding.get_offsets().iter().map(|&(start, end)| place(start)..place(end)).collect())
    }

    /// The tokens of `prompt + text`, and where in `text` they stand.
    pub fn tokenize_with_offsets(&self, text: &str, prompt: &str, role: Role) -> Result<(Tokens, Spans)> {
        let prompted = with_prompt(text, prompt);
        let mut source = Cow::Borrowed(self.stripped(&prompted));
        let mut places = None;
        let mut encoding = self.encode_with_offsets(&source)?;
        // SentencePiece's normaliser loses count where it removes a control character, at the very start for all that
        // follows. One inside may keep an accent from its letter, and has to stay then.
        let removed = self.removed_controls(&source)?;
        if !removed.is_empty() {
            let at_start = source.chars().take_while(|c| removed.contains(c)).count();
            for among in [usize::MAX, at_start] {
                let (quiet, its_places) = without(&source, &removed, among);
                let same = self.encode_with_offsets(&quiet)?;
                if same.get_ids() == encoding.get_ids() {
                    (encoding, source, places) = (same, Cow::Owned(quiet), Some(its_places));
                    break;
                }
            }
        }
        let is_miscounted = !removed.is_empty() && places.is_none();
        let is_cut = encoding.len() > self.role(role).room;
        let encoding = self.post_process(encoding, role)?;
        let tokens = self.tokens(&encoding, role)?;

        let skipped =
            if self.strip { prompted.chars().take_while(|&c| is_python_space(c)).count() } else { 0 };
        let before = prompt.chars().count();
        let origins = self.lowercase.then(|| lowercase_origins(&source));
        let start_of = |prepared: usize| {
            let source = origins.as_ref().map_or(prepared, |map| map[prepared]);
            places.as_ref().map_or(source, |map| map[source])
        };
        let end_of = |prepared: usize| if prepared == 0 { 0 } else { start_of(prepared - 1) + 1 };
        let mut spans: Vec<(usize, usize)> = encoding
            .get_offsets()
            .iter()
            .zip(encoding.get_special_tokens_mask())
            .map(|(&(start, end), &special)| {
                let (start, end) = (start_of(start) + skipped, end_of(end) + skipped);
                if is_miscounted || special == 1 || end <= before || start == end {
                    (0, 0)
                } else {
                    (start.max(before) - before, end - before)
                }
            })
            .collect();
        let of_text = || spans.iter().filter(|(start, end)| start < end);
        let length = text.chars().count();
        let seen = match self.truncation {
            _ if !is_cut => (0, length),
            TruncationDirection::Right => (0, of_text().map(|span| span.1).max().unwrap_or(0)),
            TruncationDirection::Left => (of_text().map(|span| span.0).min().unwrap_or(length), length),
        };
        if self.role(role).prefix.is_some() {
            spans.insert(1.min(spans.len()), (0, 0));
        }
        spans.resize(tokens.ids.len(), (0, 0));
        Ok((tokens, Spans { tokens: spans, seen }))
    }

    fn encode(&self, text: &str, prompt: &str) -> Result<Encoding> {
        let prompted = with_prompt(text, prompt);
        let prepared = self.prepare(&prompted);
        self.guarded(|| self.tokenizer.encode_fast(prepared.as_ref(), false))
    }

    fn encode_with_offsets(&self, text: &str) -> Result<Encoding> {
        let prepared = self.lowercased(text);
        self.guarded(|| self.tokenizer.encode_char_offsets(prepared.as_ref(), false))
    }

    /// The control characters of the text that the normaliser removes.
    fn removed_controls(&self, text: &str) -> Result<HashSet<char>> {
        let Some(normalizer) = self.tokenizer.get_normalizer() else { return Ok(HashSet::new()) };
        let is_removed = |c: char| -> Result<bool> {
            let mut alone = NormalizedString::from(c.to_string());
            self.guarded(|| normalizer.normalize(&mut alone))?;
            Ok(alone.is_empty())
        };
        let mut removed = HashMap::from(['\t', '\n', '\r'].map(|white| (white, false)));
        for c in text.chars().filter(|c| c.is_control()) {
            if let Entry::Vacant(unknown) = removed.entry(c) {
                unknown.insert(is_removed(c)?);
            }
        }
        Ok(removed.into_iter().filter_map(|(c, is_removed)| is_removed.then_some(c)).collect())
    }

    /// Any text can be tokenised by a tokenizer that is whole.
    fn guarded<T>(&self, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
        guarded(&self.path, "cannot tokenise a text", work)
    }

    fn role(&self, role: Role) -> &RoleSettings {
        match role {
            Role::Query => &self.query,
            Role::Document => &self.document,
        }
    }

    fn prepare<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.lowercased(self.stripped(text))
    }

    fn lowercased<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.lowercase { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) }
    }

    fn stripped<'a>(&self, text: &'a str) -> &'a str {
        if self.strip { strip(text) } else { text }
    }

    /// Truncates to the role's length and adds the special tokens, as the tokenizer would with a length set.
    fn post_process(&self, mut encoding: Encoding, role: Role) -> Result<Encoding> {
        encoding.truncate(self.role(role).room, 0, self.truncation);
        // What was cut off is kept beside and would be processed as well, which for a long text takes seconds.
        drop(encoding.take_overflowing());
        match self.tokenizer.get_post_processor() {
            Some(processor) => self.guarded(|| processor.process(encoding, None, true)),
            None => Ok(encoding),
        }
    }

    fn tokens(&self, encoding: &Encoding, role: Role) -> Result<Tokens> {
        let settings = self.role(role);
        let mut ids = encoding.get_ids().to_vec();
        if let Some(prefix) = settings.prefix {
            // A query is filled before its prefix is put second: one without any token begins with a fill token. Only
            // where that is attended to, or nothing that is would stand first.
            let fill = self.expansion.as_ref().filter(|e| role == Role::Query && e.attend);
            if let Some(fill) = fill.filter(|_| ids.is_empty()) {
                ids.push(fill.id);
            }
            ids.insert(1.min(ids.len()), prefix);
        }
        if ids.len() > settings.length {
            let problem =
                format!("its post-processor gives {} tokens, wanted at most {}", ids.len(), settings.length);
            return Err(Error::model(&self.path, "post_processor", problem));
        }
        let mut attended = ids.len();
        if let (Role::Query, Some(expansion)) = (role, &self.expansion) {
            ids.resize(ids.len().max(expansion.length), expansion.id);
            if expansion.attend {
                attended = ids.len();
            }
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocabulary) {
            let problem = format!("gives id {id}, but the embedding table has {} rows", self.vocabulary);
            return Err(Error::model(&self.path, "", problem));
        }
        let keeps = |id: &u32| {
            let skipped = settings.skips && self.skiplist.contains(id);
            let chosen = role == Role::Query || self.keep_only.is_empty() || self.keep_only.contains(id);
            chosen && !skipped
        };
        Ok(Tokens { attended, keep: ids.iter().map(keeps).collect(), ids })
    }
}

impl Expansion {
    fn new(spec: &Spec, files: &TokenizerFiles, positions: usize) -> Result<Self> {
        let id = match &spec.expansion_token {
            Some(token) => files.tokenizer.token_to_id(token).ok_or_else(|| {
                let problem = format!("query_expansion fills queries with {token:?}, wanted a token that this file holds");
                Error::model(&files.path, "", problem)
            })?,
            None => files.expansion_token.ok_or_else(|| {
                let problem = "no mask, eos or pad token to expand queries with; wanted one, or do_query_expansion=False";
                Error::model(&files.path, "mask_token", problem)
            })?,
        };
        let length = &spec.expansion_length;
        let most = LONGEST_EXPANSION.min(positions);
        if length.value > most {
            let wanted = format!("at most {most}, as every query is filled up to it");
            return Err(length.unfit("query_length", wanted));
        }
        Ok(Self { id, attend: spec.attend_to_expansion_tokens.value, length: length.value })
    }
}

impl RoleSettings {
    fn new(
        files: &TokenizerFiles,
        name: &str,
        length: &Setting<usize>,
        prefix: &Setting<String>,
        positions: usize,
        skips: bool,
    ) -> Result<Self> {
        let prefix_id = match prefix.value.as_str() {
            "" => None,
            text => Some(files.tokenizer.token_to_id(text).ok_or_else(|| {
                prefix.unfit(&format!("{name}_prefix"), "a token that tokenizer.json holds, or \"\" for none")
            })?),
        };
        let special = files.tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(false));
        let taken = special + usize::from(prefix_id.is_some());
        let argument = format!("{name}_length");
        let positions = positions.min(LONGEST);
        if length.value > positions {
            let wanted = format!(
                "at most {positions}, the positions of the model; pass {argument}={positions} or less"
            );
            return Err(length.unfit(&argument, wanted));
        }
        if length.value <= taken {
            let wanted = format!("more than {taken}, the prefix and special tokens that every text has");
            return Err(length.unfit(&argument, wanted));
        }
        Ok(Self { prefix: prefix_id, length: length.value, room: length.value - taken, skips })
    }
}

fn with_prompt<'a>(text: &'a str, prompt: &str) -> Cow<'a, str> {
    if prompt.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(format!("{prompt}{text}")) }
}

/// The text without those of its first `among` characters that are to be removed, and the place of each character that
/// is left, and of the end.
fn without(text: &str, removed: &HashSet<char>, among: usize) -> (String, Vec<usize>) {
    let is_left = |&(place, c): &(usize, char)| place >= among || !removed.contains(&c);
    let (mut places, left): (Vec<usize>, String) = text.chars().enumerate().filter(is_left).unzip();
    places.push(text.chars().count());
    (left, places)
}

/// Python's `str.isspace` for one character: Rust's notion and the four information separators.
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `str.strip`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_python_space)
}

/// For every character of `text.to_lowercase()`, and for its end, the index of the character it came from: a few
/// characters become two.
fn lowercase_origins(text: &str) -> Vec<usize> {
    let letters = text.chars().enumerate().flat_map(|(index, c)| c.to_lowercase().map(move |_| index));
    letters.chain([text.chars().count()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_is_pythons() {
        assert_eq!(strip("\u{1c}\u{1d}\u{1e}\u{1f} \t\u{85}a b\u{a0}\u{3000}\u{2028}\u{1c}"), "a b");
        assert_eq!(strip("\u{200b}\u{feff}a\u{200b}"), "\u{200b}\u{feff}a\u{200b}");
        assert_eq!(strip(" \u{1f} "), "");
    }

    #[test]
    fn lowercase_origins_follow_characters_that_grow() {
        assert_eq!("İx".to_lowercase().chars().count(), 3);
        assert_eq!(lowercase_origins("İx"), [0, 0, 1, 2]);
    }
}
