"""What every host's reranker and retriever must do, whatever the host calls it: frameworks.md, section 6.

A host's test class names how a component is made and called; each test then runs against it with a real checkpoint.
"""

from __future__ import annotations

import asyncio
import copy
import pickle
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chandelier import ColBERT, Document, LocalStore, Store
from chandelier.shared import SHARED

QUESTION = "what is the capital of france?"
TEXTS = [
    "Bread needs flour, water and salt.",
    "Paris is the capital of France.",
    "The moon moves the sea.",
    "La capitale de la France est Paris.",
    "Zażółć gęślą jaźń 👩‍👩‍👧 東京は日本の首都です。",
    "",
    "Paris is the capital of France.",
]
WEAVIATE: dict[str, dict[str, Any]] = {"weaviate": {}, "weaviate-muvera": {"muvera": True}}
"""Stores of the fixture `open_weaviate`, and their options."""

LONG = "The sea is deep and wide. " * 60 + "Paris is the capital of France. " + "The moon is far away. " * 60


@dataclass(frozen=True)
class Item:
    """A document that goes into a host."""

    id: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A document that comes out; `metadata` without what the adapter added."""

    id: str
    text: str
    metadata: dict[str, Any]
    score: float
    truncated: bool = False
    explanation: dict[str, Any] | None = None


def items(texts: list[str] = TEXTS) -> list[Item]:
    return [Item(f"id-{index}", text, {"page": index, "tags": ["a", "ü"]}) for index, text in enumerate(texts)]


def exact_scores(model: ColBERT, query: str, texts: list[str]) -> list[float]:
    """MaxSim in float64, divided by the query's vectors."""
    (rows,) = (matrix.astype(np.float64) for matrix in model.encode_queries([query]))
    documents = [matrix.astype(np.float64) for matrix in model.encode_documents(texts)]
    return [float((rows @ matrix.T).max(axis=1).sum() / len(rows)) for matrix in documents]


class RerankContract(ABC):
    """Over one way to call one host's reranker."""

    @abstractmethod
    def component(self, model: Any, **options: Any) -> Any:
        """The host's reranker; options by the names of `chandelier.rerank.Reranker`."""

    @abstractmethod
    def documents(self, items: list[Item]) -> list[Any]:
        """The host's documents."""

    @abstractmethod
    def read(self, documents: list[Any]) -> list[Result]:
        """What the host's documents say."""

    @abstractmethod
    def rerank(self, component: Any, query: str, documents: list[Any]) -> list[Any]:
        """Call the synchronous method."""

    def ranked(self, model: Any, given: list[Item], query: str = QUESTION, **options: Any) -> list[Result]:
        component = self.component(model, **{"top_n": None, **options})
        return self.read(self.rerank(component, query, self.documents(given)))

    @pytest.fixture
    def checkpoint(self, goldens: Path) -> str:
        """The tiny checkpoint's folder."""
        return str(goldens / "a_bert_pylate" / "checkpoint")

    def test_scores_are_maxsim_and_each_stays_with_its_document(self, checkpoint: str, tiny: ColBERT) -> None:
        given = items()
        exact = dict(zip((item.id for item in given), exact_scores(tiny, QUESTION, TEXTS), strict=True))
        by_id = {item.id: item for item in given}
        shuffler = random.Random(7)
        for _ in range(4):
            found = self.ranked(checkpoint, given)
            assert sorted(result.id for result in found) == sorted(by_id)
            for result in found:
                assert result.score == pytest.approx(exact[result.id], abs=1e-5)
                assert (result.text, result.metadata) == (by_id[result.id].text, by_id[result.id].metadata)
            assert [result.score for result in found] == sorted((result.score for result in found), reverse=True)
            shuffler.shuffle(given)

    def test_negative_scores_are_sorted_as_well(self, goldens: Path) -> None:
        given = items(["42 !", "qqq zzz", "a b", "the", "Paris is"])
        checkpoint = str(goldens / "x2_qwen3_bidirectional" / "checkpoint")
        found = self.ranked(checkpoint, given, "zebra", model_kwargs={"do_query_expansion": False})
        scores = [result.score for result in found]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] > 0 > scores[-1]

    def test_equal_texts_keep_their_ids_and_their_order(self, checkpoint: str) -> None:
        given = [Item(f"{index}", "the same text") for index in (3, 1, 2)]
        assert [result.id for result in self.ranked(checkpoint, given)] == ["3", "1", "2"]

    def test_no_documents(self, checkpoint: str) -> None:
        assert self.ranked(checkpoint, []) == []

    def test_one_document(self, checkpoint: str) -> None:
        assert [result.id for result in self.ranked(checkpoint, items()[:1])] == ["id-0"]

    @pytest.mark.parametrize(("top_n", "count"), [(None, 7), (1, 1), (3, 3), (100, 7)])
    def test_top_n(self, checkpoint: str, top_n: int | None, count: int) -> None:
        everything = self.ranked(checkpoint, items())
        assert self.ranked(checkpoint, items(), top_n=top_n) == everything[:count]

    def test_scores_as_they_are(self, checkpoint: str, tiny: ColBERT) -> None:
        divided = self.ranked(checkpoint, items())
        summed = self.ranked(checkpoint, items(), score_normalization="none")
        assert [result.id for result in summed] == [result.id for result in divided]
        for one, other in zip(summed, divided, strict=True):
            assert one.score == pytest.approx(other.score * tiny.query_length, rel=1e-6)

    def test_a_threshold_counts_after_normalisation(self, checkpoint: str) -> None:
        everything = self.ranked(checkpoint, items())
        middle = everything[3].score
        kept = self.ranked(checkpoint, items(), score_threshold=middle)
        assert kept == [result for result in everything if result.score >= middle]
        assert self.ranked(checkpoint, items(), score_threshold=1.1) == []
        assert self.ranked(checkpoint, items(), score_threshold=-1.0) == everything

    def test_nothing_given_is_changed(self, checkpoint: str) -> None:
        documents = self.documents(items([*TEXTS, LONG]))
        before = copy.deepcopy(documents)
        component = self.component(checkpoint, top_n=None, explain=True)
        found = self.rerank(component, QUESTION, documents)
        assert documents == before
        for one in self.rerank(component, QUESTION, found):  # nor what came out, when it goes in again
            assert one not in before
        assert documents == before

    def test_notes_of_an_earlier_rerank_are_replaced(self, checkpoint: str) -> None:
        documents = self.documents(items([*TEXTS, LONG]))
        once = self.rerank(self.component(checkpoint, top_n=None, explain=True), "the moon", documents)
        again = self.rerank(self.component(checkpoint, top_n=None, long_documents="window"), QUESTION, once)
        fresh = self.rerank(self.component(checkpoint, top_n=None, long_documents="window"), QUESTION, documents)
        by_id = {result.id: result for result in self.read(fresh)}
        assert {result.id: result for result in self.read(again)} == by_id
        assert all(result.explanation is None and not result.truncated for result in by_id.values())

    def test_what_others_keep_under_the_names_of_notes_stays(self, checkpoint: str) -> None:
        own = {"truncated": "in 1998", "explanation": "see page 4"}
        (found,) = self.ranked(checkpoint, [Item("a", TEXTS[1], {"page": 3, **own})])
        assert {"truncated": found.truncated, "explanation": found.explanation, **found.metadata} == {"page": 3, **own}

    def test_a_long_document_is_marked_or_read_in_windows(self, checkpoint: str, tiny: ColBERT) -> None:
        given = items([LONG, "The sea."])
        cut = {result.id: result for result in self.ranked(checkpoint, given, QUESTION)}
        assert (cut["id-0"].truncated, cut["id-1"].truncated) == (True, False)
        windows = {result.id: result for result in self.ranked(checkpoint, given, QUESTION, long_documents="window")}
        assert not any(result.truncated for result in windows.values())
        parts = [LONG[start:end] for start, end in tiny.windows([LONG])[0]]
        assert windows["id-0"].score == pytest.approx(max(exact_scores(tiny, QUESTION, parts)), abs=1e-5)
        assert windows["id-0"].text == LONG

    @pytest.mark.parametrize("long_documents", ["truncate", "window"])
    def test_explanations_point_into_the_text(self, checkpoint: str, long_documents: str) -> None:
        given = [Item("a", TEXTS[1]), Item("b", TEXTS[4]), Item("c", LONG)]
        for result in self.ranked(checkpoint, given, explain=True, long_documents=long_documents):
            assert result.explanation is not None
            assert result.explanation["spans"]
            start, end = result.explanation["seen"]
            for span in result.explanation["spans"]:
                assert result.text[span["start"] : span["end"]] == span["text"] != ""
                assert start <= span["start"] < span["end"] <= end

    def test_an_empty_question_is_refused(self, checkpoint: str) -> None:
        for query in ("", " \n"):
            with pytest.raises(ValueError, match="query"):
                self.ranked(checkpoint, items(), query)

    @pytest.mark.parametrize(
        "options",
        [
            {"top_n": 0},
            {"top_n": -1},
            {"score_normalization": "minmax"},
            {"score_threshold": float("nan")},
            {"long_documents": "split"},
            {"window_overlap": -1, "long_documents": "window"},
            {"cache_bytes": -1},
            {"model_kwargs": {"query_lenght": 3}},
            {"model_kwargs": {"token": "hf_secret"}},
            {"topn": 3},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_a_bad_option_is_refused_when_it_is_given(self, checkpoint: str, options: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError)) as caught:
            self.component(checkpoint, **options)
        assert "hf_secret" not in str(caught.value)

    def test_a_checkpoint_that_is_not_there_is_missed_at_first_use(self, tmp_path: Path) -> None:
        component = self.component(str(tmp_path / "not-there"), top_n=None)
        with pytest.raises(FileNotFoundError, match="not-there"):
            self.rerank(component, QUESTION, self.documents(items()))

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_copies_load_nothing_and_do_the_same(self, checkpoint: str, copied: Callable[[Any], Any]) -> None:
        options = {"top_n": 2, "model_kwargs": {"query_length": 23}}
        component = self.component(checkpoint, **options)
        opened = set(SHARED.models)
        other = copied(component)
        assert set(SHARED.models) == opened
        documents = self.documents(items())
        assert self.read(self.rerank(other, QUESTION, documents)) == self.read(
            self.rerank(component, QUESTION, documents)
        )

    def test_an_open_model_is_unpickled_when_it_is_needed(self, checkpoint: str, tmp_path: Path) -> None:
        """Its folder is gone meanwhile, so whoever opened it at once would fail."""
        place = tmp_path / "model"
        place.symlink_to(checkpoint)
        component = self.component(ColBERT(place, query_length=21), top_n=2)
        wanted = self.read(self.rerank(component, QUESTION, self.documents(items())))
        place.unlink()
        other = pickle.loads(pickle.dumps(component))
        with pytest.raises(FileNotFoundError):
            self.rerank(other, QUESTION, self.documents(items()))
        place.symlink_to(checkpoint)
        assert self.read(self.rerank(other, QUESTION, self.documents(items()))) == wanted

    def test_a_folder_stays_the_same_when_the_process_goes_elsewhere(
        self, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(Path(checkpoint).parent)
        components = [self.component(model, top_n=None) for model in ("checkpoint", Path("checkpoint"))]
        components.append(self.component(ColBERT("checkpoint"), top_n=None))
        monkeypatch.chdir(tmp_path)
        for component in components:
            for one in (component, copy.deepcopy(component), pickle.loads(pickle.dumps(component))):
                assert len(self.rerank(one, QUESTION, self.documents(items()))) == len(TEXTS)

    def test_an_open_model_serves_as_well(self, checkpoint: str, tiny: ColBERT) -> None:
        assert self.ranked(tiny, items()) == self.ranked(checkpoint, items())

    def test_threads_share_one_model(self, checkpoint: str) -> None:
        documents = self.documents(items())
        before = {*SHARED.models}
        component = self.component(checkpoint, top_n=None, cache_bytes=2000)
        queries = [f"{QUESTION} {number}" for number in range(16)]
        serial = [self.read(self.rerank(component, query, documents)) for query in queries]
        with ThreadPoolExecutor(16) as pool:
            both = list(pool.map(lambda query: self.read(self.rerank(component, query, documents)), queries))
        assert both == serial
        assert len(SHARED.models.keys() - before) <= 1


class AsyncRerankContract(RerankContract):
    """The same through the asynchronous method, and what only that can get wrong."""

    @abstractmethod
    async def arerank(self, component: Any, query: str, documents: list[Any]) -> list[Any]:
        """Call the asynchronous method."""

    def rerank(self, component: Any, query: str, documents: list[Any]) -> list[Any]:
        return asyncio.run(self.arerank(component, query, documents))

    async def test_the_loop_goes_on(self, minilm: ColBERT, report: Callable[[str], None]) -> None:
        """Eight reranks at once: the longest gap between ticks is far below the time of one."""
        component = self.component(minilm, top_n=None, cache_bytes=0)
        documents = self.documents(items([f"{number}: {LONG[:400]}" for number in range(12)]))
        await self.arerank(component, QUESTION, documents[:1])
        begun = time.perf_counter()
        alone = self.read(await self.arerank(component, QUESTION, documents))
        own_time = time.perf_counter() - begun
        longest = []
        for _ in range(3):  # another process may have held the cores
            gaps, ticker = _ticking()
            both = await asyncio.gather(*(self.arerank(component, QUESTION, documents) for _ in range(8)))
            ticker.cancel()
            assert all(self.read(found) == alone for found in both)
            longest.append(max(gaps))
            if longest[-1] < own_time / 2:
                break
        milliseconds = f"longest gap {longest[-1] * 1e3:.0f} ms, one {own_time * 1e3:.0f}"
        report(f"{type(self).__name__}: 8 reranks at once, {milliseconds}")
        assert min(longest) < own_time / 2

    async def test_one_of_many_fails_alone(self, checkpoint: str) -> None:
        component = self.component(checkpoint, top_n=None)
        documents = self.documents(items())
        queries = ["the moon", " ", "the sea", QUESTION]
        found = await asyncio.gather(
            *(self.arerank(component, query, documents) for query in queries), return_exceptions=True
        )
        assert [isinstance(one, ValueError) for one in found] == [False, True, False, False]
        assert self.read(found[3]) == self.read(await self.arerank(component, QUESTION, documents))

    async def test_a_call_that_is_cancelled_ends_at_once_and_spoils_nothing(self, minilm: ColBERT) -> None:
        component = self.component(minilm, top_n=None, cache_bytes=0)
        documents = self.documents(items([f"{number}: {LONG[:600]}" for number in range(200)]))
        await self.arerank(component, QUESTION, documents[:1])
        task = asyncio.create_task(self.arerank(component, QUESTION, documents))
        await asyncio.sleep(0.1)
        begun = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.perf_counter() - begun < 1.0  # the whole takes several seconds
        assert len(await self.arerank(component, QUESTION, documents[:2])) == 2


class RetrievalContract(ABC):
    """Over one way to call one host's retriever."""

    @abstractmethod
    def component(self, store: Any, **options: Any) -> Any:
        """The host's retriever; options by the names of `chandelier.retrieval.Retrieval`, and `k` and `filter`."""

    @abstractmethod
    def read(self, documents: list[Any]) -> list[Result]:
        """What the host's documents say."""

    @abstractmethod
    def search(self, component: Any, query: str, **per_call: Any) -> list[Any]:
        """Call the synchronous method; per call there may be `k` and `filter`."""

    def filter(self, dialect: dict[str, Any]) -> Any:
        """A filter `{"page": {"$gte": 2}}` in the host's own words."""
        return dialect

    @pytest.fixture
    def store(self, tiny: ColBERT) -> Any:
        with LocalStore(tiny) as store:
            store.upsert(Document(item.id, item.text, {**item.metadata, "deep": {"ü": [1, None]}}) for item in items())
            yield store

    def found(self, store: Store, query: str = QUESTION, **options: Any) -> list[Result]:
        return self.read(self.search(self.component(store, **{"k": 10, **options}), query))

    def test_hits_are_the_stores(self, store: Store, tiny: ColBERT) -> None:
        hits = store.search(QUESTION, 10)
        found = self.found(store)
        assert [(result.id, result.text, result.metadata) for result in found] == [
            (hit.id, hit.text, hit.metadata) for hit in hits
        ]
        for result, hit in zip(found, hits, strict=True):
            assert result.score == pytest.approx(hit.score / tiny.query_length, rel=1e-6)

    def test_k(self, store: Store) -> None:
        everything = self.found(store)
        assert self.found(store, k=1) == everything[:1]
        assert self.found(store, k=3) == everything[:3]

    def test_k_for_one_call(self, store: Store) -> None:
        component = self.component(store, k=5)
        everything = self.found(store)
        assert self.read(self.search(component, QUESTION, k=2)) == everything[:2]
        assert self.read(self.search(component, QUESTION)) == everything[:5]

    def test_scores_as_they_are(self, store: Store) -> None:
        assert [result.score for result in self.found(store, score_normalization="none")] == [
            hit.score for hit in store.search(QUESTION, 10)
        ]

    def test_a_threshold(self, store: Store) -> None:
        everything = self.found(store)
        kept = self.found(store, score_threshold=everything[2].score)
        assert kept == [result for result in everything if result.score >= everything[2].score]

    def test_a_filter(self, store: Store) -> None:
        wanted = {hit.id for hit in store.search(QUESTION, 10, filter={"page": {"$gte": 4}})}
        assert len(wanted) == 3
        chosen = self.filter({"page": {"$gte": 4}})
        assert {result.id for result in self.found(store, filter=chosen)} == wanted
        component = self.component(store, k=10)
        assert {result.id for result in self.read(self.search(component, QUESTION, filter=chosen))} == wanted

    def test_explanations_point_into_the_text(self, store: Store) -> None:
        for result in self.found(store, explain=True):
            assert result.explanation is not None
            for span in result.explanation["spans"]:
                assert result.text[span["start"] : span["end"]] == span["text"] != ""

    def test_an_empty_question_is_refused(self, store: Store) -> None:
        for query in ("", " \n"):
            with pytest.raises(ValueError, match="query"):
                self.found(store, query)

    @pytest.mark.parametrize(
        "options",
        [{"k": 0}, {"k": -3}, {"score_normalization": "minmax"}, {"score_threshold": "high"}, {"depth": 0}, {"kk": 3}],
        ids=lambda options: next(iter(options)),
    )
    def test_a_bad_option_is_refused_when_it_is_given(self, store: Store, options: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError)):
            self.component(store, **options)

    @pytest.mark.parametrize("store", [None, "store.db", {}, LocalStore], ids=str)
    def test_what_is_no_store_is_refused(self, store: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            self.component(store)

    def test_nothing_is_found_in_an_empty_store(self, tiny: ColBERT) -> None:
        with LocalStore(tiny) as store:
            assert self.found(store) == []

    def test_threads_share_one_store(self, store: Store) -> None:
        component = self.component(store, k=5)
        queries = [f"{QUESTION} {number}" for number in range(16)]
        serial = [self.read(self.search(component, query)) for query in queries]
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(lambda query: self.read(self.search(component, query)), queries)) == serial


class AsyncRetrievalContract(RetrievalContract):
    """The same through the asynchronous method, and what only that can get wrong."""

    @abstractmethod
    async def asearch(self, component: Any, query: str, **per_call: Any) -> list[Any]:
        """Call the asynchronous method."""

    def search(self, component: Any, query: str, **per_call: Any) -> list[Any]:
        return asyncio.run(self.asearch(component, query, **per_call))

    async def test_calls_at_once_equal_calls_in_turn(self, store: Store) -> None:
        component = self.component(store, k=5)
        queries = [f"{QUESTION} {number}" for number in range(8)]
        serial = [self.read(await self.asearch(component, query)) for query in queries]
        gaps, ticker = _ticking()
        both = await asyncio.gather(
            *(self.asearch(component, query) for query in [*queries, " "]), return_exceptions=True
        )
        ticker.cancel()
        assert [self.read(found) for found in both[:-1]] == serial
        assert isinstance(both[-1], ValueError)
        assert gaps

    async def test_a_call_that_is_cancelled_spoils_nothing(self, store: Store) -> None:
        component = self.component(store, k=5)
        task = asyncio.create_task(self.asearch(component, QUESTION))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(await self.asearch(component, QUESTION)) == 5


def _ticking() -> tuple[list[float], asyncio.Task[None]]:
    """The gaps between the turns of a task that only sleeps a millisecond at a time."""
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    return gaps, asyncio.create_task(tick())
