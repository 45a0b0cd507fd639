"""A Qdrant server that a command names."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from chandelier.cli.commands import open_model
from chandelier.cli.texts import CommandError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from chandelier import MeanVector, Muvera
    from chandelier.qdrant import Bm25
    from chandelier.store import Store

__all__ = ["qdrant_store"]


@contextmanager
def qdrant_store(arguments: argparse.Namespace, to_search: bool, options: dict[str, Any]) -> Iterator[Store]:
    """The store in a collection; one that is searched must be there."""
    try:
        from chandelier.qdrant import QdrantStore
    except ModuleNotFoundError as error:
        if error.name != "qdrant_client":
            raise
        raise CommandError(str(error)) from None
    with closing(_client(arguments)) as client:
        kept = _kept(client, arguments)
        if kept is None and to_search:
            here = f"{arguments.qdrant}: no collection {arguments.collection!r}"
            raise CommandError(f"{here}; chandelier index makes one")
        model = open_model(arguments)
        prefetch = _prefetch(arguments.prefetch, kept or {}, model.dim)
        sparse = _sparse(kept or {})
        with QdrantStore(client, arguments.collection, model, prefetch=prefetch, sparse=sparse, **options) as store:
            yield store


def _client(arguments: argparse.Namespace) -> QdrantClient:
    from qdrant_client import QdrantClient

    try:
        return QdrantClient(
            url=arguments.qdrant,
            api_key=os.environ.get("QDRANT_API_KEY") or None,
            prefer_grpc=arguments.grpc,
            grpc_port=arguments.grpc_port or 6334,
            timeout=arguments.timeout or 60,
            check_compatibility=False,  # the store looks at the version, and says more about it
        )
    except ValueError as error:  # a host that cannot be one
        raise CommandError(f"{arguments.qdrant}: {error}") from None


def _kept(client: QdrantClient, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """What the collection says of the store in it; None if there is no collection.

    Asked once and without patience: a mistyped URL shows at once.
    """
    from chandelier.qdrant.failures import ERRORS, translated
    from chandelier.qdrant.layout import SETTINGS

    try:
        if not client.collection_exists(arguments.collection):
            return None
        metadata = client.get_collection(arguments.collection).config.metadata
    except ERRORS as error:
        raise translated(error, arguments.qdrant) from error
    kept = (metadata or {}).get(SETTINGS)
    return kept if isinstance(kept, dict) else {}


def _prefetch(wanted: str | None, kept: dict[str, Any], dim: int) -> MeanVector | Muvera | None:
    """The encoder that is asked for, or else the one that made the collection."""
    from chandelier import MeanVector, Muvera

    if wanted is not None:
        return {"muvera": Muvera, "mean": MeanVector}[wanted](dim) if wanted != "none" else None
    fingerprint = str(kept.get("prefetch"))
    numbers = r"muvera-fastembed-dim\d+-ksim(\d+)-dproj(\d+)-reps(\d+)-seed(\d+)"
    if made := re.fullmatch(numbers, fingerprint):
        ksim, dprojections, repetitions, seed = map(int, made.groups())
        return Muvera(dim, ksim=ksim, dprojections=dprojections, repetitions=repetitions, seed=seed)
    # Of one that is not known here the store says that it is missing.
    return MeanVector(dim) if fingerprint == MeanVector(dim).fingerprint else None


def _sparse(kept: dict[str, Any]) -> Bm25 | None:
    """The words of the collection, if it has any."""
    made = re.fullmatch(r"qdrant-bm25-(\w+)-k([\d.]+)-b([\d.]+)-l([\d.]+)", str(kept.get("sparse")))
    if made is None:
        return None
    from chandelier.qdrant import Bm25

    k, b, average_length = map(float, made.groups()[1:])
    return Bm25(made[1], k=k, b=b, average_length=average_length)
