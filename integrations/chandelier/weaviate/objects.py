"""A document as an object of Weaviate, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import numpy as np
from weaviate.classes.data import DataObject

from chandelier.exceptions import ArgumentError
from chandelier.store.points.engine import ROWS, Found, Point
from chandelier.weaviate.terms import FILTER_TERMS, terms

__all__ = ["Object", "object_of", "point_of"]

Object = DataObject[Any, Any]


def object_of(point: Point, natives: Mapping[str, Any], most_bytes: int) -> Object:
    """The object of a point; `natives` are the values of the properties that the collection declares.

    Raises:
        ArgumentError: If it is larger than the server takes.
    """
    rows, payload = point.rows, point.payload
    properties = {
        **natives,
        "doc_id": payload["doc_id"],
        "text": payload["text"],
        "metadata": json.dumps(payload["metadata"]),
        FILTER_TERMS: terms(payload["metadata"]),
        "row_count": 0 if rows is None else len(rows),
    }
    size = _bytes_of(properties) + (0 if rows is None else 4 * rows.size)
    if size > most_bytes:
        wanted = f"wanted at most {most_bytes:,}, as the server takes; cut it up"
        raise ArgumentError(f"got a document of {size:,} bytes, {wanted}")
    vector = None if rows is None else {ROWS: rows.astype(np.float32).tolist()}
    return DataObject(properties=properties, uuid=UUID(point.uuid), vector=vector)


def point_of(entry: Any) -> Found:
    """The point of an object that came back."""
    payload = dict(entry.properties)
    if isinstance(metadata := payload.get("metadata"), str):
        with suppress(ValueError):  # of an object that somebody else made
            payload["metadata"] = json.loads(metadata)
    rows = (entry.vector or {}).get(ROWS) if isinstance(entry.vector, dict) else None
    return Found(str(entry.uuid), 0.0, payload, np.asarray(rows, np.float32) if rows else None)


def _bytes_of(properties: Mapping[str, Any]) -> int:
    """How large an object without rows is in a request, or a little more than that."""
    size = 512
    for name, value in properties.items():
        for each in value if isinstance(value, list) else [value]:
            size += 8 + (len(each.encode()) if isinstance(each, str) else 8)
        size += 16 + len(name)
    return size
