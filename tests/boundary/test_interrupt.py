"""Ctrl-C in the middle of a long call, and the progress bar: both run Python code while the core works."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from chandelier import ArgumentError, ColBERT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

PROMPTLY = 15.0  # seconds: far below what each call would take, far above what a busy machine adds

# Prints "ready", begins, and after the interrupt proves that the process and the handle still work.
SCRIPT = """
import sys, time
from chandelier import ColBERT, Muvera, maxsim_matrix
import numpy as np
model = ColBERT(sys.argv[1])
before = model.encode_documents(["the moon and the sea"])
texts = [f"{number} ships and rocks, fog and lamps " * 20 for number in range(200_000)]
queries = [np.ones((32, 32), np.float32)] * 300
documents = [np.ones((180, 32), np.float32)] * 5000
print("ready", flush=True)
try:
    CALL
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    assert model.encode_documents(["the moon and the sea"]) == before
    assert len(model.encode_queries(texts[:50])) == 50
    print("goes on", flush=True)
    raise
"""


def interrupt(call: str, checkpoint: Path, after: float) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Runs `call` in a process, interrupts it `after` seconds, and tells how long it took to say so."""
    command = [sys.executable, "-u", "-c", SCRIPT.replace("CALL", call), str(checkpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        begun = time.perf_counter()
        process.send_signal(signal.SIGINT)
        watchdog = threading.Timer(3 * PROMPTLY, process.kill)  # a deaf process fails the test, it does not hold it up
        watchdog.start()
        first = process.stdout.readline()
        seconds = time.perf_counter() - begun
        watchdog.cancel()
        out, err = process.communicate(timeout=30)
    return seconds, subprocess.CompletedProcess(command, process.returncode, first + out, err)


@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("model.encode_documents(texts)", 0.05),  # still taking the texts over, or tokenizing
        ("model.encode_documents(texts)", 1.5),
        ("model.encode_documents(texts, progress=True)", 1.5),
        ("model.encode_documents(texts, batch_tokens=10**5)", 4.0),
        ("model.encode_queries(texts)", 1.0),
        ("model.encode(texts)", 1.0),
        ("list(model.encode_documents_iter(iter(texts)))", 1.0),
        ("model.rerank('the moon', texts)", 1.0),
    ],
)
def test_ctrl_c_ends_an_encode(goldens: Path, call: str, after: float) -> None:
    seconds, done = interrupt(call, goldens / "a_bert_pylate" / "checkpoint", after)
    assert done.stdout == "interrupted\ngoes on\n", done.stderr
    assert seconds < PROMPTLY
    assert done.returncode == -signal.SIGINT, "as for any Python program that Ctrl-C ends"
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "panicked" not in done.stderr


@pytest.mark.parametrize("options", ["", ", threads=1", ", batch_tokens=10**6"])
def test_ctrl_c_with_real_weights(minilm_checkpoint: Path, options: str) -> None:
    """However large the batches are that the caller asked for: the first of them takes many seconds."""
    call = f"model.encode_documents(texts[:400]{options})"
    if "threads" in options:
        call = "ColBERT(sys.argv[1], threads=1).encode_documents(texts[:1500])"
    seconds, done = interrupt(call, minilm_checkpoint, 2.0)
    assert done.stdout == "interrupted\ngoes on\n", done.stderr
    assert seconds < PROMPTLY


@pytest.mark.parametrize(
    "call",
    [
        "maxsim_matrix(queries, documents)",
        "model.tokenize_documents(texts)",
        "model.windows(texts * 5)",
        "Muvera(32, ksim=0, dprojections=1, repetitions=2000).encode_documents(documents * 10)",
    ],
)
def test_ctrl_c_ends_the_other_long_calls(goldens: Path, call: str) -> None:
    seconds, done = interrupt(call, goldens / "a_bert_pylate" / "checkpoint", 1.0)
    assert done.stdout == "interrupted\ngoes on\n", done.stderr
    assert seconds < PROMPTLY


def test_ctrl_c_ends_the_windows_of_one_long_text(goldens: Path) -> None:
    """Half a minute if it is let alone: 20 MB without white space, cut on one thread."""
    seconds, done = interrupt("model.windows(['ab' * 10_000_000])", goldens / "h_modernbert_v5" / "checkpoint", 1.0)
    assert done.stdout == "interrupted\ngoes on\n", done.stderr
    assert seconds < 3


ONE_DOCUMENT = """
import sys
import numpy as np
from chandelier import pool_tokens
rows = np.random.default_rng(0).standard_normal((16_000, 8)).astype(np.float32) / 3
print("ready", flush=True)
try:
    pool_tokens([rows], 2)
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


def test_ctrl_c_ends_the_pooling_of_one_large_document() -> None:
    # 6 s or more if it is let alone, and one job: what asks is inside it.
    with subprocess.Popen(
        [sys.executable, "-c", ONE_DOCUMENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)
        begun = time.perf_counter()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert time.perf_counter() - begun < 2


ALARM = """
import signal, sys, time
from chandelier import ColBERT
model = ColBERT(sys.argv[1])
texts = ["ships and rocks, fog and lamps " * 30] * 50_000
class Enough(Exception): pass
def ring(*_): raise Enough
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.5)
begun = time.perf_counter()
try:
    model.encode_documents(texts)
except Enough:
    assert time.perf_counter() - begun < 15
    print("enough", len(model.encode_documents(texts[:3])))
"""


def test_a_signal_handlers_exception_comes_out(goldens: Path) -> None:
    """Whatever the handler raises ends the call, not only KeyboardInterrupt: timeouts are written so."""
    command = [sys.executable, "-c", ALARM, str(goldens / "a_bert_pylate" / "checkpoint")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "enough 3\n"), done.stderr


BAR = """
import sys
from chandelier import ColBERT
model = ColBERT(sys.argv[1])
texts = ["ships and rocks, fog and lamps " * 20] * 6000
with_bar = model.ENCODE(texts, progress=True)
assert len(with_bar) == 6000
assert with_bar == model.ENCODE(texts)
"""


@pytest.mark.parametrize(("encode", "kind"), [("encode_documents", "documents"), ("encode_queries", "queries")])
def test_progress_draws_a_bar_on_stderr(goldens: Path, encode: str, kind: str) -> None:
    command = [sys.executable, "-c", BAR.replace("ENCODE", encode), str(goldens / "a_bert_pylate" / "checkpoint")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "stdout belongs to the caller"
    counts = [int(count) for count in re.findall(r"(\d+)/6000", done.stderr)]
    assert kind in done.stderr
    assert counts[0] == 0
    assert counts[-1] == 6000
    assert counts == sorted(counts)
    assert len(set(counts)) > 2, f"the bar moved while the core worked: {counts}"


def test_progress_of_nothing_and_of_a_generator(tiny: ColBERT, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(tiny.encode_documents([], progress=True)) == 0
    texts = (f"text {number}" for number in range(10))
    assert len(tiny.encode_documents(texts, progress=True)) == 10
    out, err = capfd.readouterr()
    assert out == ""
    assert "10/10" in err


def test_no_bar_unless_asked(tiny: ColBERT, capfd: pytest.CaptureFixture[str]) -> None:
    tiny.encode_documents(["text"] * 100)
    assert capfd.readouterr() == ("", "")


def test_progress_tells_a_function_how_far_it_is(tiny: ColBERT, capfd: pytest.CaptureFixture[str]) -> None:
    texts = [f"{number} ships and rocks, fog and lamps " * 20 for number in range(4000)]
    told: list[int] = []
    threads = set()

    def tell(done: int) -> None:
        told.append(done)
        threads.add(threading.get_ident())

    assert tiny.encode_documents(iter(texts), progress=tell) == tiny.encode_documents(texts)
    assert (told == sorted(told), told[-1]) == (True, len(texts))
    assert len(set(told)) > 3, f"it was told while the core worked: {told}"
    assert threads == {threading.get_ident()}
    told.clear()
    tiny.encode_queries(texts[:20], progress=tell)
    assert told[-1] == 20
    told.clear()
    assert len(tiny.encode_queries([], progress=tell)) == 0
    assert set(told) <= {0}
    tiny.rerank("the moon", texts[:30], progress=tell)
    assert told[-1] == 30
    assert capfd.readouterr() == ("", ""), "whoever is told draws the bar"


@pytest.mark.parametrize(("count", "least"), [(200_000, 0), (4000, 1)], ids=["tokenizing", "encoding"])
def test_what_the_function_raises_ends_the_call(tiny: ColBERT, count: int, least: int) -> None:
    class EnoughError(Exception):
        pass

    def stop(done: int) -> None:
        if done >= least:
            raise EnoughError(done)

    texts = [f"{number} ships and rocks, fog and lamps " * 20 for number in range(count)]
    begun = time.perf_counter()
    with pytest.raises(EnoughError) as caught:
        tiny.encode_documents(texts, progress=stop)
    assert least <= caught.value.args[0] < count
    assert time.perf_counter() - begun < PROMPTLY
    assert len(tiny.encode_documents(texts[:3])) == 3


@pytest.mark.parametrize("wrong", [None, 1, "yes", []], ids=repr)
def test_progress_is_yes_no_or_a_function(tiny: ColBERT, wrong: object) -> None:
    for call in (tiny.encode_documents, tiny.encode_queries, tiny.encode):
        with pytest.raises(ArgumentError, match=r"progress: got .*, wanted True, False or a function"):
            call(["text"], progress=wrong)  # type: ignore[operator]
