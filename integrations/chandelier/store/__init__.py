"""Stores: documents with ids, found by MaxSim. One protocol, whatever keeps them.

`LocalStore` keeps them in one file of SQLite and scores all of them exactly; `chandelier.plaid.PlaidStore` has an index
over them. `chandelier.qdrant.QdrantStore`, `chandelier.qdrant_edge.QdrantEdgeStore` and
`chandelier.weaviate.WeaviateStore` (extras of the same names) leave it to an engine. `copy_documents` takes them from
one to another.
"""

from chandelier.exceptions import PartialUpsertError, StoreError
from chandelier.store.copies import copy_documents
from chandelier.store.descriptions import open_store
from chandelier.store.documents import Document, Hit, UpsertReport
from chandelier.store.local import LocalStore
from chandelier.store.protocol import Store

__all__ = [
    "Document",
    "Hit",
    "LocalStore",
    "PartialUpsertError",
    "Store",
    "StoreError",
    "UpsertReport",
    "copy_documents",
    "open_store",
]
