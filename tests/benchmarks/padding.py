"""Padded batches for the peers that take token ids: made ahead of time and outside the clock, which favours them."""

from typing import Any, NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Texts of about one length: which they are, their ids and what is attended to, both (texts, longest), int64."""

    texts: list[int]
    ids: np.ndarray
    mask: np.ndarray


def batch(texts: list[dict[str, Any]], chosen: list[int]) -> Batch:
    """The chosen texts as one batch; a text is a dictionary of `Work.ids`."""
    ids = np.zeros((len(chosen), max(len(texts[i]["ids"]) for i in chosen)), np.int64)
    mask = np.zeros_like(ids)
    for row, i in enumerate(chosen):
        ids[row, : len(texts[i]["ids"])] = texts[i]["ids"]
        mask[row, : texts[i]["attended"]] = 1
    return Batch(chosen, ids, mask)


def batches(texts: list[dict[str, Any]], size: int) -> list[Batch]:
    """All texts, sorted by length, so many to a batch."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]["ids"]))
    return [batch(texts, order[i : i + size]) for i in range(0, len(order), size)]


def kept_rows(texts: list[dict[str, Any]], vectors: list[np.ndarray]) -> np.ndarray:
    """The rows that chandelier returns, of all texts below each other."""
    return np.concatenate([rows[text["keep"]] for text, rows in zip(texts, vectors, strict=True)])
