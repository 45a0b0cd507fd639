"""`QdrantEdgeStore`: the contract, and what only the engine in process does."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract import StoreContract

from chandelier import ColBERT
from chandelier.qdrant_edge import QdrantEdgeStore


class TestEdge(StoreContract):
    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> QdrantEdgeStore:
        return QdrantEdgeStore(tmp_path / "store", tiny, datatype="float32")


class TestHalfPrecision(StoreContract):
    datatype = query_datatype = "float16"
    tolerance = 5e-4

    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> QdrantEdgeStore:
        return QdrantEdgeStore(tmp_path / "store", tiny)


class TestAsynchronous(TestEdge):
    asynchronous = True
