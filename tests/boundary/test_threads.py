"""A handle is immutable: threads share it, the GIL is free while it works, and a forked child may go on with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from chandelier import ColBERT, build_info, maxsim

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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("case", ["a_bert_pylate", "h_modernbert_v5", "p_lfm2_pylate"])
def test_any_number_of_threads_gives_the_same_bits(goldens: Path, case: str, dtype: str) -> None:
    texts = TEXTS * 5
    handles = [ColBERT(goldens / case / "checkpoint", dtype=dtype, threads=threads) for threads in (1, 2, 5)]
    rows = [handle.encode_documents(texts, pool_factor=2) for handle in handles]
    queries = [handle.encode_queries(texts) for handle in handles]
    assert rows[0] == rows[1] == rows[2]
    assert queries[0] == queries[1] == queries[2]


FORKS = """
import multiprocessing, os, sys, threading, time
from chandelier import ColBERT, build_info, maxsim
model = ColBERT(sys.argv[1], dtype=sys.argv[2], threads=4)
texts = ["the lighthouse", "ships and rocks " * 30, ""] * 20
rows = model.encode_documents(texts)
query = model.encode_queries(["light"])[0]
scores = maxsim(query, rows).tolist()
tasks = lambda: len(os.listdir("/proc/self/task"))

def same():
    return model.encode_documents(texts) == rows and maxsim(query, rows).tolist() == scores

def helpers():
    # How many threads of a call there are at once: the counter of the parent's threads must not keep a child from them.
    # They are asked about every 50 ms, so that the call must be a long one on any machine.
    seen, many = [], texts
    while len(seen) < 5:
        seen, many = [], many * 2
        model.encode_documents(many, progress=lambda done: seen.append(tasks()))
    return max(seen) - 1

def forked(number):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if same() and model.rerank("light", texts[:3]) and (number > 1 or helpers() == 3) else 3
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, (number, code)

forked(0)
stop = threading.Event()

def busy():
    while not stop.is_set():
        assert same()

others = [threading.Thread(target=busy) for _ in range(2)]
for other in others:
    other.start()
for number in range(1, 6):
    forked(number)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert all(part == rows for part in pool.map(model.encode_documents, [texts] * 2))
stop.set()
for other in others:
    other.join()
assert same() and helpers() == 3
print("all")
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs fork and /proc")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_forked_child_encodes_even_of_a_busy_parent(goldens: Path, dtype: str) -> None:
    checkpoint = goldens / "a_bert_pylate" / "checkpoint"
    command = [sys.executable, "-W", "ignore", "-c", FORKS, str(checkpoint), dtype]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr


FORKS_OF_LONG = """
import os, signal, sys, threading, time
from chandelier import ColBERT
model = ColBERT(sys.argv[1], document_length=131072, threads=1)
text = "ship " * 32768
begun = time.thread_time()
model.tokenize_documents([text])
tokenized = time.thread_time() - begun

# It tokenizes, computes the angles of 131,072 positions, and attends for long; how far it is, its own clock tells.
encoder = threading.Thread(target=model.encode_documents, args=([text],), daemon=True)
encoder.start()
worked = time.pthread_getcpuclockid(encoder.ident)
children = []
for number in range(20):
    while time.clock_gettime(worked) < tokenized * number / 5:
        time.sleep(0.0005)
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        code = 1
        try:
            code = 0 if model.encode_documents(["hi"]) else 3
        finally:
            os._exit(code)
    children.append(child)
assert encoder.is_alive()
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs fork and the clock of a thread")
def test_a_child_forked_while_angles_are_computed_does_not_wait_for_them(goldens: Path, tmp_path: Path) -> None:
    """Its parent's thread is not in the child: what that one had locked stays locked. -14: it hung."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(goldens / "h_modernbert_v5" / "checkpoint", checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    far = {"max_position_embeddings": 131072, "num_attention_heads": 1}  # a wide head has many angles a position
    (checkpoint / "config.json").write_text(json.dumps({**config, **far}))
    command = [sys.executable, "-W", "ignore", "-c", FORKS_OF_LONG, str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"{[0] * 20}\n"), done.stderr


CROWD = """
import os, sys, threading, time
from chandelier import ColBERT, build_info, maxsim, pool_tokens
threads, callers, which = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
model = ColBERT(sys.argv[1], threads=threads)
texts = ["ships and rocks, fog and lamps " * 20] * 60
rows = model.encode_documents(texts)
calls = [
    lambda: model.encode_documents(texts),
    lambda: model.rerank("light", texts),
    lambda: [model.similarity(rows, rows) for _ in range(5)],
    lambda: pool_tokens(rows, 2),
]
if which == "encode":
    calls = calls[:1]
begin = threading.Barrier(callers)

def caller(number):
    begin.wait()
    for turn in range(4):
        calls[(number + turn) % len(calls)]()

each_caller = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
before = most = len(os.listdir("/proc/self/task"))
for each in each_caller:
    each.start()
while any(each.is_alive() for each in each_caller):
    most = max(most, len(os.listdir("/proc/self/task")))
    time.sleep(0.001)
print(most - before - callers)
"""


def helpers_of_a_crowd(goldens: Path, cores: int, threads: int, callers: int, which: str) -> int:
    """How many threads there were at most beside the callers, where `CHANDELIER_THREADS` says `cores`."""
    folder = goldens / "a_bert_pylate" / "checkpoint"
    command = [sys.executable, "-c", CROWD, str(folder), str(threads), str(callers), which]
    environment = {**os.environ, "CHANDELIER_THREADS": str(cores)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_calls_at_once_have_no_more_helpers_than_one(goldens: Path) -> None:
    """Six callers of four threads each would start eighteen."""
    assert 0 <= helpers_of_a_crowd(goldens, cores=4, threads=4, callers=6, which="every call") <= 3


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_calls_share_all_cores_or_what_one_asks_for_if_that_is_more(goldens: Path) -> None:
    """Counted against two, each of two callers would keep the other's helper away; against one core, all helpers."""
    assert helpers_of_a_crowd(goldens, cores=4, threads=2, callers=2, which="encode") >= 2
    assert helpers_of_a_crowd(goldens, cores=1, threads=4, callers=1, which="encode") >= 3


ASK = """
import os, sys
import numpy as np
from chandelier import ColBERT, build_info, maxsim
if sys.argv[2] != "all":
    os.sched_setaffinity(0, {int(sys.argv[2])})
print(ColBERT(sys.argv[1], threads=3).threads)
print(ColBERT(sys.argv[1]).threads, build_info()["default_threads"])
os.environ["CHANDELIER_THREADS"] = "5"
print(ColBERT(sys.argv[1]).threads)
os.environ["CHANDELIER_THREADS"] = "0"
maxsim(np.ones((1, 2), np.float32), [np.ones((1, 2), np.float32)])
"""


def ask(goldens: Path, value: str | None, cores: str = "all") -> tuple[str, str]:
    environment = {name: text for name, text in os.environ.items() if name != "CHANDELIER_THREADS"}
    if value is not None:
        environment["CHANDELIER_THREADS"] = value
    command = [sys.executable, "-c", ASK, str(goldens / "a_bert_pylate" / "checkpoint"), cores]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr.splitlines()[-1]


REFUSED = (
    "chandelier.exceptions.ArgumentError: CHANDELIER_THREADS: got {}, wanted a whole number from 1 to 2147483647, "
    "or no such variable for all cores"
)


def test_the_environment_says_how_many_threads(goldens: Path) -> None:
    """An argument comes before it, and it is read whenever it counts: here a last call finds it spoilt."""
    assert ask(goldens, "7") == ("3\n7 7\n5\n", REFUSED.format('"0"'))


@pytest.mark.parametrize("value", ["0", "-1", "+2", "two", "1.5", " 2", "2147483648", "9" * 30, "\udcff"])
def test_an_environment_that_says_no_number_is_refused(goldens: Path, value: str) -> None:
    shown = '"\\xFF"' if value == "\udcff" else f'"{value}"'
    assert ask(goldens, value) == ("3\n", REFUSED.format(shown))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity")
def test_the_cores_that_the_process_may_use_are_the_default(goldens: Path) -> None:
    allowed = os.sched_getaffinity(0)
    assert ask(goldens, None, str(min(allowed)))[0] == "3\n1 1\n5\n"
    everywhere = ask(goldens, None)[0].split()[1]
    assert ask(goldens, "")[0].split()[1] == everywhere, "an empty variable is none"
    assert 1 <= int(everywhere) <= len(allowed)  # a cgroup may leave less


def test_info_says_threads_and_kernels(goldens: Path) -> None:
    folder = goldens / "a_bert_pylate" / "checkpoint"
    all_kernels = build_info()["kernels"]
    for dtype in ("float32", "bfloat16", "int8"):
        info = ColBERT(folder, dtype=dtype, threads=3).info()
        assert info["threads"] == 3
        assert f"{dtype}: {info['kernels']}" in all_kernels
    assert ColBERT(folder, dtype="float64").info()["kernels"] is None


OPEN = """
import os, sys, threading
from chandelier import ColBERT
tasks = lambda: len(os.listdir("/proc/self/task"))
model = []
opener = threading.Thread(target=lambda: model.append(ColBERT(sys.argv[1], threads=int(sys.argv[2]))))
before = most = tasks()
opener.start()
while opener.is_alive():
    most = max(most, tasks())
assert model[0].encode_queries(["light"])
print(most - before - 1)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_opening_takes_no_more_threads_than_it_may(minilm_checkpoint: Path) -> None:
    def helpers(threads: int) -> int:
        command = [sys.executable, "-c", OPEN, str(minilm_checkpoint), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return int(done.stdout)

    assert helpers(1) == 0
    assert helpers(3) > 0


def test_threads_leave_nothing_behind(tiny: ColBERT) -> None:
    """A call's threads end with the call."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc")
    handle = ColBERT(tiny.name, threads=8)
    before = len(os.listdir("/proc/self/task"))
    handle.encode_documents(TEXTS * 20)
    assert len(os.listdir("/proc/self/task")) <= before
