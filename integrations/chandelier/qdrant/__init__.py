"""`QdrantStore`: documents in a collection of Qdrant, found by MaxSim (extra `qdrant`)."""

try:
    import qdrant_client as _client  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "qdrant_client":
        raise
    hint = "chandelier.qdrant needs qdrant-client: pip install 'chandelier[qdrant]'"
    raise ModuleNotFoundError(hint, name="qdrant_client") from None

from chandelier.qdrant.store import QdrantStore
from chandelier.store.points.measures import SizeEstimate
from chandelier.store.points.sparse import Bm25, SparseEncoder

__all__ = ["Bm25", "QdrantStore", "SizeEstimate", "SparseEncoder"]
