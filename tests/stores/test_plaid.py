"""`PlaidStore`: the contract, with an index and without one, and what only it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from contract import StoreContract

from chandelier import ColBERT, UpsertReport
from chandelier.plaid import PlaidStore, build


class TestWithoutIndex(StoreContract):
    """Nobody optimizes: all is scored exactly."""

    datatype = "float16"
    tolerance = 5e-4

    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> PlaidStore:
        return PlaidStore(tmp_path / "store", tiny)


class Optimized(PlaidStore):
    """Optimizes after each upsert, and so does whoever calls the asynchronous one."""

    def upsert(self, *arguments: Any, **options: Any) -> UpsertReport:
        report = super().upsert(*arguments, **options)
        self.optimize()
        return report


class TestWithIndex(TestWithoutIndex):
    """Every document is in a segment, however few there are."""

    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlaidStore:
        monkeypatch.setattr(build, "FEWEST", 1)
        return Optimized(tmp_path / "store", tiny)


class TestWithFewCandidates(TestWithIndex):
    """Fewer than there are documents, so that the index has to find them."""

    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlaidStore:
        monkeypatch.setattr(build, "FEWEST", 1)
        return Optimized(tmp_path / "store", tiny, depth=200)


class TestAsynchronous(TestWithIndex):
    asynchronous = True
