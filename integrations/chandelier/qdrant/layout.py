"""A collection of Qdrant: how it is made, and whether one that is there will do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from chandelier.exceptions import StoreError
from chandelier.store.points.checks import check_same, mismatch
from chandelier.store.points.engine import PREFETCH, ROWS, SPARSE, Layout

__all__ = ["DECIDED", "SETTINGS", "check_collection", "creation", "kept_settings"]

SETTINGS = "chandelier"
"""The entry of the collection's metadata that holds what a store keeps."""

DECIDED = ("collection_name", "vectors_config", "sparse_vectors_config")
"""Arguments of `create_collection` that the store gives."""


def creation(layout: Layout, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `create_collection`."""
    datatype = models.Datatype(layout.datatype)
    vectors = {
        ROWS: models.VectorParams(
            size=layout.dim,
            distance=models.Distance.DOT,
            datatype=datatype,
            on_disk=layout.on_disk,
            multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            hnsw_config=models.HnswConfigDiff(m=0),  # a graph over tokens costs twenty times the time, for nothing
        )
    }
    if layout.prefetch_size is not None:
        size = layout.prefetch_size
        vectors[PREFETCH] = models.VectorParams(size=size, distance=models.Distance.DOT, datatype=datatype)
    arguments: dict[str, Any] = {"vectors_config": vectors, "metadata": {SETTINGS: layout.settings}}
    if layout.is_sparse:
        arguments["sparse_vectors_config"] = {SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)}
    return {**options, **arguments, "metadata": {**(options.get("metadata") or {}), **arguments["metadata"]}}


def kept_settings(store: str, info: models.CollectionInfo) -> dict[str, Any]:
    """What a store has left with the collection."""
    kept = (info.config.metadata or {}).get(SETTINGS)
    if not isinstance(kept, dict):
        message = f"{store}: is there, but keeps no fingerprint, so nobody knows which model wrote its vectors"
        raise StoreError(f"{message}; name another collection, or pass adopt=True if it was this one", store=store)
    return kept


def check_collection(store: str, info: models.CollectionInfo, layout: Layout) -> None:
    """Refuses, each by name, what would not give MaxSim of this model's rows."""
    vectors = info.config.params.vectors
    vectors = vectors if isinstance(vectors, dict) else {}
    wanted = {ROWS: layout.dim} | ({} if layout.prefetch_size is None else {PREFETCH: layout.prefetch_size})
    for name, size in wanted.items():
        params = vectors.get(name)
        if params is None:
            raise mismatch(store, f"vector {name!r}", f"only {sorted(vectors)}", "one of that name")
        check_same(store, f"size of {name!r}", params.size, size)
        check_same(store, f"distance of {name!r}", params.distance.value, models.Distance.DOT.value)
    comparator = vectors[ROWS].multivector_config
    check_same(store, f"comparator of {ROWS!r}", comparator and comparator.comparator.value, "max_sim")
    if vectors[ROWS].datatype == models.Datatype.UINT8:
        raise mismatch(store, f"datatype of {ROWS!r}", "'uint8', which cannot hold signs", "'float16' or 'float32'")
    if layout.is_sparse:
        sparse = (info.config.params.sparse_vectors or {}).get(SPARSE)
        if sparse is None:
            raise mismatch(store, f"sparse vector {SPARSE!r}", "none", "one of that name")
        check_same(store, f"modifier of {SPARSE!r}", sparse.modifier and sparse.modifier.value, "idf")
