"""`WeaviateStore`: documents in a collection of Weaviate, found by MaxSim (extra `weaviate`)."""

from chandelier.extras import require

require("weaviate", "weaviate-client", "weaviate")

from chandelier.store.points.measures import SizeEstimate
from chandelier.weaviate.store import WeaviateStore
from chandelier.weaviate.verification import RepairError, Verification

__all__ = ["RepairError", "SizeEstimate", "Verification", "WeaviateStore"]
