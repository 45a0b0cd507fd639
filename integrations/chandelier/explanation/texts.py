"""What both renderings say: texts without hidden drive, labels of tokens, and what the model did not see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chandelier.explanation import Explanation, Place, Span

__all__ = ["Piece", "label", "percent", "pieces", "unseen_note", "visible"]

# Each control character becomes its picture, or the replacement character, and so does what turns the direction of
# all that follows: one for one, so that spans stay true.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n\r"}
_PICTURES |= {0x7F: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), 0x202D, 0x202E], 0xFFFD)

# As much of what the model did not see as shows what it is.
_UNSEEN_SHOWN = 400


class Piece(NamedTuple):
    """A run of a document: matched (with its span), seen and not matched, or not seen."""

    text: str
    span: Span | None
    is_seen: bool


def visible(text: str) -> str:
    """The text with its control characters shown, none of which drives a terminal or trips a parser then."""
    return text.translate(_PICTURES)


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
    document = explanation.document
    start, end = explanation.document_seen
    if start:
        hidden = visible(document[max(0, start - _UNSEEN_SHOWN) : start])
        yield Piece("…" * (start > _UNSEEN_SHOWN) + hidden, None, False)
    place = start
    for span in explanation.spans():
        if span.start > place:
            yield Piece(visible(document[place : span.start]), None, True)
        yield Piece(visible(document[span.start : span.end]), span, True)
        place = span.end
    if end > place:
        yield Piece(visible(document[place:end]), None, True)
    if end < len(document):
        hidden = visible(document[end : end + _UNSEEN_SHOWN])
        yield Piece(hidden + "…" * (len(document) - end > _UNSEEN_SHOWN), None, False)


def unseen_note(explanation: Explanation) -> str:
    """How much of the two texts the model did not see, in a sentence; empty if it saw all."""
    sides = [
        ("query", len(explanation.query), explanation.query_seen),
        ("document", len(explanation.document), explanation.document_seen),
    ]
    cut = [
        f"{length - (end - start):,} of the {length:,} characters of the {name}"
        for name, length, (start, end) in sides
        if end - start < length
    ]
    return f"Beyond the model's length, and not seen by it: {' and '.join(cut)}." if cut else ""
