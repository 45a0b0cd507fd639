"""A handle is immutable: threads share it, the GIL is free while it works, and a forked child may go on with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from chandelier import ColBERT, maxsim

THREADS, ENCODES = 8, 500
TEXTS = [
    "the lighthouse",
    "",
    "ships and rocks, fog and lamps " * 20,
    "Paris is the capital of France.",
    "東京 🌊",
    "a" * 300,
]


def test_eight_threads_encode_as_one(tiny: ColBERT) -> None:
    """Bit for bit: a text alone in a call makes the same batch, whoever calls."""
    documents = [tiny.encode_documents([text]) for text in TEXTS]
    queries = [tiny.encode_queries([text]) for text in TEXTS]
    begin = threading.Barrier(THREADS)

    def work(thread: int) -> int:
        begin.wait()
        wrong = 0
        for number in range(ENCODES):
            place = (number + thread) % len(TEXTS)
            if number % 2:
                wrong += tiny.encode_documents([TEXTS[place]]) != documents[place]
            else:
                wrong += tiny.encode_queries([TEXTS[place]]) != queries[place]
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [0] * THREADS


def test_threads_with_real_weights_and_every_method(minilm: ColBERT) -> None:
    rows = minilm.encode_documents(TEXTS)
    query = minilm.encode_queries(["which light do ships see?"])[0]
    scores = maxsim(query, rows)
    ids = [tokens.ids.tolist() for tokens in minilm.tokenize_documents(TEXTS)]

    def work(_: int) -> bool:
        return (
            minilm.encode_documents(TEXTS) == rows
            and np.array_equal(minilm.similarity([query], rows)[0], scores)
            and [tokens.ids.tolist() for tokens in minilm.tokenize_documents(TEXTS)] == ids
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def ticks_during(work: Callable[[], object]) -> tuple[int, float]:
    """How often another thread ran while `work` did, and the seconds it took."""
    ticks = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.wait(0.005):
            ticks += 1

    counter = threading.Thread(target=count)
    counter.start()
    begun = time.perf_counter()
    ticks = 0
    work()
    seen, seconds = ticks, time.perf_counter() - begun
    stop.set()
    counter.join()
    return seen, seconds


@pytest.mark.parametrize("call", ["encode_documents", "encode_queries", "tokenize_documents", "maxsim", "open"])
def test_other_threads_run_during_a_long_call(minilm: ColBERT, minilm_checkpoint: Path, call: str) -> None:
    """With the GIL held the other thread could not tick once between the first and the last instant."""
    if call == "open":
        seen, seconds = ticks_during(lambda: ColBERT(minilm_checkpoint))
    elif call == "maxsim":
        source = np.random.default_rng(0)
        query = source.standard_normal((64, 128)).astype(np.float32)
        documents = [source.standard_normal((180, 128)).astype(np.float32)] * 30_000
        seen, seconds = ticks_during(lambda: maxsim(query, documents))
    else:
        count = {"encode_documents": 60, "encode_queries": 150, "tokenize_documents": 4000}[call]
        texts = [f"{number} {TEXTS[2]}" for number in range(count)]
        seen, seconds = ticks_during(lambda: getattr(minilm, call)(texts))
    assert seconds > 0.02, "too short to tell"
    assert seen >= min(3, seconds / 0.02), f"{seen} ticks in {seconds:.2f} s"


FORK = """
import os, sys
import numpy as np
from chandelier import ColBERT
model = ColBERT(sys.argv[1], threads=4)
texts = ["the lighthouse", "ships and rocks " * 30, ""] * 20
rows = model.encode_documents(texts)
child = os.fork()
if child == 0:
    code = 1
    try:
        code = 0 if model.encode_documents(texts) == rows and model.rerank("light", texts[:3]) else 3
    finally:
        os._exit(code)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert code == 0, code
assert model.encode_documents(texts) == rows
print("both")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_encodes(goldens: Path) -> None:
    command = [sys.executable, "-c", FORK, str(goldens / "a_bert_pylate" / "checkpoint")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "both\n"), done.stderr


def test_threads_leave_nothing_behind(tiny: ColBERT) -> None:
    """A call's threads end with the call."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc")
    handle = ColBERT(tiny.name, threads=8)
    before = len(os.listdir("/proc/self/task"))
    handle.encode_documents(TEXTS * 20)
    assert len(os.listdir("/proc/self/task")) <= before
