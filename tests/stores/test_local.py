"""`LocalStore`: the contract, in memory and on a file, and what only it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract import StoreContract

from chandelier import ColBERT, LocalStore


class TestInMemory(StoreContract):
    @pytest.fixture
    def raw(self, tiny: ColBERT) -> LocalStore:
        return LocalStore(tiny)


class TestOnFile(StoreContract):
    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> LocalStore:
        return LocalStore(tiny, tmp_path / "store.db")


class TestHalfPrecision(TestOnFile):
    datatype = "float16"
    tolerance = 5e-4

    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> LocalStore:
        return LocalStore(tiny, tmp_path / "store.db", datatype="float16")


class TestAsynchronous(TestOnFile):
    asynchronous = True


class TestAsynchronousInMemory(TestInMemory):
    asynchronous = True
