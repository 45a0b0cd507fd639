"""The picture of bench_plaid.py, in SVG: recall against the time of a query, a line a side. Standard library only."""

import math
from collections.abc import Iterable
from typing import Any, TypeAlias
from xml.sax.saxutils import escape

from plaid_cases import TOP
from plaid_report import milliseconds

WIDTH, HEIGHT, LEFT, TOP_EDGE, BOTTOM, GAP = 400, 300, 52, 36, 44, 30
COLOURS = {"local": "#000000", "plaid4": "#0072b2", "plaid2": "#56b4e9", "edge": "#d55e00", "fast-plaid": "#009e73"}
"""Of Okabe and Ito, which everybody tells apart."""

Point: TypeAlias = tuple[float, float]


def front(points: Iterable[Point]) -> list[Point]:
    """The settings of which no other is faster and finds as much, fastest first."""
    kept: list[Point] = []
    for ms, recall in sorted(points, key=lambda each: (each[0], -each[1])):
        if not kept or recall > kept[-1][1]:
            kept.append((ms, recall))
    return kept


def points(row: dict[str, Any]) -> list[Point]:
    """Milliseconds and recall at each setting of a side."""
    return [(milliseconds(found), found["recall"]) for found in row["settings"]]


def drawn(whole: dict[str, Any]) -> str:
    """A panel for each collection, with the same axes."""
    groups = whole["collections"]
    every = [point for group in groups for row in group["sides"] for point in points(row)] or [(1.0, 1.0)]
    low, high = min(ms for ms, _ in every), max(ms for ms, _ in every)
    axes = Axes(low / 1.2, high * 1.2, math.floor(min(recall for _, recall in every) * 20) / 20)
    width = LEFT + len(groups) * (WIDTH + GAP)
    height = TOP_EDGE + HEIGHT + BOTTOM + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, group in enumerate(groups):
        parts += [f'<g transform="translate({LEFT + number * (WIDTH + GAP)} {TOP_EDGE})">', *axes.grid(number == 0)]
        parts.append(f'<text x="{WIDTH / 2}" y="-14" text-anchor="middle">{group["documents"]:,} documents</text>')
        for row in group["sides"]:
            parts += axes.line(COLOURS[row["side"]], points(row))
        parts.append("</g>")
    parts += legend({row["side"]: row for group in groups for row in group["sides"] if row["settings"]}, height - 12)
    return "\n".join([*parts, "</svg>", ""])


def legend(rows: dict[str, dict[str, Any]], y: int) -> Iterable[str]:
    """The names of the sides that are drawn."""
    x = LEFT
    for side, row in rows.items():
        yield f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{COLOURS[side]}"/>'
        yield f'<text x="{x + 9}" y="{y}">{escape(row["name"])}</text>'
        x += 30 + 7 * len(row["name"])


class Axes:
    """Milliseconds to the right, by their logarithm; recall upwards."""

    def __init__(self, first: float, last: float, lowest: float) -> None:
        self.first, self.last, self.lowest = first, last, min(lowest, 0.95)

    def x(self, ms: float) -> float:
        """In a panel."""
        return round(WIDTH * math.log(ms / self.first) / math.log(self.last / self.first), 1)

    def y(self, recall: float) -> float:
        """In a panel, with a little room above."""
        return round(HEIGHT - (HEIGHT - 8) * (recall - self.lowest) / (1 - self.lowest), 1)

    def grid(self, is_first: bool) -> Iterable[str]:
        """Lines and their numbers; those of recall beside the first panel only."""
        decades = range(math.floor(math.log10(self.first)), math.ceil(math.log10(self.last)) + 1)
        for ms in (digit * 10.0**decade for decade in decades for digit in (1, 2, 5)):
            if self.first <= ms <= self.last:
                yield f'<path d="M{self.x(ms)} 0V{HEIGHT}" stroke="#ddd"/>'
                yield f'<text x="{self.x(ms)}" y="{HEIGHT + 16}" text-anchor="middle">{ms:g}</text>'
        step = 0.1 if self.lowest < 0.75 else 0.05 if self.lowest < 0.9 else 0.01
        for number in range(round((1 - self.lowest) / step) + 1):
            recall = 1 - number * step
            yield f'<path d="M0 {self.y(recall)}H{WIDTH}" stroke="#ddd"/>'
            if is_first:
                yield f'<text x="-6" y="{self.y(recall) + 4}" text-anchor="end">{recall:.2f}</text>'
        yield f'<text x="{WIDTH / 2}" y="{HEIGHT + 34}" text-anchor="middle">a query, ms</text>'
        if is_first:
            yield f'<text transform="translate(-40 {HEIGHT / 2})rotate(-90)" text-anchor="middle">recall@{TOP}</text>'

    def line(self, colour: str, found: list[Point]) -> Iterable[str]:
        """All settings as points, and a line through those that are worth choosing."""
        path = " ".join(f"{self.x(ms)},{self.y(recall)}" for ms, recall in front(found))
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for ms, recall in found:
            yield f'<circle cx="{self.x(ms)}" cy="{self.y(recall)}" r="3.5" fill="{colour}" fill-opacity="0.7"/>'
