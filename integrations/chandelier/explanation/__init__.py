"""`Explanation`: which words of a document answered which words of a query, and what each was worth."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any, TypeAlias

from chandelier.multivectors import Float32Array

__all__ = ["Explanation", "Match", "Span"]

Place: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Match:
    """A token of the query and the token of the document that it matched best.

    Attributes:
        query_token: The query's token, as the vocabulary spells it.
        query_span: Its characters in the query, the first and the one behind the last; None for a token that stands for
            no text: a special token, one of the prompt, or a mask token that the query was filled up with.
        document_token: The document's token with the highest similarity, the first of equal ones.
        document_index: Its place in `Explanation.document_tokens`.
        span: Its characters in the document, as `query_span`.
        similarity: The similarity of the two rows.
        share: The similarity divided by the score. Shares sum to 1; a negative one worked against the rest. All are 0
            if the score is 0.
    """

    query_token: str
    query_span: Place | None
    document_token: str
    document_index: int
    span: Place | None
    similarity: float
    share: float


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the document that query tokens matched best.

    Attributes:
        start: Its first character.
        end: The character behind its last.
        weight: The sum of the similarities of the query tokens that matched it: what it adds to the score.
        word_weight: The part of it that comes from tokens that stand for text of the query. A query may be filled up
            with mask tokens, many of which match the same place for want of a better one.
        query_tokens: Those tokens, as places in `Explanation.matches`, ascending.
    """

    start: int
    end: int
    weight: float
    word_weight: float
    query_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Explanation:
    """Why a document has its score: what `ColBERT.explain` finds.

    A notebook shows it as a page; `to_html` and `to_text` give it elsewhere. It pickles.

    Attributes:
        query: The query.
        document: The document.
        score: Their MaxSim, the sum of `Match.similarity` over `matches`.
        query_tokens: The `Tq` tokens of the query that are scored, special and expansion tokens included.
        document_tokens: The `Td` tokens of the document that are scored: those that a skiplist drops are not.
        query_spans: For each of `query_tokens` its characters in the query, the first and the one behind the last; None
            where it stands for no text. Spans have no white space at the ends and never cut through what is read as
            one character, so tokens that share an emoji have the same span.
        document_spans: The same of `document_tokens`.
        query_seen: The characters of the query that the model saw: all, unless it has more than `query_length` tokens.
        document_seen: The same of the document and `document_length`, or of the window that was asked for. What is
            outside adds nothing to the score.
        similarities: `(Tq, Td)` float32, read-only: every query token with every document token.
        matches: One a query token: the best of its row.

    Examples:
        >>> from chandelier import ColBERT
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint", do_query_expansion=False)
        >>> explanation = model.explain("the moon", "The Moon moves the sea.")
        >>> explanation.similarities.shape == (len(explanation.query_tokens), len(explanation.document_tokens))
        True
        >>> [(match.query_token, match.document_token, match.span) for match in explanation.matches[2:4]]
        [('the', 'the', (0, 3)), ('moon', 'moon', (4, 8))]
        >>> [explanation.document[span.start : span.end] for span in explanation.spans()]
        ['The', 'Moon']
    """

    query: str
    document: str
    score: float
    query_tokens: tuple[str, ...]
    document_tokens: tuple[str, ...]
    query_spans: tuple[Place | None, ...]
    document_spans: tuple[Place | None, ...]
    query_seen: Place
    document_seen: Place
    similarities: Float32Array
    matches: tuple[Match, ...]
    _spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        self.similarities.setflags(write=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Explanation, tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def __repr__(self) -> str:
        return f"Explanation(score={self.score:.4f}, query={_short(self.query)}, document={_short(self.document)})"

    @classmethod
    def own(cls, query: str, document: str, parts: Any) -> Explanation:
        """What the core found, with names."""
        score, similarities, query_text, document_text, matches, spans = parts
        query_tokens, query_spans, query_seen = query_text
        document_tokens, document_spans, document_seen = document_text
        return cls(
            query=query,
            document=document,
            score=score,
            query_tokens=tuple(query_tokens),
            document_tokens=tuple(document_tokens),
            query_spans=tuple(query_spans),
            document_spans=tuple(document_spans),
            query_seen=query_seen,
            document_seen=document_seen,
            similarities=similarities,
            matches=tuple(
                Match(token, span, document_tokens[index], index, document_spans[index], similarity, share)
                for token, span, (index, similarity, share) in zip(query_tokens, query_spans, matches, strict=True)
            ),
            _spans=tuple(Span(start, end, weight, words, tuple(rows)) for start, end, weight, words, rows in spans),
        )

    def spans(self) -> list[Span]:
        """The parts of the document that were matched, in its order; no two overlap.

        Spans of tokens that overlap are one, and so are those that touch inside a word (as Unicode sees words): the
        pieces of a word are one span, a word and its comma are two. Their weights and the similarities of the matches
        without a span sum to the score.
        """
        return list(self._spans)

    def to_html(self) -> str:
        """A page of its own: no script, nothing from elsewhere, for light and dark screens of any width.

        The colour of a part of the document is as strong as its best match with a word of the query is similar, from
        nothing for 0 to full for 1, so that pages can be compared: a document that has nothing to do with the query is
        pale.
        """
        from chandelier.explanation.html import page

        return page([self])

    def _repr_html_(self) -> str:
        """The same for a notebook, as a part of its page."""
        from chandelier.explanation.html import fragment

        return fragment(self)

    def to_text(self, color: bool | None = None) -> str:
        """Lines for a terminal: the document with what was matched, then match by match.

        Parts of the document are marked from a similarity of 0.1 with a word of the query, and bright above 0.5; a full
        bar is a similarity of 1.

        Args:
            color: Whether to use ANSI colours; without, brackets mark the spans, and a bar parts them from what the
                model did not see. None for colours if stdout is a terminal and the variable NO_COLOR is not set.
        """
        from chandelier.explanation.text import render

        if color is None:
            color = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        return render(self, color=color)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
