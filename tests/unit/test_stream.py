"""`encode_documents_iter`: the rows of `encode_documents`, read lazily and in bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chandelier import ArgumentError, ColBERT, models
from chandelier.portions import PORTION_BYTES, portions

TEXTS = [f"ship {number} and rocks, fog and lamps " * (number % 7) for number in range(100)]


@pytest.fixture
def sevens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions of seven texts."""
    monkeypatch.setattr(models, "STREAM_TEXTS", 7)


class Counted:
    """An iterable that knows how many items were taken, on which thread, and whether it was closed."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = items
        self.taken = 0
        self.threads: set[int] = set()
        self.is_closed = False

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self.items:
                self.taken += 1
                self.threads.add(threading.get_ident())
                yield item
        finally:
            self.is_closed = True


@pytest.mark.usefixtures("sevens")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool_factor": 2},
        {"pool_factor": 3, "protected_tokens": 0},
        {"prompt": "the sea: "},
        {"batch_tokens": 5},
    ],
)
def test_the_same_rows_to_the_last_bit(tiny: ColBERT, options: dict[str, Any]) -> None:
    whole = tiny.encode_documents(TEXTS, **options)
    stream = list(tiny.encode_documents_iter(iter(TEXTS), **options))
    assert len(stream) == len(TEXTS)
    assert all(np.array_equal(rows, wanted) for rows, wanted in zip(stream, whole, strict=True))
    assert all(rows.dtype == np.float32 and rows.shape[1] == tiny.dim for rows in stream)


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14])
@pytest.mark.usefixtures("sevens")
def test_any_number_of_texts(tiny: ColBERT, count: int) -> None:
    assert len(list(tiny.encode_documents_iter(TEXTS[:count]))) == count


def test_named_prompts(goldens: Path) -> None:
    model = ColBERT(goldens / "v_prompts" / "checkpoint")
    name = next(iter(model.prompts))
    rows = next(model.encode_documents_iter(["the moon"], prompt_name=name))
    assert np.array_equal(rows, model.encode_documents(["the moon"], prompt_name=name)[0])


def test_rows_are_the_texts_own(tiny: ColBERT) -> None:
    """Who keeps one matrix of a portion does not keep all of them."""
    rows = next(tiny.encode_documents_iter(TEXTS))
    assert rows.base is None
    assert rows.flags.writeable


@pytest.mark.usefixtures("sevens")
def test_texts_are_taken_when_they_are_needed(tiny: ColBERT) -> None:
    source = Counted(TEXTS)
    stream = tiny.encode_documents_iter(source)
    assert source.taken == 0
    for number, _ in enumerate(stream):
        assert source.taken == min(len(TEXTS), (number // 7 + 1) * 7)
    assert source.threads == {threading.get_ident()}


def test_large_texts_are_few_at_once(tiny: ColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "PORTION_BYTES", 1 << 20)
    monkeypatch.setattr(models, "STREAM_THREAD_BYTES", 1)
    text = "ship " * ((1 << 20) // 20)  # a quarter
    source = Counted([text] * 9)
    next(tiny.encode_documents_iter(source))
    assert source.taken == 4


@pytest.mark.parametrize(
    ("length", "threads", "portion"),
    [
        (1, 2, 4096),
        (2_000, 2, (32 << 20) // (2_000 + 180 * 32 * 4) + 1),  # its characters, and as many rows as it may have
        (2_000, 4, (32 << 20) // (2_000 + 180 * 32 * 4) + 1),
        (2_000, 8, (64 << 20) // (2_000 + 180 * 32 * 4) + 1),
    ],
)
def test_a_portion_is_4096_texts_or_32_mib_or_8_a_thread(
    goldens: Path, length: int, threads: int, portion: int
) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", threads=threads)
    assert (model.document_length, model.dim) == (180, 32)
    source = Counted("a" * length for _ in range(10_000))
    next(model.encode_documents_iter(source))
    assert source.taken == portion


def test_portions_are_bounded_by_number_and_size() -> None:
    assert [len(portion) for portion in portions(range(1100), lambda item: 0, 512)] == [512, 512, 76]
    assert list(portions([1, 2, 3], lambda item: PORTION_BYTES, 512)) == [[1, 2], [3]]
    assert list(portions([1, 2], lambda item: 2 * PORTION_BYTES, 512)) == [[1], [2]]
    assert list(portions([1, 2, 3], lambda item: 10, 512, 15)) == [[1, 2], [3]]
    assert list(portions([], len, 512)) == []


@pytest.mark.usefixtures("sevens")
@pytest.mark.parametrize("place", [0, 3, 7, 23])
def test_an_error_of_the_stream_comes_after_all_before_it(tiny: ColBERT, place: int) -> None:
    def source() -> Iterator[str]:
        yield from TEXTS[:place]
        raise OSError("the file is gone")

    seen = []
    with pytest.raises(OSError, match="the file is gone"):
        seen.extend(tiny.encode_documents_iter(source()))  # what came before the error is kept by extend
    assert len(seen) == place


@pytest.mark.usefixtures("sevens")
@pytest.mark.parametrize(
    ("item", "got"),
    [
        (None, "got NoneType, wanted a str"),
        (b"ship", "got bytes, wanted a str"),
        (["ship"], "got list, wanted a str"),
        ("a\ud800", "got a lone surrogate at character 1, wanted text that UTF-8 can hold"),
    ],
)
def test_a_bad_item_is_named_by_its_place_in_the_stream(tiny: ColBERT, item: object, got: str) -> None:
    stream = tiny.encode_documents_iter([*TEXTS[:24], item, *TEXTS])  # type: ignore[list-item]
    for wanted in tiny.encode_documents(TEXTS[:24]):
        assert np.array_equal(next(stream), wanted)
    with pytest.raises(ArgumentError) as caught:
        next(stream)
    assert str(caught.value) == f"texts[24]: {got}"
    assert caught.value.argument == "texts"
    assert list(stream) == []


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("the moon", {}, "texts: got str, wanted an iterable of str; put a single text in a list"),
        (b"the moon", {}, "texts: got bytes, wanted an iterable of str; put a single text in a list"),
        ({"the moon": 1}, {}, "texts: got dict, wanted an iterable of str"),
        (None, {}, "texts: got NoneType, wanted an iterable of str"),
        ([], {"pool_factor": 0}, "pool_factor: got 0"),
        ([], {"batch_tokens": 0}, "batch_tokens: got 0"),
        ([], {"prompt_name": "nobody"}, "prompt_name: got"),
        ([], {"prompt": "a", "prompt_name": "b"}, "prompt: got both"),
    ],
)
def test_bad_arguments_are_refused_at_once(tiny: ColBERT, texts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        tiny.encode_documents_iter(texts, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.usefixtures("sevens")
def test_an_abandoned_stream_takes_no_more_and_leaves_nothing(tiny: ColBERT) -> None:
    source = Counted(TEXTS)
    threads = threading.active_count()
    stream = tiny.encode_documents_iter(source)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # an iterator of Python's own
    assert (source.taken, source.is_closed) == (7, True)
    assert list(stream) == []
    assert threading.active_count() == threads


@pytest.mark.usefixtures("sevens")
def test_the_model_can_be_used_between_two_rows(tiny: ColBERT) -> None:
    def source() -> Iterator[str]:
        for text in TEXTS:
            assert len(tiny.encode_documents([text])) == 1
            yield text

    streams = [tiny.encode_documents_iter(source()) for _ in range(2)]
    for one, other in zip(*streams, strict=True):
        assert np.array_equal(one, other)


MEMORY = """
import resource, sys
from chandelier import ColBERT
model = ColBERT(sys.argv[1], threads=2)
rows = sum(len(rows) for rows in model.encode_documents_iter(f"ship {number}" for number in range(int(sys.argv[2]))))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def rows_and_peak(goldens: Path, count: int) -> tuple[int, int]:
    """The rows of a stream of `count` texts, and the most KiB that its process had."""
    command = [sys.executable, "-c", MEMORY, str(goldens / "a_bert_pylate" / "checkpoint"), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    rows, peak = map(int, done.stdout.split())
    return rows, peak


@pytest.mark.skipif(sys.platform != "linux", reason="needs the peak in KiB")
def test_memory_does_not_grow_with_the_stream(goldens: Path) -> None:
    """The rows of 100,000 texts would take 80 MB."""
    few, low = rows_and_peak(goldens, 1_000)
    many, high = rows_and_peak(goldens, 100_000)
    assert many >= 95 * few
    assert (many - few) * 32 * 4 > 50e6
    assert high - low < 10_000, f"{low} KiB with 1,000 texts, {high} with 100,000"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("sevens")
def test_a_forked_child_goes_on_with_the_stream(tiny: ColBERT) -> None:
    stream = tiny.encode_documents_iter(TEXTS)
    next(stream)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if len(list(stream)) == len(TEXTS) - 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(list(stream)) == len(TEXTS) - 1
