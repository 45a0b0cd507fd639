"""`Reranker`: what no host's contract can see, portions, the cache, the log and documents without a row."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandelier import ArgumentError, ColBERT, ShapeError
from chandelier.rerank import Reranker, explanation_notes
from chandelier.rerank.cache import ENTRY_BYTES, TextCache, shared_cache
from chandelier.rerank.reranker import PORTION
from chandelier.shared import SHARED

QUESTION = "what is the capital of france?"
LONG = "The sea is deep. " * 200


@pytest.fixture
def checkpoint(goldens: Path) -> str:
    return str(goldens / "a_bert_pylate" / "checkpoint")


def test_more_documents_than_are_held_at_once(tiny: ColBERT) -> None:
    texts = [f"{number} moons and {number % 7} seas" for number in range(2 * PORTION + 3)]
    found = Reranker(tiny, score_normalization="none", cache_bytes=0).rerank(QUESTION, texts)
    wanted = tiny.rerank(QUESTION, texts)
    assert [(each.index, each.score) for each in found] == [(each.index, each.score) for each in wanted]


def test_a_document_of_more_windows_than_are_held_at_once(goldens: Path) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", document_length=12)
    text = " ".join(f"word{number}" for number in range(8 * PORTION)) + " Paris is the capital of France."
    (found,) = Reranker(model, long_documents="window", score_normalization="none").rerank(QUESTION, [text])
    windows = [text[start:end] for start, end in model.windows([text])[0]]
    assert len(windows) > PORTION
    best = model.rerank(QUESTION, windows)[0]
    assert found.score == best.score
    assert found.window is not None
    assert text[slice(*found.window)] == windows[best.index]
    assert not found.truncated


def test_windows_share_as_many_tokens_as_asked(tiny: ColBERT) -> None:
    def windows(overlap: int) -> int:
        reranker = Reranker(tiny, long_documents="window", window_overlap=overlap, cache_bytes=1 << 22)
        reranker.rerank(QUESTION, [LONG])
        return len(tiny.windows([LONG], overlap=overlap)[0])

    assert windows(0) < windows(100)
    with pytest.raises(ArgumentError, match=r"^window_overlap: got 1000, wanted less than") as caught:
        windows(1000)
    assert caught.value.argument == "window_overlap"


def test_an_overlap_without_windows_is_refused(checkpoint: str) -> None:
    with pytest.raises(ArgumentError, match="window_overlap: wanted only with long_documents='window'"):
        Reranker(checkpoint, window_overlap=3)


def test_a_document_without_rows_is_named(goldens: Path) -> None:
    skipped = ["[CLS]", "[D] ", "[SEP]", "."]
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", skiplist_words=skipped)
    assert [len(rows) for rows in model.encode_documents(["the moon", "..."])] == [2, 0]
    with pytest.raises(ShapeError, match=r"documents\[1\]: a skiplist leaves no row"):
        Reranker(model).rerank(QUESTION, ["the moon", "..."])


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ("one text", "documents: got str, wanted a list of str"),
        (["a", None], r"documents\[1\]: got NoneType, wanted a str"),
        (["a", "a", "b \ud800"], r"documents\[2\]: got a lone surrogate at character 2"),
        ({"a": 1}, "documents: got dict"),
        (None, "documents: got NoneType"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(checkpoint: str, documents: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        Reranker(checkpoint).rerank(QUESTION, documents)  # type: ignore[arg-type]
    assert caught.value.argument == "documents"


def test_a_question_that_is_no_text_is_refused(checkpoint: str) -> None:
    with pytest.raises(ArgumentError, match="query: got list, wanted a str"):
        Reranker(checkpoint).rerank([QUESTION], ["a"])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="query: got a lone surrogate at character 0"):
        Reranker(checkpoint).rerank("\udfff?", ["a"])


def test_a_document_that_no_window_holds_is_named_by_its_place(open_model: Callable[[str], ColBERT]) -> None:
    """Not by the one among the different texts that are not known yet."""
    model = ColBERT(open_model("h_modernbert_v5").name, document_length=5)
    reranker = Reranker(model, long_documents="window")
    reranker.rerank(QUESTION, ["the moon"])
    with pytest.raises(ArgumentError, match=r"^documents\[3\]: got .* tokens, wanted characters of at most") as caught:
        reranker.rerank(QUESTION, ["the moon", "the sea", "the sea", "the sea 🌊🌊🌊"])
    assert caught.value.argument == "documents"


@pytest.mark.parametrize(
    ("long_documents", "texts"),
    [
        ("truncate", [f"{number} " + "水 the " * 10_000 for number in range(200)]),
        ("window", ["水 the " * 2_000_000]),
    ],
    ids=["many long texts", "one very long text"],
)
def test_a_rerank_that_is_cancelled_ends_while_it_looks_at_its_texts(
    tiny: ColBERT, long_documents: Any, texts: list[str]
) -> None:
    reranker = Reranker(tiny, long_documents=long_documents)

    async def cancelled() -> float:
        task = asyncio.create_task(reranker.arerank(QUESTION, texts))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.process_time()

    since = asyncio.run(cancelled())  # which waits for the worker thread
    assert time.process_time() - since < 1.0, "all of it takes more than 10 seconds"


def test_long_texts_are_cut_into_windows_only_where_windows_are_read(
    tiny: ColBERT, report: Callable[[str], None]
) -> None:
    texts = [f"{number}: " + "The sea is deep and wide. " * 4000 for number in range(20)]
    begun = time.process_time()
    tiny.encode_documents(texts)
    encoded = time.process_time() - begun
    begun = time.process_time()
    assert all(each.truncated for each in Reranker(tiny, cache_bytes=0).rerank(QUESTION, texts))
    reranked = time.process_time() - begun
    report(f"20 texts of 100,000 characters: encoded {encoded * 1e3:.0f} ms, reranked {reranked * 1e3:.0f} ms")
    assert reranked < 2 * encoded + 0.1


def test_white_space_that_is_cut_off_is_no_loss(tiny: ColBERT, open_model: Callable[[str], ColBERT]) -> None:
    for model in (tiny, open_model("h_modernbert_v5")):
        (found,) = Reranker(model).rerank(QUESTION, ["the sea" + "\n" * 5000])
        assert not found.truncated


def test_the_log_says_once_for_a_model_that_documents_are_cut(goldens: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", document_length=30)
    with caplog.at_level(logging.WARNING, logger="chandelier"):
        for _ in range(2):
            found = Reranker(model).rerank(QUESTION, ["the moon", LONG])
            assert {each.index: each.truncated for each in found} == {0: False, 1: True}
        Reranker(model, long_documents="window").rerank(QUESTION, [LONG])
    (record,) = caplog.records
    assert "reads 30 tokens of a document: 1 of these 2 are longer" in record.message


def test_rows_are_encoded_once(goldens: Path) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint")
    texts = ["the moon", "the sea", "the moon"]
    first = Reranker(model, cache_bytes=1 << 20).rerank(QUESTION, texts)
    cache = shared_cache(model, 1 << 20)
    assert len(cache) == 4  # rows of each, and whether it was read whole
    kept = cache.get("rows", texts)
    assert Reranker(model, cache_bytes=1 << 20).rerank(QUESTION, texts) == first
    again = cache.get("rows", texts)
    assert all(one is other for one, other in zip(kept, again, strict=True))  # nothing was put anew
    assert Reranker(model, cache_bytes=0).rerank(QUESTION, texts) == first
    assert len(shared_cache(model, 0)) == 0


def test_a_cache_belongs_to_one_model(goldens: Path) -> None:
    one, other = (ColBERT(goldens / case / "checkpoint") for case in ("a_bert_pylate", "d_bert_stanford"))
    Reranker(one, cache_bytes=1 << 20).rerank(QUESTION, ["the moon"])
    assert shared_cache(other, 1 << 20).get("rows", ["the moon"]) == [None]


def test_a_model_has_one_cache_of_the_largest_size_asked_for(goldens: Path) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint")
    sizes = [6_000, 20_000, 9_000, 10_000]
    for number, size in enumerate(sizes):
        Reranker(model, cache_bytes=size).rerank(QUESTION, [f"the moon {number} {part}" for part in range(9)])
    (cache,) = {id(one): one for one in (shared_cache(model, size) for size in sizes)}.values()
    assert 10_000 < cache.nbytes <= cache.limit == 20_000
    Reranker(model, cache_bytes=0).rerank(QUESTION, ["the sea"])
    assert cache.get("rows", ["the sea"]) == [None]


def test_nothing_is_opened_by_making_and_pickling(checkpoint: str) -> None:
    before = set(SHARED.models)
    reranker = pickle.loads(pickle.dumps(Reranker(checkpoint, model_kwargs={"query_length": 19}, top_n=3)))
    assert reranker.name == checkpoint
    assert set(SHARED.models) == before
    reranker.warm_up()
    assert reranker.model.query_length == 19


operations = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300)), max_size=40)


@given(operations, st.integers(0, 3000))
def test_a_cache_keeps_the_last_used_within_its_limit(operations: list[tuple[int, int]], limit: int) -> None:
    cache, model = TextCache(limit), dict[str, int]()
    for name, rows in operations:
        text, size = f"text {name}", rows + ENTRY_BYTES
        (found,) = cache.get("rows", [text])
        assert cache.get("others", [text]) == [None]
        assert found == (name if text in model else None)
        if found is not None:
            model[text] = model.pop(text)
            continue
        cache.put("rows", [text], [name], [rows])
        if 0 < limit >= size:
            model[text] = size
            while sum(model.values()) > limit:
                model.pop(next(iter(model)))
        assert cache.nbytes == sum(model.values()) <= limit
        assert len(cache) == len(model)


def test_a_cache_holds_no_view_of_what_was_encoded_together(tiny: ColBERT) -> None:
    Reranker(tiny, cache_bytes=1 << 21).rerank(QUESTION, ["the moon", "the sea"])
    (kept,) = shared_cache(tiny, 1 << 21).get("rows", ["the moon"])
    assert kept.base is None
    assert np.array_equal(kept, tiny.encode_documents(["the moon"])[0])


def test_notes_name_words_of_the_query_only(tiny: ColBERT) -> None:
    explanation = tiny.explain("the moon", "The Moon moves the sea.")
    assert "[MASK]" in explanation.query_tokens
    noted = [token for span in explanation_notes(explanation)["spans"] for token in span["query"]]
    assert sorted(noted) == ["moon", "the"]


def test_what_another_thread_is_making_is_waited_for() -> None:
    cache, begun, go_on, asked = TextCache(1 << 20), threading.Event(), threading.Event(), list[list[str]]()

    def make(texts: list[str]) -> list[str]:
        asked.append(texts)
        if len(asked) == 1:
            begun.set()
            assert go_on.wait(10)
        return [text.upper() for text in texts]

    def completed(texts: list[str]) -> dict[str, str]:
        return cache.completed("kind", texts, make, len, lambda _: None)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(completed, ["a", "b"])
        assert begun.wait(10)
        second = pool.submit(completed, ["b", "c", "a", "b"])
        while len(asked) < 2:
            time.sleep(0.001)
        assert not second.done()
        go_on.set()
        assert first.result(10) == {"a": "A", "b": "B"}
        assert second.result(10) == {"a": "A", "b": "B", "c": "C"}
    assert asked == [["a", "b"], ["c"]]


def test_who_waits_for_a_thread_that_fails_does_its_work() -> None:
    cache, begun, go_on = TextCache(1 << 20), threading.Event(), threading.Event()

    def fail(_: list[str]) -> list[str]:
        begun.set()
        assert go_on.wait(10)
        raise KeyError("cancelled")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(cache.completed, "kind", ["a"], fail, len, lambda _: None)
        assert begun.wait(10)
        second = pool.submit(cache.completed, "kind", ["a"], lambda texts: texts, len, lambda _: None)
        go_on.set()
        with pytest.raises(KeyError):
            first.result(10)
        assert second.result(10) == {"a": "a"}


def test_who_waits_can_be_told_to_stop() -> None:
    cache, begun, go_on = TextCache(1 << 20), threading.Event(), threading.Event()

    def make(texts: list[str]) -> list[str]:
        begun.set()
        assert go_on.wait(10)
        return texts

    def stop(_: int) -> None:
        raise InterruptedError

    with ThreadPoolExecutor() as pool:
        first = pool.submit(cache.completed, "kind", ["a"], make, len, lambda _: None)
        assert begun.wait(10)
        with pytest.raises(InterruptedError):
            cache.completed("kind", ["a"], make, len, stop)
        go_on.set()
        assert first.result(10) == {"a": "a"}


def test_what_is_too_large_to_be_kept_is_given_all_the_same() -> None:
    cache = TextCache(10)
    assert cache.completed("kind", ["a", "b", "a"], lambda texts: texts, len, lambda _: None) == {"a": "a", "b": "b"}
    assert len(cache) == 0


def test_a_window_is_explained_and_not_the_beginning(minilm: ColBERT) -> None:
    text = "The sea is deep. " * 80 + "Paris is the capital of France."
    (found,) = Reranker(minilm, long_documents="window", explain=True).rerank(QUESTION, [text])
    assert found.window is not None
    assert found.window[0] > 0
    assert found.explanation is not None
    assert found.explanation.document_seen == found.window
    assert found.score == pytest.approx(found.explanation.score / 32, rel=1e-5)
