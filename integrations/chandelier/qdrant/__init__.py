"""`QdrantStore`: documents in a collection of Qdrant, found by MaxSim (extra `qdrant`)."""

from chandelier.extras import require

require("qdrant_client", "qdrant-client", "qdrant")

from chandelier.qdrant.store import QdrantStore
from chandelier.store.points.measures import SizeEstimate
from chandelier.store.points.sparse import Bm25, SparseEncoder

__all__ = ["Bm25", "QdrantStore", "SizeEstimate", "SparseEncoder"]
