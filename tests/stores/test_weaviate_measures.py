"""What `WeaviateStore` measures and estimates, plain and with MUVERA."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import weaviate
from reference import random_documents, unit_rows

from chandelier import ColBERT
from chandelier.weaviate import WeaviateStore

DIM = 32
Open = Callable[..., WeaviateStore]
RANDOM = np.random.default_rng(5)
QUERIES = [unit_rows(RANDOM, 8, DIM) for _ in range(10)]


def test_recall_of_an_index_of_all_rows(open_weaviate: Open) -> None:
    store = open_weaviate()
    store.upsert(random_documents(300, DIM))
    report = store.recall_probe(QUERIES, 5, [5, 20, 300, 1000])
    assert [row.depth for row in report.rows] == [5, 20, 300, 1000], "neighbours of each row"
    recalls = [row.recall for row in report.rows]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1.0
    title, head, line = str(report).splitlines()
    assert title.startswith("share of the exact MaxSim top 5 that a search of depth n finds, ")
    assert head.split() == ["n", "=", "5", "n", "=", "20", "n", "=", "300", "n", "=", "1000", "candidates", "by"]
    assert line.endswith("an index of all rows")
    assert "(all)" not in line, "so many neighbours of each row need not be of all documents"


def test_recall_of_muvera_shows_each_number_of_candidates_once(open_weaviate: Open) -> None:
    store = open_weaviate(muvera=True, depth=20)
    store.upsert(random_documents(60, DIM))
    report = store.recall_probe(QUERIES, 5, [5, 10, 20, 40, 100, 200])
    assert [row.depth for row in report.rows] == [20, 40, 60], "from the collection's ef to all documents"
    assert str(report).splitlines()[-1].split()[0] == "2,560"
    assert str(report).count("1.00 (all)") == 1


def test_sizes_say_what_is_in_memory(tiny: ColBERT) -> None:
    rows = 1_000_000 * 150 * DIM * 4
    client = weaviate.use_async_with_local()
    plain = WeaviateStore(client, "Notes", tiny).size_estimate(1_000_000, 150)
    assert (plain.rows, plain.prefetch, str(plain)) == (rows, 0, "rows 19.20 GB in memory")
    muvera = WeaviateStore(client, "Notes", tiny, muvera=True).size_estimate(1_000_000, 150)
    assert (muvera.rows, muvera.prefetch) == (rows, 1_000_000 * 2560 * 4)
    assert str(muvera) == "rows 19.20 GB on disk, prefetch 10.24 GB in memory"
