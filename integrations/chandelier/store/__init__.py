"""Stores: documents with ids, found by MaxSim. One protocol, whatever keeps them.

`LocalStore` keeps them in one file of SQLite and scores all of them exactly; `chandelier.qdrant.QdrantStore`,
`chandelier.qdrant_edge.QdrantEdgeStore` and `chandelier.weaviate.WeaviateStore` (extras of the same names) leave it to
an engine.
"""

from chandelier.exceptions import PartialUpsertError, StoreError
from chandelier.store.descriptions import open_store
from chandelier.store.documents import Document, Hit, UpsertReport
from chandelier.store.local import LocalStore
from chandelier.store.protocol import Store

__all__ = ["Document", "Hit", "LocalStore", "PartialUpsertError", "Store", "StoreError", "UpsertReport", "open_store"]
