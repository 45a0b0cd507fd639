"""One handle a process for the same checkpoint and settings, opened once and only when it is needed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chandelier import ArgumentError, ColBERT
from chandelier.shared import SHARED, ModelHandle, release_models, shared_model


@pytest.fixture
def checkpoint(goldens: Path) -> Path:
    return goldens / "a_bert_pylate" / "checkpoint"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    release_models()
    yield
    release_models()


def test_the_same_arguments_give_the_same_handle(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = shared_model(checkpoint, query_length=24, device="cpu")
    assert shared_model(str(checkpoint), device="cpu", query_length=24, threads=None) is one
    monkeypatch.chdir(checkpoint.parent)
    assert shared_model("checkpoint", query_length=24, device="cpu") is one
    assert shared_model(checkpoint, query_length=25, device="cpu") is not one
    assert one.query_length == 24


def test_a_name_that_means_another_folder_is_another_model(
    goldens: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    one = shared_model("checkpoint")
    monkeypatch.chdir(goldens / "d_bert_stanford")
    assert shared_model("checkpoint").fingerprint != one.fingerprint


def test_threads_open_a_model_once(checkpoint: Path) -> None:
    barrier = threading.Barrier(16)

    def ask(_: int) -> ColBERT:
        barrier.wait()
        return shared_model(checkpoint)

    with ThreadPoolExecutor(16) as pool:
        handles = list(pool.map(ask, range(16)))
    assert len({id(handle) for handle in handles}) == 1


def test_a_failure_is_not_remembered(goldens: Path, checkpoint: Path, tmp_path: Path) -> None:
    place = tmp_path / "model"
    with pytest.raises(FileNotFoundError):
        shared_model(str(place))
    place.symlink_to(checkpoint)
    assert shared_model(str(place)) is shared_model(checkpoint)


def test_released_models_are_opened_anew(checkpoint: Path) -> None:
    one = shared_model(checkpoint)
    release_models()
    assert shared_model(checkpoint) is not one


def test_from_bert(goldens: Path) -> None:
    with pytest.raises(Exception, match="has a Dense"):
        shared_model(goldens / "a_bert_pylate" / "checkpoint", from_bert=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_lenght": 3}, "model_kwargs.query_lenght: unknown, wanted one of .*query_length"),
        ({"token": "hf_secret"}, "model_kwargs.token: .*HF_TOKEN"),
        ({"model_name_or_path": "x"}, "model_kwargs.model_name_or_path: unknown"),
        (["query_length"], "model_kwargs: got list"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_opened(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        ModelHandle("not-there", settings)
    assert "hf_secret" not in str(caught.value)


def test_a_wrong_model_is_named() -> None:
    for model in ("", None, 3, ColBERT):
        with pytest.raises(ArgumentError, match="model: got"):
            ModelHandle(model)  # type: ignore[arg-type]


def test_settings_beside_an_open_model_are_refused(tiny: ColBERT) -> None:
    with pytest.raises(ArgumentError, match="model_kwargs: got settings and an open model"):
        ModelHandle(tiny, {"query_length": 3})


def test_a_handle_pickles_without_opening(checkpoint: Path) -> None:
    handle = pickle.loads(pickle.dumps(ModelHandle(checkpoint, {"skiplist_words": iter([".", ","])})))
    assert SHARED.models == {}
    assert handle.open().info()["skiplist_words"]["value"] == [".", ","]


FORK = """
import os, sys, threading, time
from chandelier.shared import SHARED, shared_model
held = threading.Event()
def hold():
    with SHARED.lock:
        held.set()
        time.sleep(1)
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    model = shared_model(sys.argv[1])
    os._exit(len(model.encode_queries(["the moon"])[0]))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_wait_for_a_thread_of_its_parent(checkpoint: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(checkpoint)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "32"
