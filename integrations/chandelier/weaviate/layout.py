"""A collection of Weaviate: how it is made, and whether one that is there will do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.multivectors import checked_count
from chandelier.store.points.checks import check_same, mismatch
from chandelier.store.points.engine import ROWS, Layout
from chandelier.weaviate.properties import KINDS, RESERVED, declared
from chandelier.weaviate.terms import FILTER_TERMS

__all__ = [
    "DECIDED",
    "PROPERTIES",
    "Wanted",
    "check_collection",
    "check_encoding",
    "checked_muvera",
    "checked_name",
    "checked_quantizer",
    "checked_tenant",
    "creation",
    "kept_settings",
    "multi_vector",
    "muvera_of",
    "native_properties",
]

MARK = "chandelier: "
"""In front of the settings, in the description of the collection."""

PROPERTIES = ["doc_id", "text", "metadata", "row_count"]
"""What a document comes back from."""

QUANTIZERS = ("bq", "sq", "pq", "rq")

DEFAULTS = {"ksim": 4, "dprojections": 16, "repetitions": 10}
"""Of Weaviate's own encoding."""

DECIDED = (
    *("name", "description", "properties", "multi_tenancy_config"),
    *("vector_config", "vector_index_config", "vectorizer_config"),
    *("data_model_properties", "data_model_references", "skip_argument_validation"),
)
"""Arguments of `collections.create` that the store gives, or has no use for."""

MOST_FDE = 65_535
"""Values of a vector that Weaviate indexes."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a collection of Weaviate must be like, beside what every collection must.

    Attributes:
        muvera: `ksim`, `dprojections` and `repetitions`; None for an index of all rows.
        quantizer: How the index is compressed.
        properties: The kinds of the fields that are declared.
        depth: The candidates of a search that does not say, and so `ef` of a new collection.
        is_tenant: Whether the documents belong to a tenant.
    """

    muvera: dict[str, int] | None
    quantizer: str | None
    properties: dict[str, str]
    depth: int
    is_tenant: bool

    @property
    def fde_size(self) -> int | None:
        """Values of the server's fixed-dimensional encoding."""
        return None if self.muvera is None else _size(self.muvera)

    @property
    def fingerprint(self) -> str | None:
        """What makes the server's encodings comparable."""
        if self.muvera is None:
            return None
        return "weaviate-muvera-ksim{ksim}-dproj{dprojections}-reps{repetitions}".format(**self.muvera)


def checked_name(collection: str) -> str:
    """A name that Weaviate takes as it is."""
    if not isinstance(collection, str) or not re.fullmatch("[A-Za-z][_0-9A-Za-z]{0,254}", collection):
        wanted = "a capital letter, then letters, digits and _"
        raise ArgumentError(f"collection: got {collection!r}, wanted {wanted}", argument="collection")
    if collection[0].islower():
        capital = collection[0].upper() + collection[1:]
        message = f"collection: got {collection!r}, which Weaviate would call {capital!r}; name it so"
        raise ArgumentError(message, argument="collection")
    return collection


def checked_tenant(tenant: str | None) -> str | None:
    """A name that Weaviate takes; it refuses another one only after the collection is made."""
    if tenant is not None and (not isinstance(tenant, str) or not re.fullmatch("[A-Za-z0-9_-]{1,64}", tenant)):
        wanted = "a name of at most 64 letters, digits, - and _"
        raise ArgumentError(f"tenant: got {tenant!r}, wanted {wanted}", argument="tenant")
    return tenant


def checked_muvera(muvera: bool | Mapping[str, int] | None) -> dict[str, int] | None:
    """The numbers of the server's encoding, Weaviate's own where none are given."""
    if muvera is None or muvera is False:
        return None
    given = {} if muvera is True else muvera
    if not isinstance(given, Mapping):
        wanted = f"True or {DEFAULTS}: the server computes the encoding"
        raise ArgumentError(f"muvera: got {type(muvera).__name__}, wanted {wanted}", argument="muvera")
    numbers = dict(DEFAULTS)
    for name, value in given.items():
        if name not in numbers:
            raise ArgumentError(f"muvera: got {name!r}, wanted one of {', '.join(numbers)}", argument="muvera")
        try:
            numbers[name] = checked_count(name, value, most=10 if name == "ksim" else MOST_FDE)
        except ArgumentError as error:
            raise ArgumentError(f"muvera: {error}", argument="muvera") from None
    size = _size(numbers)
    if size > MOST_FDE:
        wanted = f"wanted at most {MOST_FDE:,}: fewer repetitions, dprojections or a smaller ksim"
        raise ArgumentError(f"muvera: got encodings of {size:,} values, {wanted}", argument="muvera")
    return numbers


def checked_quantizer(quantizer: str | None) -> str | None:
    """The name of a quantizer."""
    if quantizer is not None and quantizer not in QUANTIZERS:
        got = repr(quantizer) if isinstance(quantizer, str) else type(quantizer).__name__
        raise ArgumentError(f"quantizer: got {got}, wanted one of {', '.join(QUANTIZERS)}", argument="quantizer")
    return quantizer


def creation(layout: Layout, wanted: Wanted, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `collections.create`."""
    quantizers = Configure.VectorIndex.Quantizer
    quantizer = quantizers.none() if wanted.quantizer is None else getattr(quantizers, wanted.quantizer)()
    encoding = wanted.muvera and Configure.VectorIndex.MultiVector.Encoding.muvera(**wanted.muvera)
    index = Configure.VectorIndex.hnsw(
        distance_metric=VectorDistances.DOT,
        ef=wanted.depth,
        # Below the cutoff a filtered search reranks twice the limit only, however large ef is.
        flat_search_cutoff=0 if wanted.muvera else None,
    )
    arguments: dict[str, Any] = {
        "description": MARK + json.dumps(layout.settings),
        "properties": _own_properties() + [declared(name, kind) for name, kind in wanted.properties.items()],
        "vector_config": [
            Configure.MultiVectors.self_provided(
                name=ROWS, encoding=encoding or None, quantizer=quantizer, vector_index_config=index
            )
        ],
    }
    if wanted.is_tenant:
        arguments["multi_tenancy_config"] = Configure.multi_tenancy(enabled=True)
    return {**options, **arguments}


def kept_settings(store: str, config: Any) -> dict[str, Any]:
    """What a store has left in the description of the collection."""
    _, mark, settings = str(config.description).rpartition(MARK)
    try:
        kept = json.loads(settings) if mark else None
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        message = f"{store}: is there, but its description keeps no fingerprint, so no store of ours wrote it"
        way_out = "name a new collection, and copy its documents as integrations/weaviate.md shows"
        raise StoreError(f"{message}; {way_out}", store=store)
    return kept


def check_encoding(store: str, config: Any, wanted: Wanted) -> None:
    """Refuses a collection with another `muvera`, or none, in the words that open it.

    It is not opened as it is in silence: the same search finds other documents with the one and with the other.
    """
    multi = multi_vector(config)
    if multi is not None and (there := muvera_of(multi)) != wanted.muvera:
        was, given = (f"muvera={numbers}" if numbers else "no muvera" for numbers in (there, wanted.muvera))
        argument = "no muvera" if there is None else f"muvera={True if there == DEFAULTS else there}"
        message = f"{store}: was made with {was}, and is opened with {given}"
        raise StoreError(f"{message}; open it with {argument}, or name another collection", store=store)


def check_collection(store: str, config: Any, wanted: Wanted) -> None:
    """Refuses, each by name, what would not give MaxSim of this model's rows."""
    vector = (config.vector_config or {}).get(ROWS)
    if vector is None:
        raise mismatch(store, f"vector {ROWS!r}", f"only {sorted(config.vector_config or {})}", "one of that name")
    index = vector.vector_index_config
    multi = getattr(index, "multi_vector", None)
    if multi is None:
        raise mismatch(store, f"vector {ROWS!r}", "one vector a document", "a multi-vector on HNSW")
    if not isinstance(index.ef, int):
        raise mismatch(store, f"ef of {ROWS!r}", repr(index.ef), "a whole number")
    check_same(store, f"distance of {ROWS!r}", index.distance_metric.value, VectorDistances.DOT.value)
    quantizer = None if index.quantizer is None else type(index.quantizer).__name__.strip("_").removesuffix("Config")
    if wanted.quantizer is not None:
        check_same(store, "quantizer", quantizer and quantizer.lower(), wanted.quantizer)
    if config.multi_tenancy_config.enabled != wanted.is_tenant:
        got, way_out = ("tenants", "give tenant=...") if not wanted.is_tenant else ("no tenants", "give no tenant")
        raise StoreError(f"{store}: has {got}; {way_out}, or name another collection", store=store)
    there = _kinds(config)
    for each in _own_properties():
        check_same(store, f"property {each.name!r}", there.get(each.name), each.dataType.value)
    for name, kind in wanted.properties.items():
        check_same(store, f"property {name!r}", there.get(name), kind)


def native_properties(config: Any) -> dict[str, str]:
    """The fields of the metadata that the collection has properties for, and their kinds."""
    return {name: kind for name, kind in _kinds(config).items() if name not in RESERVED and kind in KINDS}


def multi_vector(config: Any) -> Any:
    """How the collection keeps our rows; None if it does not, or as one vector a document."""
    vector = (config.vector_config or {}).get(ROWS)
    return getattr(vector and vector.vector_index_config, "multi_vector", None)


def muvera_of(multi: Any) -> dict[str, int] | None:
    """The numbers of its encoding; None if all rows are indexed."""
    encoding = multi.encoding
    if encoding is None:
        return None
    return {name: getattr(encoding, name) for name in ("ksim", "dprojections", "repetitions")}


def _kinds(config: Any) -> dict[str, str]:
    return {str(each.name): each.data_type.value for each in config.properties}


def _size(muvera: Mapping[str, int]) -> int:
    return int(muvera["repetitions"] * 2 ** muvera["ksim"] * muvera["dprojections"])


def _own_properties() -> list[Property]:
    field, text = Tokenization.FIELD, DataType.TEXT
    return [
        Property(name="doc_id", data_type=text, tokenization=field, index_searchable=False),
        Property(name="text", data_type=text, tokenization=Tokenization.WORD, index_filterable=False),
        Property(name="metadata", data_type=text, index_filterable=False, index_searchable=False),
        Property(name=FILTER_TERMS, data_type=DataType.TEXT_ARRAY, tokenization=field, index_searchable=False),
        Property(name="row_count", data_type=DataType.INT),
    ]
