"""Padded batches for the peers that take token ids: made ahead of time and outside the clock, which favours them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Batch(NamedTuple):
    """Texts of about one length: which they are, their ids and what is attended to, both (texts, longest), int64."""

    texts: list[int]
    ids: np.ndarray
    mask: np.ndarray


def batch(texts: list[dict[str, Any]], chosen: list[int]) -> Batch:
    """The chosen texts as one batch; a text is a dictionary of `Work.ids`."""
    import numpy as np

    ids = np.zeros((len(chosen), max(len(texts[i]["ids"]) for i in chosen)), np.int64)
    mask = np.zeros_like(ids)
    for row, i in enumerate(chosen):
        ids[row, : len(texts[i]["ids"])] = texts[i]["ids"]
        mask[row, : texts[i]["attended"]] = 1
    return Batch(chosen, ids, mask)


def batches(texts: list[dict[str, Any]], size: int) -> list[Batch]:
    """All texts, sorted by length, so many to a batch."""
    return [batch(texts, chosen) for chosen in by_length([len(text["ids"]) for text in texts], size)]


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Which texts make a batch, the longest first."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [order[i : i + size] for i in range(0, len(order), size)]


def added(lengths: Sequence[int], size: int) -> float:
    """Tokens of padding, as a share of the texts' own."""
    padded = sum(len(chosen) * lengths[chosen[0]] for chosen in by_length(lengths, size))
    return padded / sum(lengths) - 1


def kept_rows(texts: list[dict[str, Any]], vectors: list[np.ndarray]) -> np.ndarray:
    """The rows that chandelier returns, of all texts below each other."""
    import numpy as np

    return np.concatenate([rows[text["keep"]] for text, rows in zip(texts, vectors, strict=True)])
