"""Handles travel: pickled as path and arguments, copied as themselves; results travel as plain values."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from chandelier import ColBERT, MeanVector, Muvera, Tokens, from_bert

TEXTS = ["the lighthouse keeper", "ships, rocks; fog", ""]
KNOBS = {"query_length": 16, "document_length": 24, "skiplist_words": ["the"], "threads": 1}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_handle_encodes_equally(goldens: Path, protocol: int) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", **KNOBS)  # type: ignore[arg-type]
    data = pickle.dumps(model, protocol)
    assert len(data) < 2000, "path and arguments, no weights"
    again = pickle.loads(data)
    assert again.encode_documents(TEXTS) == model.encode_documents(TEXTS)
    assert again.encode_queries(TEXTS) == model.encode_queries(TEXTS)
    assert again.fingerprint == model.fingerprint
    ours, theirs = model.info(), again.info()
    assert {**ours, "name": ""} == {**theirs, "name": ""}
    assert again.query_length == 16
    assert pickle.loads(pickle.dumps(again)).info() == theirs


def test_settings_of_any_iterable_pickle(goldens: Path) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", skiplist_words=(word for word in ("the", ",")))
    again = pickle.loads(pickle.dumps(model))
    assert again.info()["skiplist_words"]["value"] == ["the", ","]


def test_copies_are_the_handle_itself(minilm: ColBERT) -> None:
    begun = time.perf_counter()
    for _ in range(1000):
        assert copy.deepcopy(minilm) is minilm
        assert copy.copy(minilm) is minilm
    assert copy.deepcopy({"model": [minilm]})["model"][0] is minilm
    assert time.perf_counter() - begun < 1, "copying loads nothing"


def bare_bert(goldens: Path, folder: Path) -> Path:
    """Golden a without its Dense: a BERT that only `from_bert` opens."""
    source = goldens / "a_bert_pylate" / "checkpoint"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    return folder


def test_from_bert_pickles(goldens: Path, tmp_path: Path) -> None:
    model = from_bert(bare_bert(goldens, tmp_path), document_length=20, query_length=8)
    again = pickle.loads(pickle.dumps(model))
    assert again.encode_documents(TEXTS) == model.encode_documents(TEXTS)
    assert again.info() == model.info()
    assert again.dim == 48
    assert copy.deepcopy(model) is model


ELSEWHERE = """
import pickle, sys
model, rows = pickle.load(sys.stdin.buffer)
assert model.encode_documents(["the lighthouse keeper", "ships, rocks; fog", ""]) == rows
print(model.name)
"""


def test_a_relative_path_pickles_for_another_folder(
    goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(goldens)
    model = ColBERT("a_bert_pylate/checkpoint")
    assert model.name == "a_bert_pylate/checkpoint"
    data = pickle.dumps((model, model.encode_documents(TEXTS)))
    command = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(command, input=data, capture_output=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert Path(os.fsdecode(done.stdout.strip())) == goldens / "a_bert_pylate" / "checkpoint"


def test_pickled_after_a_change_of_folder(goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path belongs to the folder that the handle was opened from, wherever the process has gone since."""
    monkeypatch.chdir(goldens)
    model = ColBERT("a_bert_pylate/checkpoint")
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickle.dumps(model)).encode_documents(TEXTS) == model.encode_documents(TEXTS)


def test_fingerprint_after_a_change_of_folder(goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(goldens)
    model = ColBERT("a_bert_pylate/checkpoint")
    monkeypatch.chdir(tmp_path)
    assert model.fingerprint == ColBERT(goldens / "a_bert_pylate" / "checkpoint").fingerprint


def test_a_process_pool_takes_the_handle(tiny: ColBERT) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(tiny.encode_documents, [TEXTS, TEXTS[:1]]))
    assert parts == [tiny.encode_documents(TEXTS), tiny.encode_documents(TEXTS[:1])]


def test_ranked_pickles(tiny: ColBERT) -> None:
    ranked = tiny.rerank("a light for ships", TEXTS)
    again = pickle.loads(pickle.dumps(ranked))
    assert again == ranked
    assert copy.deepcopy(ranked) == ranked
    assert (type(again[0].index), type(again[0].score), type(again[0].text)) == (int, float, str)


def test_tokens_pickle(tiny: ColBERT) -> None:
    tokens = tiny.tokenize_queries(TEXTS)[0]
    for again in (pickle.loads(pickle.dumps(tokens)), copy.deepcopy(tokens)):
        assert isinstance(again, Tokens)
        assert again.tokens == tokens.tokens
        for name in ("ids", "attention_mask", "keep", "offsets"):
            left, right = getattr(again, name), getattr(tokens, name)
            assert np.array_equal(left, right)
            assert left.dtype == right.dtype


@pytest.mark.parametrize("encoder", [Muvera(32, ksim=3, dprojections=8, repetitions=2, seed=2**100), MeanVector(32)])
def test_prefetch_encoders_travel_as_their_numbers(encoder: Muvera | MeanVector) -> None:
    rows = [np.random.default_rng(0).standard_normal((9, 32)).astype(np.float32)]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(encoder, protocol)
        assert len(data) < 400, "numbers, no matrices"
        again = pickle.loads(data)
        assert (again, again.fingerprint) == (encoder, encoder.fingerprint)
        assert np.array_equal(again.encode_documents(rows), encoder.encode_documents(rows))
    assert copy.deepcopy(encoder) == copy.copy(encoder) == encoder
    with pytest.raises(AttributeError):
        encoder.dim = 3  # type: ignore[misc]
