"""`ColBERT.arguments`: what a handle was opened with, as JSON that opens it again."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chandelier import ColBERT, from_bert

CHECKPOINT = Path(__file__).parents[1] / "goldens" / "a_bert_pylate" / "checkpoint"
KNOBS: list[dict[str, Any]] = [
    {},
    {"query_length": 24, "document_length": 100, "query_prefix": "", "document_prefix": "[D] ", "threads": 1},
    {"skiplist_words": ["the", ","], "do_query_expansion": False, "attend_to_expansion_tokens": True},
    {"skiplist_words": [], "do_query_expansion": True, "dtype": "float64"},
]


def through_json(arguments: dict[str, Any]) -> dict[str, Any]:
    again: dict[str, Any] = json.loads(json.dumps(arguments))
    assert again == arguments
    return again


@pytest.mark.parametrize("knobs", KNOBS, ids=lambda knobs: ",".join(knobs))
def test_arguments_are_what_was_given_and_open_an_equal_handle(knobs: dict[str, Any]) -> None:
    model = ColBERT(str(CHECKPOINT), **knobs)
    assert model.arguments == {"model_name_or_path": str(CHECKPOINT), **knobs}
    again = ColBERT(**through_json(model.arguments))
    assert (again.info(), again.fingerprint) == (model.info(), model.fingerprint)
    assert again.arguments == model.arguments


def test_defaults_that_are_spelt_out_are_left_out() -> None:
    spelt: dict[str, Any] = dict(
        device="cpu", dtype="float32", revision=None, cache_dir=None, token=None, local_files_only=False, threads=None
    )
    assert ColBERT(CHECKPOINT, **spelt).arguments == {"model_name_or_path": str(CHECKPOINT)}


def test_whatever_was_given_becomes_json() -> None:
    """A path, numpy's numbers, words of a generator, a folder for the cache, and a token."""
    model = ColBERT(
        CHECKPOINT,
        query_length=np.int64(16),  # type: ignore[arg-type]
        document_length=np.uint8(40),  # type: ignore[arg-type]
        threads=np.int32(1),  # type: ignore[arg-type]
        skiplist_words=(word for word in ("the", ",")),
        cache_dir=Path("/nowhere"),
        token="hf_secret",
        local_files_only=True,
    )
    assert "hf_secret" not in json.dumps(model.arguments)
    assert through_json(model.arguments) == {
        "model_name_or_path": str(CHECKPOINT),
        "query_length": 16,
        "document_length": 40,
        "threads": 1,
        "skiplist_words": ["the", ","],
        "cache_dir": str(Path("/nowhere").absolute()),
        "local_files_only": True,
    }


def test_changing_them_changes_no_handle() -> None:
    model = ColBERT(CHECKPOINT, skiplist_words=["the"])
    model.arguments["skiplist_words"].append("moon")
    model.arguments.clear()
    assert model.arguments["skiplist_words"] == ["the"]
    assert pickle.loads(pickle.dumps(model)).arguments == model.arguments


def test_from_bert_says_so(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(CHECKPOINT / name, tmp_path / name)
    arguments = through_json(from_bert(tmp_path, query_length=8).arguments)
    assert arguments == {"model_name_or_path": str(tmp_path), "from_bert": True, "query_length": 8}
    assert arguments.pop("from_bert")
    assert from_bert(arguments.pop("model_name_or_path"), **arguments).query_length == 8
