"""One handle a process for the same checkpoint and settings, opened once and only when it is needed."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from chandelier import ArgumentError, ColBERT, from_bert
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
    assert shared_model(checkpoint, query_length=24, dtype="float32", local_files_only=False, from_bert=False) is one
    assert shared_model(checkpoint, query_length=25, device="cpu") is not one
    assert one.query_length == 24


def test_a_name_that_means_another_folder_is_another_model(
    goldens: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    one = shared_model("checkpoint")
    monkeypatch.chdir(goldens / "d_bert_stanford")
    assert shared_model("checkpoint").fingerprint != one.fingerprint


def test_a_folder_stays_the_same_when_the_process_goes_elsewhere(
    goldens: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    handle, given = ModelHandle("checkpoint", {"cache_dir": "cache"}), ModelHandle(ColBERT("checkpoint"))
    path = ModelHandle(Path("models/colbert"))  # no hub name, though nothing is there
    monkeypatch.chdir(goldens / "d_bert_stanford")
    assert handle.open().fingerprint == given.open().fingerprint == shared_model(checkpoint).fingerprint
    assert handle.arguments == {"model_name_or_path": str(checkpoint), "cache_dir": str(checkpoint.parent / "cache")}
    assert given.arguments == {"model_name_or_path": str(checkpoint)}
    with pytest.raises(FileNotFoundError, match=str(checkpoint.parent / "models" / "colbert")):
        path.open()


def test_a_model_that_is_released_while_it_is_opened_is_given_out(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(dict[str, ColBERT]):
        """Another thread releases the models right behind each that is put in."""

        def __setitem__(self, key: str, model: ColBERT) -> None:
            super().__setitem__(key, model)
            release_models()

    monkeypatch.setattr(SHARED, "models", Forgetful())
    assert shared_model(checkpoint).dim == 32
    assert SHARED.models == {}


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
        ({3: 4}, "model_kwargs.3: unknown"),
        ({"query_length": 24.0}, "model_kwargs.query_length: got float, wanted int"),
        ({"query_length": True}, "model_kwargs.query_length: got bool, wanted int"),
        ({"query_length": {}}, "model_kwargs.query_length: got dict, wanted int"),
        ({"query_length": "24"}, "model_kwargs.query_length: got str, wanted int"),
        ({"threads": object()}, "model_kwargs.threads: got object, wanted int"),
        ({"device": b"cpu"}, "model_kwargs.device: got bytes, wanted str"),
        ({"cache_dir": b"cache"}, "model_kwargs.cache_dir: got bytes, wanted a path"),
        ({"cache_dir": ""}, "model_kwargs.cache_dir: got str, wanted a path: a str that is not empty"),
        ({"do_query_expansion": 1}, "model_kwargs.do_query_expansion: got int, wanted bool"),
        ({"from_bert": "yes"}, "model_kwargs.from_bert: got str, wanted bool"),
        ({"skiplist_words": "the"}, "model_kwargs.skiplist_words: got str, wanted a list of str"),
        ({"skiplist_words": {"the": 1}}, "model_kwargs.skiplist_words: got dict, wanted a list of str"),
        ({"skiplist_words": 3}, "model_kwargs.skiplist_words: got int, wanted a list of str"),
        ({"skiplist_words": ["the", 3]}, r"model_kwargs.skiplist_words\[1\]: got int, wanted a str"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_opened(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        ModelHandle("not-there", settings)
    assert "hf_secret" not in str(caught.value)


def test_settings_of_numpy_are_taken(checkpoint: Path) -> None:
    """As `ColBERT` takes them."""
    settings = {"query_length": np.int64(24), "do_query_expansion": np.True_, "dtype": np.str_("float32"), "threads": 1}
    handle = ModelHandle(checkpoint, settings)
    assert json.loads(json.dumps(handle.settings)) == {"query_length": 24, "do_query_expansion": True, "threads": 1}
    assert handle.open().query_length == 24
    assert ModelHandle(checkpoint, {"skiplist_words": np.array(["the"])}).settings == {"skiplist_words": ["the"]}


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


def test_a_handle_of_an_open_model_pickles_without_it(checkpoint: Path, tmp_path: Path) -> None:
    """The folder is gone meanwhile, so whoever opened it at once would fail."""
    place = tmp_path / "model"
    place.symlink_to(checkpoint)
    handle = ModelHandle(ColBERT(place, query_length=24))
    assert copy.copy(handle).open() is copy.deepcopy(handle).open() is handle.open()
    place.unlink()
    one, other = (pickle.loads(pickle.dumps(handle)) for _ in range(2))
    assert one.arguments == handle.arguments
    with pytest.raises(FileNotFoundError):
        one.open()
    place.symlink_to(checkpoint)
    assert one.open() is other.open() is shared_model(checkpoint, query_length=24)


def test_a_handle_of_from_bert_pickles(goldens: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(goldens / "a_bert_pylate" / "checkpoint" / name, tmp_path)
    handle = ModelHandle(from_bert(tmp_path, query_length=8))
    again = pickle.loads(pickle.dumps(handle)).open()
    assert again.info() == handle.open().info()


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
