"""`QdrantEdgeStore`: documents in Qdrant's engine, in this process and one folder (extra `qdrant-edge`)."""

from chandelier.extras import require

require("qdrant_edge", "qdrant-edge-py", "qdrant-edge")

from chandelier.qdrant_edge.store import QdrantEdgeStore
from chandelier.store.points.measures import SizeEstimate
from chandelier.store.points.sparse import Bm25, SparseEncoder

__all__ = ["Bm25", "QdrantEdgeStore", "SizeEstimate", "SparseEncoder"]
