//! Spans of tokens -> spans that a reader can be shown. All are counted in characters of the text: the first, and the
//! one behind the last.

use unicode_segmentation::UnicodeSegmentation;

use super::Match;

/// A part of the document that query rows chose.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedSpan {
    /// Its first character.
    pub start: usize,
    /// The character behind its last.
    pub end: usize,
    /// The sum of the similarities of the query rows that chose it: with those of the matches that stand for no text,
    /// the weights of all spans sum to the score.
    pub weight: f64,
    /// The part of the weight that comes from query rows that stand for text: a query may be filled with expansion tokens,
    /// many of which choose the same place for want of a better one.
    pub word_weight: f64,
    /// Those query rows, in order.
    pub query_rows: Vec<usize>,
}

/// What a reader should see marked for each token: no white space at the ends, which byte-level tokens begin with, and no
/// part of what is read as one character (a grapheme cluster: an emoji made of several, a letter and its accents).
/// A token of white space alone keeps it. `(0, 0)`, which stands for no text, becomes `None`.
///
/// ```
/// let spans = chandelier::readable_spans("a cafe\u{301}", &[(0, 0), (0, 1), (1, 6)]);
/// assert_eq!(spans, [None, Some((0, 1)), Some((2, 7))]);
/// ```
pub fn readable_spans(text: &str, tokens: &[(usize, usize)]) -> Vec<Option<(usize, usize)>> {
    let characters: Vec<char> = text.chars().collect();
    let boundaries = boundaries(text.graphemes(true));
    let readable = |&(start, end): &(usize, usize)| {
        let inside = characters.get(start..end).filter(|inside| !inside.is_empty())?;
        let is_text = |c: &char| !c.is_whitespace();
        let (start, end) = match (inside.iter().position(is_text), inside.iter().rposition(is_text)) {
            (Some(first), Some(last)) => (start + first, start + last + 1),
            _ => (start, end),
        };
        let before = boundaries.partition_point(|&boundary| boundary <= start) - 1;
        let behind = boundaries.partition_point(|&boundary| boundary < end);
        Some((boundaries[before], boundaries[behind]))
    };
    tokens.iter().map(readable).collect()
}

/// The spans of the document rows that were chosen, in order; no two overlap. `query` and `document` are the readable
/// spans of the rows, `text` is the document.
///
/// Those that overlap are one span, and so are those that touch inside a word (as Unicode sees words, UAX #29): the
/// pieces of a word are marked as one, two ideographs or a word and its comma are not.
pub fn weighted_spans(
    text: &str,
    query: &[Option<(usize, usize)>],
    document: &[Option<(usize, usize)>],
    matches: &[Match],
) -> Vec<WeightedSpan> {
    let words = boundaries(text.split_word_bounds());
    let mut chosen: Vec<WeightedSpan> = matches
        .iter()
        .enumerate()
        .filter_map(|(query_row, found)| {
            let (start, end) = document.get(found.row).copied().flatten()?;
            let weight = f64::from(found.similarity);
            let is_word = query.get(query_row).is_some_and(Option::is_some);
            let word_weight = if is_word { weight } else { 0.0 };
            Some(WeightedSpan { start, end, weight, word_weight, query_rows: vec![query_row] })
        })
        .collect();
    chosen.sort_by_key(|span| (span.start, span.end));
    let mut merged: Vec<WeightedSpan> = Vec::new();
    for span in chosen {
        match merged.last_mut() {
            Some(last)
                if span.start < last.end
                    || (span.start == last.end && words.binary_search(&span.start).is_err()) =>
            {
                last.end = last.end.max(span.end);
                last.weight += span.weight;
                last.word_weight += span.word_weight;
                last.query_rows.extend(span.query_rows);
            }
            _ => merged.push(span),
        }
    }
    merged.iter_mut().for_each(|span| span.query_rows.sort_unstable());
    merged
}

/// Where the pieces of a text begin, and at the end its length, in characters.
fn boundaries<'a>(pieces: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut places = vec![0];
    let mut place = 0;
    places.extend(pieces.map(|piece| {
        place += piece.chars().count();
        place
    }));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rows: &[usize]) -> Vec<Match> {
        rows.iter().map(|&row| Match { row, similarity: 0.5, share: 0.0 }).collect()
    }

    #[test]
    fn readable_spans_are_whole_characters_without_white_space() {
        let family = "a 👩\u{200d}👩\u{200d}👧 b";
        assert_eq!(readable_spans(family, &[(1, 3), (3, 4), (6, 7)]), [Some((2, 7)); 3]);
        // Jamo that stand for one syllable, and white space that is all there is.
        assert_eq!(
            readable_spans("\u{1112}\u{1161}\u{11ab} \n", &[(0, 1), (3, 5)]),
            [Some((0, 3)), Some((3, 5))]
        );
        // What lies outside the text stands for none of it.
        assert_eq!(readable_spans("ab", &[(1, 3), (2, 1), (2, 2), (7, 9)]), [None; 4]);
        assert_eq!(readable_spans("", &[(0, 0), (0, 1)]), [None; 2]);
    }

    #[test]
    fn pieces_of_a_word_become_one_span() {
        let text = "lighthouse, 灯台";
        let document = [(0, 5), (5, 10), (10, 11), (12, 13), (13, 14)].map(Some);
        let query = [Some((0, 1)), None, Some((2, 3)), Some((3, 4)), Some((4, 5)), None];
        let spans = weighted_spans(text, &query, &document, &chosen(&[1, 0, 2, 4, 3, 3]));
        let plain = spans.iter().map(|s| (s.start, s.end, s.weight, s.word_weight, s.query_rows.as_slice()));
        let expected: [(_, _, _, _, &[usize]); 4] = [
            (0, 10, 1.0, 0.5, &[0, 1]),
            (10, 11, 0.5, 0.5, &[2]),
            (12, 13, 1.0, 0.5, &[4, 5]),
            (13, 14, 0.5, 0.5, &[3]),
        ];
        assert_eq!(plain.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn spans_that_overlap_become_one_and_no_text_has_none() {
        let document = [Some((0, 3)), Some((1, 2)), Some((2, 6)), None];
        let spans = weighted_spans("abc def", &[], &document, &chosen(&[2, 1, 3, 0, 9]));
        assert_eq!(spans.len(), 1);
        assert_eq!((spans[0].start, spans[0].end, spans[0].weight), (0, 6, 1.5));
        assert_eq!(spans[0].query_rows, [0, 1, 3]);
    }
}
