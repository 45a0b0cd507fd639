"""`copy_documents`: from any store to any other."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient
from reference import ids, random_documents, unit_rows

from chandelier import ArgumentError, ColBERT, Document, LocalStore, Store
from chandelier.plaid import PlaidStore
from chandelier.qdrant import QdrantStore
from chandelier.qdrant_edge import QdrantEdgeStore
from chandelier.store import copy_documents

DOCUMENTS = random_documents(300, 32)
QUERY = unit_rows(np.random.default_rng(9), 8, 32)

STORES: dict[str, Callable[[Path, ColBERT], Store]] = {
    "local": lambda path, model: LocalStore(model, f"{path}.db", datatype="float16"),
    "plaid": PlaidStore,
    "edge": QdrantEdgeStore,
    "qdrant": lambda path, model: QdrantStore(QdrantClient(":memory:"), path.name, model),
}


@pytest.mark.parametrize("source", STORES)
@pytest.mark.parametrize("target", STORES)
def test_everything_is_there_again(tiny: ColBERT, tmp_path: Path, source: str, target: str) -> None:
    with STORES[source](tmp_path / "one", tiny) as one, STORES[target](tmp_path / "other", tiny) as other:
        one.upsert(DOCUMENTS)
        report = copy_documents(one, other)
        assert sorted(report.stored) == sorted(ids(DOCUMENTS))
        assert not report.failed
        pairs = zip(
            sorted(one.iterate(with_vectors=True), key=attrgetter("id")),
            sorted(other.iterate(with_vectors=True), key=attrgetter("id")),
            strict=True,
        )
        for was, is_now in pairs:
            assert was == is_now
            off = np.abs(np.asarray(was.vectors, np.float32) - np.asarray(is_now.vectors, np.float32)).max()
            assert off < 5e-4 if source == "qdrant" else off == 0  # local mode keeps float32, the others half


def test_a_filter_and_again(tiny: ColBERT) -> None:
    with LocalStore(tiny) as one, LocalStore(tiny) as other:
        one.upsert([*DOCUMENTS, Document("none", "", vectors=np.zeros((0, 32), np.float32))])
        assert len(copy_documents(one, other, filter={"even": True}).stored) == other.count() == 150
        report = copy_documents(one, other)
        assert (len(report.stored), report.without_rows, other.count()) == (301, ["none"], 301)
        assert other.search(QUERY, 400) == sorted(one.search(QUERY, 400), key=lambda hit: -hit.score)


def test_a_bar_of_known_length(tiny: ColBERT, capfd: pytest.CaptureFixture[str]) -> None:
    with LocalStore(tiny) as one, LocalStore(tiny) as other:
        one.upsert(DOCUMENTS)
        copy_documents(one, other)
        assert capfd.readouterr().err == ""
        copy_documents(one, other, progress=True)
        assert "300/300" in capfd.readouterr().err


def test_another_model_is_refused(tiny: ColBERT, open_model: Callable[[str], ColBERT]) -> None:
    model = open_model("b_bert_attend")
    with LocalStore(tiny) as one, LocalStore(model) as other:
        one.upsert(DOCUMENTS)
        with pytest.raises(ArgumentError, match="target: has model") as caught:
            copy_documents(one, other)
        for part in (tiny.fingerprint, model.fingerprint, "a_bert_pylate", "b_bert_attend", "upsert the texts"):
            assert part in str(caught.value)
        assert other.count() == 0
        with pytest.raises(ArgumentError, match="target: got the source itself"):
            copy_documents(one, one)
        with pytest.raises(ArgumentError, match="store: got str"):
            copy_documents("one", other)  # type: ignore[arg-type]
