//! LONG TEXTS -> the parts of each that the model reads whole: [`ColBert::windows`].
//!
//! What a part is worth in tokens is found by tokenising it alone, since a cut changes the tokens on both sides of it:
//! the offsets of a longer text only say where to try first.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::error::{Error, Result};
use crate::model::{ColBert, Prompt};
use crate::queue::{GoOn, Observer};
use crate::tokenize::{Role, TextTokenizer, is_python_space, strip};

impl ColBert {
    /// For each text whether the model reads all of it as a document: of one that is longer, a part is cut off.
    ///
    /// # Errors
    /// [`Error::Argument`] for a prompt that cannot be, and whatever the observer returns.
    pub fn reads_whole<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        prompt: Prompt,
        observer: Observer,
    ) -> Result<Vec<bool>> {
        let prompt = self.prompt(prompt, Role::Document)?;
        self.for_texts(
            texts,
            |_, text, _| self.tokenizer().reads_whole(text, prompt, Role::Document),
            observer,
        )
    }

    /// For each text, ranges of its characters that the model reads whole as documents: one, of all characters, if it
    /// reads the text whole; else windows as long as can be, of which each shares up to `overlap` tokens with the next,
    /// or up to a quarter of what it may have. Together they hold every character but white space at their ends. Cuts
    /// are between words, inside a word only if no window holds it, and inside what is read as one character only if
    /// no window holds that.
    ///
    /// # Errors
    /// [`Error::Argument`] for a prompt that cannot be or that leaves no room for a text, an overlap as long as that
    /// room, and a character that has more tokens; and whatever the observer returns.
    ///
    /// ```
    /// use chandelier::{ColBert, Knobs, OpenOptions, Prompt};
    ///
    /// let knobs = Knobs { document_length: Some(12), ..Knobs::default() };
    /// let options = OpenOptions { knobs, ..OpenOptions::default() };
    /// let model = ColBert::open_with("../../tests/goldens/a_bert_pylate/checkpoint", options)?;
    /// let text = "The moon moves the sea, and the lighthouse keeper lights the lamp for the ships.";
    /// let windows = model.windows(&[text], Prompt::Default, None, &mut |_| Ok(()))?;
    /// let parts: Vec<&str> = windows[0].iter().map(|&(start, end)| &text[start..end]).collect(); // it is ASCII
    /// assert_eq!(
    ///     parts,
    ///     ["The moon moves the sea, and the", "and the lighthouse keeper lights the", "the lamp for the ships."]
    /// );
    /// # Ok::<(), chandelier::Error>(())
    /// ```
    pub fn windows<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        prompt: Prompt,
        overlap: Option<usize>,
        observer: Observer,
    ) -> Result<Vec<Vec<(usize, usize)>>> {
        let prompt = self.prompt(prompt, Role::Document)?;
        let cutter = Cutter::new(self.tokenizer(), prompt, overlap)?;
        self.for_texts(texts, |index, text, go_on| cutter.windows(index, text, go_on), observer)
    }
}

/// Where a text may be cut, from the best place to the last resort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// Between words, as Unicode sees them (UAX #29).
    Word,
    /// Between what is read as one character: an emoji made of several, a letter and its accents.
    Cluster,
    Character,
}

const UNITS: [Unit; 3] = [Unit::Word, Unit::Cluster, Unit::Character];

/// How the texts of one call are cut.
struct Cutter<'a> {
    tokenizer: &'a TextTokenizer,
    prompt: &'a str,
    /// The tokens of the prompt.
    taken: usize,
    /// The most tokens of the prompt and a window.
    room: usize,
    /// The most tokens that neighbours share.
    overlap: usize,
}

/// A part of a text that is some tokens longer than a window from its start, or ends with the text; all in bytes.
struct View<'t> {
    text: &'t str,
    range: Range<usize>,
    /// About where its tokens stand in the text.
    tokens: Vec<Range<usize>>,
}

impl<'a> Cutter<'a> {
    fn new(tokenizer: &'a TextTokenizer, prompt: &'a str, overlap: Option<usize>) -> Result<Self> {
        let room = tokenizer.room(Role::Document);
        let taken = tokenizer.count("", prompt)?;
        if taken >= room {
            let wanted = format!("fewer than {room}, what document_length leaves for prompt and text");
            return Err(Error::argument("prompt", format!("{taken} tokens"), wanted));
        }
        let free = room - taken;
        let overlap = overlap.unwrap_or(free / 4);
        if overlap >= free {
            let wanted = format!("less than {free}, the tokens that document_length leaves for a text");
            return Err(Error::argument("overlap", overlap, wanted));
        }
        Ok(Self { tokenizer, prompt, taken, room, overlap })
    }

    fn windows(&self, index: usize, whole: &str, go_on: GoOn) -> Result<Vec<(usize, usize)>> {
        if self.tokenizer.reads_whole(whole, self.prompt, Role::Document)? {
            return Ok(vec![(0, whole.chars().count())]);
        }
        let text = strip(whole);
        if text.is_empty() {
            return Ok(vec![(0, 0)]);
        }
        let mut ranges: Vec<Range<usize>> = Vec::new();
        // Where the next window begins: with what it shares with the last one, or else with what is new.
        let (mut shared, mut new) = (0, 0);
        let mut length = 4 * self.room;
        while new < text.len() {
            go_on()?;
            let view = self.view(text, shared, length)?;
            let Some((window, unit)) = self.window(&view, new)? else {
                if shared < new {
                    shared = new; // what is shared and the white space behind it fill a window
                    continue;
                }
                return Err(self.too_long(index, &text[new..])?);
            };
            length = window.len();
            new = window.end + before(&text[window.end..]);
            shared = self.shared(&view, &window, unit)?.unwrap_or(new);
            ranges.push(window);
        }
        let before = before(whole);
        ranges.iter_mut().for_each(|range| *range = range.start + before..range.end + before);
        Ok(in_characters(whole, ranges))
    }

    fn count(&self, part: &str) -> Result<usize> {
        self.tokenizer.count(part, self.prompt)
    }

    /// What lies behind `start`: about as much as `length` says, and more as long as that is read whole.
    fn view<'t>(&self, text: &'t str, start: usize, length: usize) -> Result<View<'t>> {
        let mut length = length + length / 8 + 64;
        loop {
            let end =
                (start + length..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
            let mut tokens = self.tokenizer.rough_places(&text[start..end], self.prompt)?;
            if tokens.len() > self.room || end == text.len() {
                tokens.iter_mut().for_each(|token| *token = token.start + start..token.end + start);
                return Ok(View { text, range: start..end, tokens });
            }
            length *= 2;
        }
    }

    /// The longest window from the view's start, or else from `new` on, that ends behind `new`, and what it ends with;
    /// `None` if not a single character has room.
    fn window(&self, view: &View, new: usize) -> Result<Option<(Range<usize>, Unit)>> {
        if view.tokens.len() <= self.room {
            return Ok(Some((view.range.clone(), Unit::Word)));
        }
        let guess = view.tokens[self.room - 1].end;
        let mut starts = vec![view.range.start, new];
        starts.dedup();
        for unit in UNITS {
            let mut ends: Vec<usize> = view.pieces(unit).into_iter().map(|piece| piece.end).collect();
            ends.retain(|&end| end > new);
            let near = ends.partition_point(|&end| end <= guess).saturating_sub(1);
            for &start in &starts {
                let tokens = |place: usize| self.count(&view.text[start..ends[place]]);
                if let Some(last) = last_within(self.room, ends.len(), near, tokens)? {
                    return Ok(Some((start..ends[last], unit)));
                }
            }
        }
        Ok(None)
    }

    /// Blames the first character of what is left for having more tokens than a window.
    fn too_long(&self, index: usize, rest: &str) -> Result<Error> {
        let c = rest.chars().next().unwrap_or_default();
        let tokens = self.count(c.encode_utf8(&mut [0; 4]))?.saturating_sub(self.taken);
        let free = self.room - self.taken;
        let wanted = format!("characters of at most {free}, what document_length leaves for a text");
        Ok(Error::argument(&format!("texts[{index}]"), format!("{c:?}, {tokens} tokens"), wanted))
    }

    /// Where the next window begins, if it is to share something with this one.
    fn shared(&self, view: &View, window: &Range<usize>, unit: Unit) -> Result<Option<usize>> {
        if self.overlap == 0 {
            return Ok(None);
        }
        let behind = view.tokens.partition_point(|token| token.end <= window.end);
        let guess =
            view.tokens.get(behind.saturating_sub(self.overlap)).map_or(window.end, |token| token.start);
        // A word that was not cut is shared whole or not at all.
        for unit in UNITS.into_iter().filter(|&finer| finer <= unit) {
            let mut starts: Vec<usize> =
                view.pieces(unit).into_iter().map(|piece| piece.start).rev().collect();
            starts.retain(|&start| window.start < start && start < window.end);
            let near = starts.partition_point(|&start| start >= guess).saturating_sub(1);
            let tokens = |place: usize| self.count(&view.text[starts[place]..window.end]);
            if let Some(last) = last_within(self.taken + self.overlap, starts.len(), near, tokens)? {
                return Ok(Some(starts[last]));
            }
        }
        Ok(None)
    }
}

impl View<'_> {
    /// What a cut would part, without white space at its ends; not what the view's own end may have cut.
    fn pieces(&self, unit: Unit) -> Vec<Range<usize>> {
        let text = &self.text[self.range.clone()];
        let clusters = || text.grapheme_indices(true).map(|(place, _)| place);
        let mut cuts: Vec<usize> = match unit {
            Unit::Word => {
                let clusters: Vec<usize> = clusters().collect();
                let words = text.split_word_bound_indices().map(|(place, _)| place);
                words.filter(|place| clusters.binary_search(place).is_ok()).collect()
            }
            Unit::Cluster => clusters().collect(),
            Unit::Character => text.char_indices().map(|(place, _)| place).collect(),
        };
        if self.range.end == self.text.len() {
            cuts.push(text.len());
        }
        let trimmed = |cut: &[usize]| {
            let piece = &text[cut[0]..cut[1]];
            let start = self.range.start + cut[0] + before(piece);
            start..start + strip(piece).len()
        };
        cuts.windows(2).map(trimmed).filter(|piece| !piece.is_empty()).collect()
    }
}

/// How much white space a text begins with, in bytes.
fn before(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_python_space).len()
}

/// The last of `places` up to which no more than `most` tokens are counted, if more of a text has more tokens; looked
/// for from `near` on. One that leaves at most an eighth free is taken at once.
fn last_within(
    most: usize,
    places: usize,
    near: usize,
    count: impl Fn(usize) -> Result<usize>,
) -> Result<Option<usize>> {
    // Up to those before `low` there are no more, up to `high` and those behind it there are.
    let (mut low, mut high) = (0, places);
    let (mut place, mut step) = (near, 1);
    while low < high {
        let tokens = count(place)?;
        if tokens > most {
            high = place;
        } else {
            low = place + 1;
            if tokens >= most - most / 8 {
                break;
            }
        }
        place = match (low, high) {
            (0, _) => high.saturating_sub(step),
            (_, high) if high == places => (low + step - 1).min(places - 1),
            _ => (low + high) / 2,
        };
        step *= 2;
    }
    Ok(low.checked_sub(1))
}

/// The same ranges counted in characters; both ends ascend.
fn in_characters(text: &str, ranges: Vec<Range<usize>>) -> Vec<(usize, usize)> {
    let counter = || {
        let (mut known, mut characters) = (0, 0);
        move |place: usize| {
            characters += text[known..place].chars().count();
            known = place;
            characters
        }
    };
    let (mut start, mut end) = (counter(), counter());
    ranges.into_iter().map(|range| (start(range.start), end(range.end))).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_last_place_is_found_from_anywhere_in_a_few_steps() {
        // Three tokens a place, so that 7/8 of the room are not met by chance, or one.
        for (each, places, most) in
            [(3, 1000_usize, 8_usize), (3, 1000, 1000), (1, 1000, 64), (1, 7, 64), (3, 0, 9), (9, 50, 8)]
        {
            let last = (most / each).min(places).checked_sub(1);
            for near in [0, 1, 20, 333, 500, 999].map(|near: usize| near.min(places.saturating_sub(1))) {
                let asked = Cell::new(0);
                let count = |place| {
                    asked.set(asked.get() + 1);
                    Ok((place + 1) * each)
                };
                let found = last_within(most, places, near, count).expect("nothing fails");
                let tokens = |place: Option<usize>| place.map_or(0, |place| (place + 1) * each);
                assert!(found == last || (tokens(found) <= most && tokens(found) >= most - most / 8));
                assert_eq!(found.is_some(), last.is_some());
                assert!(asked.get() <= 20, "{} places were tried", asked.get());
                if Some(near) == last {
                    assert!(asked.get() <= 2, "the first guess was right");
                }
            }
        }
    }

    #[test]
    fn bytes_become_characters() {
        let text = "a水🌊 é";
        assert_eq!(in_characters(text, vec![0..4, 1..8, 9..11]), [(0, 2), (1, 3), (4, 5)]);
        assert_eq!(in_characters("", Vec::new()), []);
    }
}
