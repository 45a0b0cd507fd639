"""`QdrantEdgeStore`: documents in Qdrant's engine, in this process and one folder (extra `qdrant-edge`)."""

try:
    import qdrant_edge as _engine  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "qdrant_edge":
        raise
    hint = "chandelier.qdrant_edge needs qdrant-edge-py: pip install 'chandelier[qdrant-edge]'"
    raise ModuleNotFoundError(hint, name="qdrant_edge") from None

from chandelier.qdrant_edge.store import QdrantEdgeStore
from chandelier.store.points.measures import SizeEstimate
from chandelier.store.points.sparse import Bm25, SparseEncoder

__all__ = ["Bm25", "QdrantEdgeStore", "SizeEstimate", "SparseEncoder"]
