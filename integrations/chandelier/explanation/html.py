"""An explanation as HTML: text, highlights and numbers, styled by `style.css`; no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files

import numpy as np

from chandelier.explanation import Explanation, Match, Span
from chandelier.explanation.texts import Scale, label, percent, pieces, query_title, unseen_note, visible
from chandelier.multivectors import Float32Array

__all__ = ["fragment", "page"]

# The page around the explanations; they bring their own colours along.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 0; background: #f6f3ec; }}
main > h1 {{
  max-width: 52rem; margin: 1.5rem auto; padding: 0 1.5rem; color: #1f1d1a; overflow-wrap: anywhere;
  font: 600 1.35rem/1.35 system-ui, -apple-system, "Segoe UI", sans-serif;
}}
@media (prefers-color-scheme: dark) {{ body {{ background: #121110; }} main > h1 {{ color: #ece8e1; }} }}
@media (max-width: 34rem) {{ main > h1 {{ margin: 1rem 0; padding: 0 1rem; }} }}
{style}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""

CELL = 15  # pixels of a cell of the heat map, as in style.css
HEAT = (214, 137, 16)  # its colour, for light and dark paper


def page(explanations: Iterable[Explanation], headings: Iterable[str] | None = None) -> str:
    """A whole page with one or more explanations; under headings of their own, if their query is the same."""
    shown = list(explanations)
    query = escape(query_title(shown[0])) if shown else ""
    body = [] if headings is None else [f'<h1 dir="auto" lang="">{query}</h1>\n']
    names = map(query_title, shown) if headings is None else map(visible, headings)
    body += [_section(each, name, is_open=len(shown) == 1) for each, name in zip(shown, names, strict=True)]
    about = f"{query} · chandelier" if shown else "chandelier"
    return PAGE.format(title=about, style=_style(), body="".join(body))


def fragment(explanation: Explanation) -> str:
    """One explanation for a place in another page, whose styles it neither changes nor takes over."""
    return f"<style>\n{_style()}</style>\n{_section(explanation, query_title(explanation), is_open=False)}"


def _style() -> str:
    return files("chandelier.explanation").joinpath("style.css").read_text(encoding="utf-8")


def _section(explanation: Explanation, heading: str, *, is_open: bool) -> str:
    # The same explanation is the same on every page; two on one page seldom share a name, and only a hover shows it.
    about = explanation.query, explanation.document, explanation.document_seen
    name = f"chandelier-{zlib.crc32(repr(about).encode()):08x}"
    return "\n".join(
        [
            f'<section class="chandelier-explanation {name}" aria-label="Why this document matched">',
            _linked_hovers(explanation, name),
            "<header>",
            f'<h2 dir="auto" lang="">{escape(heading)}</h2>',
            f'<p class="score"><b>{explanation.score:.4f}</b> MaxSim over {len(explanation.matches)} query tokens</p>',
            "</header>",
            *_query(explanation),
            _legend(explanation),
            _document(explanation),
            *([f'<p class="note">{escape(note)}</p>'] if (note := unseen_note(explanation)) else []),
            _matches(explanation, is_open),
            _heat_map(explanation),
            "</section>\n",
        ]
    )


def _linked_hovers(explanation: Explanation, name: str) -> str:
    """Where the pointer is on a query token or a span, its counterparts are outlined."""
    numbers = range(len(explanation.matches))
    rules = ",".join(f".{name}:has(.m{number}:hover) .m{number}" for number in numbers)
    return f"<style>{rules}{{outline:2px solid var(--bar);outline-offset:1px}}</style>"


def _query(explanation: Explanation) -> Iterator[str]:
    """The tokens of the query with their shares; those that stand for no text in a list of their own."""
    spoken = [number for number, match in enumerate(explanation.matches) if match.query_span]
    unspoken: dict[str, list[int]] = {}  # a query may be filled up with 30 of one kind
    for number, match in enumerate(explanation.matches):
        if not match.query_span:
            unspoken.setdefault(match.query_token, []).append(number)
    lists = [
        ("Query tokens", "spoken", [[number] for number in spoken]),
        ("Special and expansion tokens", "unspoken", list(unspoken.values())),
    ]
    for title, kind, groups in lists:
        if groups:
            items = "".join(_query_tokens(explanation, group) for group in groups)
            yield f'<ul class="{kind}" aria-label="{title}">{items}</ul>'


def _legend(explanation: Explanation) -> str:
    unspoken = any(not match.query_span for match in explanation.matches)
    dashed = "; dashed are special tokens, which stand for no word and count too" if unspoken else ""
    return f'<p class="note legend">Percentages are parts of the score{dashed}.</p>'


def _query_tokens(explanation: Explanation, numbers: list[int]) -> str:
    """A query token, or all of one kind."""
    matches = [explanation.matches[number] for number in numbers]
    strength = _strength(Scale(explanation).match(matches[0]))
    shares = list(dict.fromkeys(percent(share) for share in sorted(match.share for match in matches)))
    many = f" x {len(matches)}" if len(matches) > 1 else ""
    title = "\n".join(_said(explanation, match) for match in matches)
    return (
        f'<li class="{_classes(numbers)}" style="--w:{strength}" title="{title}">'
        f"<bdi>{escape(_query_label(explanation, matches[0]))}</bdi>{many}"
        f"<small>{' to '.join([shares[0], *shares[1:][-1:]])}{' each' * bool(many)}</small></li>"
    )


def _classes(numbers: Iterable[int]) -> str:
    return " ".join(f"m{number}" for number in numbers)


def _document(explanation: Explanation) -> str:
    scale = Scale(explanation)
    shown = []
    for text, span, is_seen in pieces(explanation):
        if span is not None:
            shown.append(_mark(explanation, text, span, scale.span(span)))
        else:
            shown.append(escape(text) if is_seen else f'<span class="unseen">{escape(text)}</span>')
    return f'<p class="document" dir="auto" lang="">{"".join(shown) or "(empty document)"}</p>'


def _mark(explanation: Explanation, text: str, span: Span, strength: float) -> str:
    matches = [explanation.matches[number] for number in span.query_tokens]
    names = [f"{_query_label(explanation, match)} {match.similarity:.3f}" for match in matches]
    title = f"adds {span.weight:.3f}: best match of {', '.join(names)}"
    classes = _classes(span.query_tokens)
    return f'<mark class="{classes}" style="--w:{_strength(strength)}" title="{escape(title)}">{escape(text)}</mark>'


def _matches(explanation: Explanation, is_open: bool) -> str:
    rows = []
    for match in explanation.matches:
        found = label(explanation.document, match.span, match.document_token)
        rows.append(
            f"<tr{'' if match.query_span else ' class=unspoken'}>"
            f'<th scope="row"><bdi>{escape(_query_label(explanation, match))}</bdi></th>'
            f"<td><bdi>{escape(found)}</bdi></td>"
            f'<td class="number">{match.similarity:.3f}</td><td class="number">{percent(match.share, 1)}</td></tr>'
        )
    head = (
        '<tr><th scope="col">query token</th><th scope="col">best document token</th>'
        '<th scope="col" class="number">similarity</th><th scope="col" class="number">of the score</th></tr>'
    )
    return (
        f"<details{' open' * is_open}><summary>Matches, in numbers</summary>"
        f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></details>"
    )


def _heat_map(explanation: Explanation) -> str:
    """Every query token with every document token: one small picture, and a frame around the best of each row."""
    similarities = explanation.similarities
    query, document = explanation.query, explanation.document
    names = zip(explanation.query_spans, explanation.query_tokens, strict=True)
    rows = "".join(f"<span>{escape(label(query, *name))}</span>" for name in names)
    names = zip(explanation.document_spans, explanation.document_tokens, strict=True)
    columns = "".join(f"<span>{escape(label(document, *name))}</span>" for name in names)
    frames = "".join(
        f'<i style="--i:{row};--j:{match.document_index}" title="{_said(explanation, match)}"></i>'
        for row, match in enumerate(explanation.matches)
    )
    height, width = similarities.shape
    picture = base64.b64encode(_picture(similarities)).decode("ascii")
    low, high = float(similarities.min()), float(similarities.max())
    about = (
        f"{height} query tokens by {width} document tokens, similarity from {low:.3f} (faint) to {high:.3f} (strong)"
    )
    return (
        "<details><summary>Every token with every token</summary>"
        f'<p class="note">{about}; framed: the best of each row.</p>'
        f'<div class="heat" tabindex="0" role="group" aria-label="Heat map, scrolls sideways"><div class="plot">'
        f'<div class="columns" aria-hidden="true">{columns}</div><div class="rows" aria-hidden="true">{rows}</div>'
        f'<div class="cells" style="width:{CELL * width}px;height:{CELL * height}px">'
        f'<img alt="{about}" src="data:image/png;base64,{picture}">{frames}</div></div></div></details>'
    )


def _picture(similarities: Float32Array) -> bytes:
    """A PNG with a pixel a similarity: one colour, the lowest transparent, so that it suits any paper."""
    low, high = similarities.min(), similarities.max()
    levels = ((similarities - low) / max(high - low, np.float32(1e-6)) * 255).astype(np.uint8)
    height, width = levels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), levels], axis=1)  # each begins with its filter: none

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits a pixel, each an entry of a palette
    parts = [(b"IHDR", header), (b"PLTE", bytes(HEAT) * 256), (b"tRNS", bytes(range(256)))]
    parts += [(b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def _said(explanation: Explanation, match: Match) -> str:
    found = label(explanation.document, match.span, match.document_token)
    numbers = f"similarity {match.similarity:.3f}, {percent(match.share, 1)} of the score"
    return escape(f"{_query_label(explanation, match)} → {found}: {numbers}")


def _query_label(explanation: Explanation, match: Match) -> str:
    return label(explanation.query, match.query_span, match.query_token)


def _strength(value: float) -> str:
    """A strength from 0 to 1, as the style sheet reads it."""
    return f"{value:.3f}"
