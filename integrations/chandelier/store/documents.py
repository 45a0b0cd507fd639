"""What goes into a store and what comes out: `Document`, `Hit`, `UpsertReport`."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from chandelier.exceptions import ArgumentError
from chandelier.explanation import Explanation
from chandelier.multivectors import FloatArray
from chandelier.portions import checked_text

__all__ = ["Document", "Hit", "UpsertReport"]

DEEPEST = 64
"""How deep metadata may be nested: engines that read JSON stop between 100 and 1,000 levels."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with an id, and what else is known about it.

    Args:
        id: Any str; storing another document with the same id replaces this one.
        text: What is encoded.
        metadata: What JSON holds: str keys; str, bool, None, finite floats, integers of 64 bits, lists and mappings as
            values. Whether it does is looked at when the document is stored.
        vectors: Rows `(tokens, dim)` that are already encoded, by the store's model; None to have the store encode
            `text`. They do not count when documents are compared.

    Raises:
        ArgumentError: If `id` or `text` is no str, or `metadata` no mapping.

    Examples:
        >>> Document("a-1", "Paris is in France.", {"lang": "en"})
        Document(id='a-1', text='Paris is in France.', metadata={'lang': 'en'})
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    vectors: npt.ArrayLike | None = field(default=None, compare=False, repr=False)

    __hash__ = None  # type: ignore[assignment]  # metadata can change

    def __post_init__(self) -> None:
        checked_text("id", self.id)
        checked_text("text", self.text)
        if not isinstance(self.metadata, Mapping):
            got = type(self.metadata).__name__
            raise ArgumentError(f"metadata: got {got}, wanted a mapping", argument="metadata")


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found.

    Attributes:
        id: Its id.
        score: Its MaxSim with the query, of the vectors that are stored.
        text: Its text.
        metadata: Its metadata.
        vectors: Its rows `(tokens, dim)`, if they were asked for.
        explanation: Which words matched, if that was asked for. It is computed from the text, in float32 and without
            token pooling: its score is `score` but for what the store rounded or pooled.
    """

    id: str
    score: float
    text: str
    metadata: dict[str, Any]
    vectors: FloatArray | None = field(default=None, compare=False, repr=False)
    explanation: Explanation | None = field(default=None, compare=False, repr=False)

    __hash__ = None  # type: ignore[assignment]  # metadata can change


@dataclass
class UpsertReport:
    """What became of the documents of an upsert.

    Attributes:
        stored: The ids that are stored now, in the order given, each once.
        failed: Why a document was not stored, by id; what is no `Document` appears under `"documents[7]"`. The ids that
            were given twice, and refused once, are in both.
        duplicates: The ids that came more than once. The last document that was not refused is stored.
        without_rows: The ids that are stored and can never be found, since a skiplist left no row of the text.
        truncated: The ids whose texts are longer than the `document_length` tokens that the model reads: what lies
            beyond is stored and not found. Split such texts first.
        unknown: The ids that an upsert had taken when an error ended it, and that are not known to be stored: perhaps
            they are. Store them again.
    """

    stored: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)
    without_rows: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"stored {len(self.stored):,}"]
        parts += [f"refused {len(self.failed):,}"] if self.failed else []
        parts += [f"given more than once {len(self.duplicates):,}"] if self.duplicates else []
        parts += [f"without rows {len(self.without_rows):,}"] if self.without_rows else []
        parts += [f"cut off {len(self.truncated):,}"] if self.truncated else []
        parts += [f"not known to be stored {len(self.unknown):,}"] if self.unknown else []
        first = next(iter(self.failed.items()), None)
        return ", ".join(parts) + (f"; first refused: {first[0]}: {first[1]}" if first else "")


def checked_ids(ids: Iterable[str]) -> list[str]:
    """A list of ids, from one or several."""
    if isinstance(ids, str):
        return [checked_text("ids", ids)]
    if isinstance(ids, (bytes, Mapping)) or not isinstance(ids, Iterable):
        raise ArgumentError(f"ids: got {type(ids).__name__}, wanted a list of str", argument="ids")
    return [checked_text(f"ids[{index}]", id) for index, id in enumerate(ids)]


def checked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain Python values; an `ArgumentError` names the place of one that JSON cannot hold."""
    try:
        copy: dict[str, Any] = _plain(metadata, "metadata", 0)
    except ArgumentError:
        raise
    except Exception as error:  # a mapping of the caller's own making
        raise ArgumentError(f"metadata: cannot be read: {error!r}", argument="metadata") from error
    return copy


def _plain(value: object, place: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return checked_text(place, value)
        except ArgumentError as error:
            raise ArgumentError(str(error), argument="metadata") from None
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise _unfit(place, "an integer beyond 64 bits", "a smaller one, or a str")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _unfit(place, str(float(value)), "a finite float, or None")
        return float(value)
    if depth == DEEPEST and isinstance(value, (Mapping, list, tuple)):
        raise _unfit(place[:80] + "...", f"more than {DEEPEST} levels", "fewer")
    if isinstance(value, Mapping):
        copy = {}
        for key, part in value.items():
            if not isinstance(key, str):
                raise _unfit(place, f"the key {key!r}", "keys that are str")
            copy[_plain(key, f"{place}: key", depth)] = _plain(part, f"{place}[{key!r}]", depth + 1)
        return copy
    if isinstance(value, (list, tuple)):
        return [_plain(part, f"{place}[{index}]", depth + 1) for index, part in enumerate(value)]
    hint = ": seconds, by .timestamp(), can be compared" if hasattr(value, "isoformat") else ""
    wanted = "str, int, float, bool, None, a list or a mapping; convert it first"
    raise _unfit(place, type(value).__name__, wanted + hint)


def _unfit(place: str, got: str, wanted: str) -> ArgumentError:
    return ArgumentError(f"{place}: got {got}, wanted {wanted}", argument="metadata")


def point_uuid(collection: str, id: str) -> str:
    """The UUID of a document for engines that want one: version 5, in a namespace of the collection."""
    return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, f"chandelier:{collection}"), id))
