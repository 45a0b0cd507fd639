"""What both renderings say: texts without hidden drive, labels of tokens, and what the model did not see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chandelier.explanation import Explanation, Match, Place, Span

__all__ = ["FAINT", "Piece", "Scale", "label", "percent", "pieces", "query_title", "unseen_note", "visible"]

# The least part of a perfect match that a terminal marks: nearly every token has a little in common with any other.
FAINT = 0.1

# Each control character becomes its picture, or the replacement character, and so does what turns the direction of
# all that follows: one for one, so that spans stay true.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), 0x202D, 0x202E], 0xFFFD)

# As much of what the model did not see as shows what it is.
_UNSEEN_SHOWN = 400


class Piece(NamedTuple):
    """A run of a document: matched (with its span), seen and not matched, or not seen."""

    text: str
    span: Span | None
    is_seen: bool


class Scale:
    """How strongly to show similarities: as they are, so that what is pale on one card is pale on all.

    A perfect match of unit rows is 1. Rows of other lengths may be more similar than that: then the most similar is 1.
    """

    def __init__(self, explanation: Explanation) -> None:
        self._matches = explanation.matches
        self._most = max(1.0, *(match.similarity for match in self._matches))

    def match(self, match: Match) -> float:
        """From 0 to 1; what is not positive is not shown."""
        return max(0.0, match.similarity) / self._most

    def span(self, span: Span) -> float:
        """That of its best match with a token that stands for text of the query; 0 if there is none."""
        found = [self._matches[number] for number in span.query_tokens]
        return max((self.match(match) for match in found if match.query_span), default=0.0)


def visible(text: str) -> str:
    """The text with its control characters shown, none of which drives a terminal or trips a parser then.

    One for one: a carriage return that ends a line with a newline is a space, any other has its picture.
    """
    return text.replace("\r\n", " \n").translate(_PICTURES)


def query_title(explanation: Explanation) -> str:
    """What stands above an explanation: its query."""
    return visible(explanation.query) if explanation.query.strip() else "(empty query)"


def label(text: str, span: Place | None, token: str) -> str:
    """What a reader calls a token: the text it stands for, or else the token itself; never nothing."""
    words = text[slice(*span)] if span else token
    return " ".join(visible(words).split()) or "␣"


def percent(share: float, digits: int = 0) -> str:
    """A share for readers; what rounds to nothing has no sign."""
    text = f"{share:.{digits}%}"
    return text if text.strip("-0.%") else text.removeprefix("-")


def pieces(explanation: Explanation) -> Iterator[Piece]:
    """The document, cut where its runs change."""
    document = visible(explanation.document)  # before it is cut: a carriage return and its newline may be parted
    start, end = explanation.document_seen
    if start:
        hidden = document[max(0, start - _UNSEEN_SHOWN) : start]
        yield Piece("…" * (start > _UNSEEN_SHOWN) + hidden, None, False)
    place = start
    for span in explanation.spans():
        if span.start > place:
            yield Piece(document[place : span.start], None, True)
        yield Piece(document[span.start : span.end], span, True)
        place = span.end
    if end > place:
        yield Piece(document[place:end], None, True)
    if end < len(document):
        hidden = document[end : end + _UNSEEN_SHOWN]
        yield Piece(hidden + "…" * (len(document) - end > _UNSEEN_SHOWN), None, False)


def unseen_note(explanation: Explanation) -> str:
    """How much of the two texts the model did not see, in a sentence; empty if it saw all."""
    sides = [
        ("query", len(explanation.query), explanation.query_seen),
        ("document", len(explanation.document), explanation.document_seen),
    ]
    cut = [
        f"{length - (end - start):,} of the {length:,} characters of the {name}"
        + f" ({start:,} before and {length - end:,} behind)" * (start > 0 and end < length)
        for name, length, (start, end) in sides
        if end - start < length
    ]
    return f"Outside of what the model read, and not seen by it: {' and '.join(cut)}." if cut else ""
