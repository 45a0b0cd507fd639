"""An explanation as lines for a terminal."""

from __future__ import annotations

import unicodedata
from itertools import groupby

from chandelier.explanation import Explanation, Match
from chandelier.explanation.texts import FAINT, Scale, label, percent, pieces, query_title, unseen_note

__all__ = ["render"]

BOLD, DIM, LIT, BRIGHT, RESET = "\033[1m", "\033[2m", "\033[33m", "\033[1;93m", "\033[0m"
BAR_WIDTH = 24
LABEL_WIDTH = 24


def render(explanation: Explanation, *, color: bool, heading: str | None = None) -> str:
    """The score and the query or another heading, the document, what the model did not see, and the matches."""

    def paint(text: str, style: str) -> str:
        return f"{style}{text}{RESET}" if color else text

    heading = query_title(explanation) if heading is None else heading
    lines = [f"{paint(f'{explanation.score:.4f}', BOLD)}  {paint(heading, BOLD)}", ""]
    lines.append(_document(explanation, color))
    if note := unseen_note(explanation):
        lines += ["", paint(note, DIM)]
    lines.append("")
    spoken = [match for match in explanation.matches if match.query_span]
    names = [_cell(label(explanation.query, match.query_span, match.query_token)) for match in spoken]
    found = [_cell(_found(explanation, match)) for match in spoken]
    left, right = (max(map(_columns, cells), default=0) for cells in (names, found))
    scale = Scale(explanation)
    for match, name, target in zip(spoken, names, found, strict=True):
        bar = "━" * round(BAR_WIDTH * scale.match(match))
        start = f"  {_pad(name, left)} → {_pad(target, right)}  {match.similarity:6.3f} {percent(match.share):>5}"
        lines.append(f"{start}  {paint(bar, LIT)}".rstrip())
    if unspoken := _unspoken(explanation):
        lines += ["", *(paint(line, DIM) for line in unspoken)]
    return "\n".join(lines) + "\n"


def _document(explanation: Explanation, color: bool) -> str:
    """The document; what words of the query matched stands in colours of two strengths, or in brackets.

    What the model did not see is dim, or behind a bar.
    """
    scale = Scale(explanation)
    shown: list[str] = []
    for text, span, is_seen in pieces(explanation):
        if not is_seen:
            is_before = not shown and explanation.document_seen[0] > 0
            barred = f"{text}│" if is_before else f"│{text}"
            shown.append(f"{DIM}{text}{RESET}" if color else barred)
        elif span is None or scale.span(span) < FAINT:
            shown.append(text)
        elif color:
            shown.append(f"{BRIGHT if scale.span(span) > 0.5 else LIT}{text}{RESET}")
        else:
            shown.append(f"[{text}]")
    return "".join(shown)


def _unspoken(explanation: Explanation) -> list[str]:
    """The matches of query tokens that stand for no text, one line a kind of token: of some there are 30."""
    unspoken = [match for match in explanation.matches if not match.query_span]
    lines = []
    for token, matches in groupby(sorted(unspoken, key=lambda m: m.query_token), key=lambda m: m.query_token):
        found = ", ".join(f"{_found(explanation, match)} {match.similarity:.3f}" for match in matches)
        lines.append(f"  {label('', None, token)} → {found}")
    return ["  stand for no text of the query, and count:", *lines] if lines else []


def _found(explanation: Explanation, match: Match) -> str:
    return label(explanation.document, match.span, match.document_token)


def _columns(text: str) -> int:
    """The width in a terminal, where a CJK character takes two columns and a combining mark none."""
    marks = sum(unicodedata.category(character) in ("Mn", "Me", "Cf") for character in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


def _cell(text: str) -> str:
    return text if len(text) <= LABEL_WIDTH else text[: LABEL_WIDTH - 1] + "…"


def _pad(text: str, columns: int) -> str:
    return text + " " * (columns - _columns(text))
