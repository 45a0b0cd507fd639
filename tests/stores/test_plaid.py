"""`PlaidStore`: the contract, with an index and without one, and what only it does."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import StoreContract
from hypothesis import given, settings
from hypothesis import strategies as st
from plaid_folder import DOCUMENTS, QUERY
from reference import best, ids, maxsim64, passes, random_documents, unit_rows

from chandelier import ArgumentError, ColBERT, Document, ShapeError, StoreError, UpsertReport
from chandelier.plaid import PlaidStore, build
from chandelier.plaid.search import Knobs


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


@pytest.fixture
def store(tiny: ColBERT, tmp_path: Path) -> Iterator[PlaidStore]:
    with PlaidStore(tmp_path / "store", tiny) as store:
        yield store


@pytest.fixture
def filled(store: PlaidStore) -> PlaidStore:
    """With an index over all documents."""
    store.upsert(DOCUMENTS)
    assert store.optimize()
    return store


def expected(query: Any, documents: Iterable[Document], k: int) -> list[str]:
    return [id for id, _ in best(query, documents, k, "float16")]


# Arguments


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"model": "path/to/model"}, "model"),
        ({"path": 3}, "path"),
        ({"path": ""}, "path"),
        ({"nbits": 3}, "nbits"),
        ({"nbits": True}, "nbits"),
        ({"nbits": "4"}, "nbits"),
        ({"n_ivf_probe": 0}, "n_ivf_probe"),
        ({"n_full_scores": 1.5}, "n_full_scores"),
        ({"depth": 0}, "depth"),
        ({"depth": None}, "depth"),
        ({"pool_factor": 0}, "pool_factor"),
        ({"protected_tokens": -1}, "protected_tokens"),
        ({"memory_limit": 0}, "memory_limit"),
    ],
)
def test_bad_arguments(tiny: ColBERT, tmp_path: Path, options: dict[str, Any], argument: str) -> None:
    with pytest.raises(ArgumentError, match=f"{argument}: got") as caught:
        PlaidStore(**{"path": tmp_path / "store", "model": tiny, **options})
    assert caught.value.argument == argument
    assert os.listdir(tmp_path) == []


def test_the_package_does_not_import_it() -> None:
    code = "import sys, chandelier, chandelier.store; print('chandelier.plaid' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


# Finding


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 30), st.sampled_from([2, 4]), st.booleans())
def test_with_enough_candidates_the_order_is_that_of_maxsim(
    tiny: ColBERT, seed: int, tokens: int, k: int, nbits: int, filtered: bool
) -> None:
    """Whatever is in segments, in however many, or in none; ties and all."""
    chance = random.Random(seed)
    documents = {each.id: each for each in random_documents(chance.randint(1, 80), 32, seed=seed)}
    query = unit_rows(np.random.default_rng(seed), tokens, 32)
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as monkeypatch,
        PlaidStore(folder, tiny, nbits=nbits) as store,
    ):
        monkeypatch.setattr(build, "FEWEST", 1)
        left: dict[str, Document] = {}
        for _ in range(chance.randint(1, 4)):
            chosen = chance.sample(sorted(documents), chance.randint(1, len(documents)))
            store.upsert(documents[id] for id in chosen)
            gone = chance.sample(chosen, chance.randint(0, len(chosen) // 2))
            store.delete(gone)
            left = {
                **{id: each for id, each in left.items() if id not in chosen},
                **{id: documents[id] for id in chosen},
            }
            left = {id: each for id, each in left.items() if id not in gone}
            if chance.random() < 0.7:
                store.optimize(rebuild=chance.random() < 0.3)
        filter = {"even": True} if filtered else {}
        passing = [each for each in left.values() if passes(each.metadata, filter)]
        hits = store.search(query, k, filter=filter, depth=max(k, 80))
        exact = store.search(query, k, filter=filter, exact=True)
        assert hits == exact
        scores = {each.id: maxsim64(query, each.vectors, "float16") for each in passing}
        assert sorted(scores, key=lambda id: -scores[id])[:k] == ids(hits)


def test_candidates_are_found_and_scored_by_their_rows(filled: PlaidStore) -> None:
    """Of so few that most documents are never scored by their rows; a score that is given is true."""
    rng = np.random.default_rng(1)
    found = 0
    by_id = {each.id: each for each in DOCUMENTS}
    for number in range(0, 1000, 20):
        query = DOCUMENTS[number].vectors + 0.05 * rng.standard_normal(DOCUMENTS[number].vectors.shape)
        query = (query / np.linalg.norm(query, axis=1, keepdims=True)).astype(np.float32)
        hits = filled.search(query, 5, depth=20)
        assert len(hits) == 5
        for hit in hits:
            assert hit.score == pytest.approx(maxsim64(query, by_id[hit.id].vectors, "float16"), abs=1e-5 * len(query))
        found += hits[0].id == filled.search(query, 1, exact=True)[0].id
    assert found >= 49


def test_a_query_that_is_longer_than_an_index_is_asked(filled: PlaidStore, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [unit_rows(np.random.default_rng(i), 8, 32) for i in range(20)]
    exact = filled.search_many(queries, 10, exact=True)
    with PlaidStore(filled.path, filled.model, n_ivf_probe=1, n_full_scores=10, depth=10) as other:
        assert other.search_many(queries, 10) != exact
        monkeypatch.setattr("chandelier.plaid.search.MOST_QUERY_ROWS", 7)
        assert other.search_many([*queries, queries[0][:7]], 10)[:20] == exact


@pytest.mark.parametrize(
    ("documents", "given", "depth", "wanted"),
    [
        (1000, None, 100, 512),
        (16_000, None, 100, 1000),
        (10**6, None, 100, 2048),
        (1000, None, 500, 2000),
        (10**6, 64, 10, 64),
        (10**6, 64, 100, 100),
    ],
)
def test_how_many_documents_get_full_scores(documents: int, given: int | None, depth: int, wanted: int) -> None:
    assert Knobs(None, given, depth).full_scores(documents) == wanted


def test_k_hits_come_however_few_cells_are_looked_into(tiny: ColBERT, tmp_path: Path) -> None:
    with PlaidStore(tmp_path / "store", tiny, n_ivf_probe=1, n_full_scores=1, depth=1) as store:
        store.upsert(DOCUMENTS)
        store.optimize()
        for k in (1, 10, 400, 1000):
            assert len(store.search(QUERY[:1], k)) == k
            assert len(store.search(QUERY[:1], k, filter={"even": True})) == min(k, 500)


def test_filters_are_honoured_exactly(filled: PlaidStore) -> None:
    filled.upsert(random_documents(30, 32, seed=5))  # replaces, in no segment
    there = [*DOCUMENTS[30:], *random_documents(30, 32, seed=5)]
    for filter in (
        {"i": {"$lt": 50}},
        {"even": True},
        {"i": {"$in": [3, 500, 999]}},
        {"i": -1},
        {"even": {"$ne": True}},
    ):
        passing = [each for each in there if passes(each.metadata, filter)]
        assert ids(filled.search(QUERY, filter=filter, depth=1000)) == expected(QUERY, passing, 10)
        hits = filled.search(QUERY, 20, filter=filter, depth=20)
        assert len(hits) == min(20, len(passing))
        assert set(ids(hits)) <= set(ids(passing))


def test_what_is_replaced_or_deleted_never_comes_back(filled: PlaidStore) -> None:
    """Of dead rows in segments, before and after they are built again."""
    old = {each.id: each for each in DOCUMENTS}
    new = {
        f"doc-{i}": Document(f"doc-{i}", "new", vectors=unit_rows(np.random.default_rng(i), 2, 32)) for i in range(100)
    }
    filled.upsert(new.values())
    filled.delete(f"doc-{i}" for i in range(100, 150))
    for step in (lambda: None, filled.optimize, lambda: filled.optimize(rebuild=True)):
        step()
        assert filled.count() == 950
        for i in range(0, 150, 7):
            hits = filled.search(old[f"doc-{i}"].vectors, 10)
            assert len(hits) == 10
            for hit in hits:
                number = int(hit.id[4:])
                assert not 100 <= number < 150
                assert hit.text == ("new" if number < 100 else f"text {number}")
            if i < 100:
                (hit,) = filled.search(new[f"doc-{i}"].vectors, 1)
                assert (hit.id, hit.score) == (f"doc-{i}", pytest.approx(2, abs=2e-3))


def test_ids_stay_what_they_are(filled: PlaidStore) -> None:
    """Deleting renumbers nothing."""
    filled.delete(each.id for each in DOCUMENTS[::2])
    for optimizes in (False, True):
        assert filled.optimize(rebuild=True) if optimizes else True
        for number in range(1, 1000, 50):
            (hit,) = filled.search(DOCUMENTS[number].vectors, 1)
            assert (hit.id, hit.text, hit.metadata) == (f"doc-{number}", f"text {number}", {"i": number, "even": False})


def test_a_document_without_rows(filled: PlaidStore) -> None:
    nothing = Document("none", "nothing is left", {"i": -5}, np.zeros((0, 32), np.float32))
    assert filled.upsert([nothing]).without_rows == ["none"]
    assert filled.segments == 1
    assert not filled.optimize()
    assert filled.optimize(rebuild=True)
    assert filled.search(QUERY, filter={"i": -5}) == []
    assert filled.get(["none"]) == [nothing]
    assert len(filled.search(QUERY, 2000, depth=2000)) == 1000


def test_rows_of_another_length(filled: PlaidStore) -> None:
    report = filled.upsert([Document("wrong", "", vectors=unit_rows(np.random.default_rng(1), 3, 31))])
    assert list(report.failed) == ["wrong"]
    with pytest.raises(ShapeError, match="31"):
        filled.search(unit_rows(np.random.default_rng(1), 3, 31))
    assert filled.search(QUERY)


def test_nothing_is_left(filled: PlaidStore, tiny: ColBERT) -> None:
    """All deleted: it is searched, optimized, opened and filled again."""
    filled.delete_all()
    assert filled.search(QUERY) == []
    for _ in range(2):
        filled.optimize()
        assert (filled.segments, filled.search(QUERY), filled.search(QUERY, exact=True)) == (0, [], [])
    assert os.listdir(Path(filled.path) / "segments") == []
    with PlaidStore(filled.path, tiny) as other:
        assert other.search(QUERY) == []
        other.upsert(DOCUMENTS[:300])
        assert other.optimize()
        assert ids(filled.search(QUERY, depth=300)) == expected(QUERY, DOCUMENTS[:300], 10)


def test_nothing_is_printed(tiny: ColBERT, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with PlaidStore(tmp_path / "store", tiny) as store:
        store.upsert(DOCUMENTS)
        store.optimize()
        store.search(QUERY)
        store.delete(["doc-1"])
        store.optimize(rebuild=True)
        store.recall([QUERY])
    assert capfd.readouterr() == ("", "")
    with PlaidStore(tmp_path / "store", tiny) as store:
        store.optimize(rebuild=True, progress=True)
    assert "optimizing" in capfd.readouterr().err


# Memory


def test_only_what_is_in_no_segment_takes_memory(tiny: ColBERT, tmp_path: Path) -> None:
    half = [Document(f"{i}", "", vectors=np.repeat(QUERY, 8, axis=0)) for i in range(400)]
    limit = 500 * 64 * 32 * 2
    with PlaidStore(tmp_path / "store", tiny, memory_limit=limit) as store:
        store.upsert(half)
        more = [Document(f"more-{i}", "", vectors=each.vectors) for i, each in enumerate(half)]
        assert len(store.upsert(more).stored) == 400, "what is to be indexed need not fit into memory"
        with pytest.raises(StoreError, match=r"are allowed by memory_limit; call optimize\(\)"):
            store.search(QUERY)
        store.delete(each.id for each in more)
        store.optimize()
        store.upsert(more)
        store.search(QUERY)
        assert store._held.newest.nbytes == 400 * 64 * 32 * 2
        store.optimize()
        store.search(QUERY)
        assert store._held.newest.nbytes == 0


def test_many_documents_without_an_index_are_said(
    filled: PlaidStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("chandelier.plaid.store.MANY_FRESH", 100)
    filled.search(QUERY)
    assert not caplog.records
    filled.upsert(random_documents(101, 32, seed=3))
    for _ in range(3):
        filled.search(QUERY)
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage() == f"{filled.path}: scoring 101 documents one by one; optimize() makes searches faster"
    filled.optimize()
    filled.search(QUERY)
    filled.upsert(random_documents(102, 32, seed=3))
    filled.search(QUERY)
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 2


# Recall


def test_recall(filled: PlaidStore) -> None:
    rng = np.random.default_rng(2)
    queries = [unit_rows(rng, 6, 32) for _ in range(40)]
    report = filled.recall(queries, n_ivf_probe=[2, None], n_full_scores=[1000, 50, 300], depth=50)
    assert (report.queries, report.documents, report.k) == (40, 1000, 10)
    assert [(row.encoder, row.depth) for row in report.rows] == [
        (cells, number) for cells in ("n_ivf_probe 2", "all cells") for number in (50, 300, 1000)
    ]
    shares = {(row.encoder, row.depth): row.recall for row in report.rows}
    with PlaidStore(filled.path, filled.model, n_ivf_probe=2, n_full_scores=300, depth=50) as other:
        found = sum(len(set(ids(other.search(query))) & set(ids(other.search(query, exact=True)))) for query in queries)
    assert shares["n_ivf_probe 2", 300] == pytest.approx(found / 400)
    assert shares["all cells", 1000] > 0.95
    assert shares["n_ivf_probe 2", 50] < shares["all cells", 50] < shares["all cells", 1000]
    text = str(report)
    assert "top 10 that a search of n_full_scores n finds" in text
    assert "n = 300" in text
    assert "all cells" in text


def test_recall_refuses(store: PlaidStore) -> None:
    with pytest.raises(StoreError, match=r"has no index to measure, .*optimize\(\)"):
        store.recall([QUERY])
    for options, argument in (
        ({"queries": []}, "queries"),
        ({"n_ivf_probe": []}, "n_ivf_probe"),
        ({"n_ivf_probe": [0]}, "n_ivf_probe"),
        ({"n_ivf_probe": 4}, "n_ivf_probe"),
        ({"queries": "text"}, "queries"),
        ({"n_full_scores": ["a"]}, "n_full_scores"),
        ({"k": 0}, "k"),
        ({"depth": 3}, "depth"),
    ):
        with pytest.raises(ArgumentError, match=f"{argument}: got"):
            store.recall(**{"queries": [QUERY], **options})
