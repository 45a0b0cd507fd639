"""Damaged and unsupported checkpoints in shards and in Stanford's format, what `info()` warns of, and where to compute.

Pickled weights, sentence-transformers 6 and the architectures have files of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import (
    COLBERT,
    CONFIG,
    GOLDENS,
    WEIGHTS,
    Case,
    Damage,
    check,
    drop,
    edit,
    put,
    refused,
    show,
    sizes,
    tensor,
    write,
)

from chandelier import ArgumentError, ColBERT, DeviceError

Copy = Callable[[str], Path]

PLAIN, SHARDED, STANFORD = "a_bert_pylate", "g_bert_sharded", "d_bert_stanford"
FIXED, MIN = "n_st6_mve", "o_st6_mve_min"  # sentence-transformers 6: query expansion to 32 tokens, and to at least 16

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00005.safetensors", "model-00002-of-00005.safetensors"
WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
METADATA = "artifact.metadata"
MASK = "2_MultiVectorMask/config.json"


# --- shards ---------------------------------------------------------------------------------------------------------


def mapped(name: str, file: str) -> Damage:
    """Changes the file in which the index says that a tensor stands."""
    return edit(INDEX, lambda index: index["weight_map"].update({name: file}))


def cut(file: str) -> Damage:
    """Loses the second half of a file."""

    def damage(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2])

    return damage


SHARDS = [
    Case("not JSON", write(INDEX, b"weight_map: {}"), INDEX),
    Case("0 bytes", write(INDEX, b""), INDEX),
    Case("a list", write(INDEX, b"[]"), INDEX),
    Case("no weight_map", drop(INDEX, "weight_map"), INDEX, "weight_map", ("missing",)),
    *(
        Case(f"weight_map {value!r}", put(INDEX, weight_map=value), INDEX, "weight_map", ("wanted",))
        for value in ([FIRST], FIRST, 3, {WORDS: 1}, {WORDS: None}, {WORDS: [FIRST]})
    ),
    *(
        Case(f"a path {path!r}", mapped(WORDS, path), INDEX, "weight_map", (re.escape(json.dumps(path)),))
        for path in (f"../{FIRST}", f"/tmp/{FIRST}", f"1_Dense/{FIRST}", "..", ".", "", f"{FIRST}/", f"./{FIRST}")
    ),
    Case("a tensor in the wrong shard", mapped(WORDS, SECOND), INDEX, "weight_map", (re.escape(WORDS), SECOND)),
    Case("a tensor that no shard has", mapped("nothing", FIRST), INDEX, "weight_map", ("nothing", FIRST)),
    Case("a shard without its tensor", tensor(FIRST, WORDS, None), INDEX, "weight_map", (re.escape(WORDS), FIRST)),
    Case("an unlisted tensor", edit(INDEX, lambda index: index["weight_map"].pop(WORDS)), key=WORDS),
    Case("a shard cut", cut(SECOND), SECOND),
    Case("a shard of 0 bytes", write(FIRST, b""), FIRST),
    Case("a shard that is a pointer", write(FIRST, b"version 1\noid sha256:0000000000000000\nsize 231048\n"), FIRST),
    Case(
        "a shard of another shape",
        tensor(FIRST, WORDS, lambda w: w[:900]),
        FIRST,
        WORDS,
        (sizes(900, 64), sizes(902, 64)),
    ),
    Case("a shard of another type", tensor(SECOND, POSITIONS, lambda w: w.astype("f8")), SECOND, POSITIONS, ("F64",)),
    Case(
        "two names for one tensor", lambda folder: rename(folder, POSITIONS, f"bert.{WORDS}"), key=WORDS, says=("one",)
    ),
]


def rename(folder: Path, old: str, new: str) -> None:
    """Gives a tensor of the second shard another name, in the index and in the shard."""
    content = (folder / SECOND).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip().replace(f'"{old}"'.encode(), f'"{new}"'.encode())
    (folder / SECOND).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    edit(INDEX, lambda index: index["weight_map"].update({new: index["weight_map"].pop(old)}))(folder)


@pytest.mark.parametrize("case", SHARDS, ids=show)
def test_damaged_shards_are_refused(case: Case, copy_golden: Copy) -> None:
    refused(copy_golden(SHARDED), case)


@pytest.mark.parametrize("file", [FIRST, SECOND, "model-00005-of-00005.safetensors"])
def test_a_missing_shard_is_named(file: str, copy_golden: Copy) -> None:
    folder = copy_golden(SHARDED)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        ColBERT(folder)
    check(caught.value, folder, says=(re.escape(file), "index"))


def test_a_shard_that_only_the_index_knows_is_named(copy_golden: Copy) -> None:
    folder = copy_golden(SHARDED)
    mapped(WORDS, "model-00006-of-00005.safetensors")(folder)
    with pytest.raises(FileNotFoundError, match=r"model-00006-of-00005\.safetensors"):
        ColBERT(folder)


def test_without_its_index_a_checkpoint_has_no_weights(copy_golden: Copy) -> None:
    folder = copy_golden(SHARDED)
    (folder / INDEX).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        ColBERT(folder)
    check(caught.value, folder, says=(r"model\.safetensors", r"pytorch_model\.bin"))


@pytest.mark.parametrize("sharded", [SHARDED, "f_bert_pytorch_bin"])
def test_pickled_shards_are_not_read(sharded: str, copy_golden: Copy) -> None:
    folder = copy_golden(sharded)
    for file in (INDEX, "pytorch_model.bin"):
        (folder / file).unlink(missing_ok=True)
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {}}', encoding="utf-8")
    with pytest.raises(FileNotFoundError) as caught:
        ColBERT(folder)
    check(caught.value, folder, says=(r"pytorch_model\.bin\.index\.json", "safetensors"))


def test_one_file_wins_over_shards_and_pickles(copy_golden: Copy) -> None:
    folder = copy_golden(PLAIN)
    fingerprint = ColBERT(folder).fingerprint
    for file in (INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json"):
        (folder / file).write_bytes(b"not read")
    assert ColBERT(folder).fingerprint == fingerprint


def test_shards_win_over_pickles(copy_golden: Copy) -> None:
    folder = copy_golden(SHARDED)
    fingerprint = ColBERT(folder).fingerprint
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert ColBERT(folder).fingerprint == fingerprint


# --- Stanford's HF_ColBERT ------------------------------------------------------------------------------------------

COUNT: list[object] = [0, -1, 1.5, True, "32", [32], 2**32]
LINEAR = "linear.weight"

STANFORDS = [
    Case("no projection", tensor(WEIGHTS, LINEAR, None), WEIGHTS, LINEAR, ("no such tensor",)),
    Case("too narrow", tensor(WEIGHTS, LINEAR, lambda w: w[:, :40]), WEIGHTS, LINEAR, (sizes(32, 40), sizes(32, 48))),
    Case("transposed", tensor(WEIGHTS, LINEAR, lambda w: w.T.copy()), WEIGHTS, LINEAR, (sizes(48, 32), sizes(48, 48))),
    Case("flat", tensor(WEIGHTS, LINEAR, lambda w: w.reshape(-1)), WEIGHTS, LINEAR, (sizes(1536),)),
    Case("three sizes", tensor(WEIGHTS, LINEAR, lambda w: w[None]), WEIGHTS, LINEAR, (sizes(1, 32, 48),)),
    Case("no size", tensor(WEIGHTS, LINEAR, lambda w: w[0, 0].reshape(())), WEIGHTS, LINEAR, ("shape",)),
    Case("float64", tensor(WEIGHTS, LINEAR, lambda w: w.astype("f8")), WEIGHTS, LINEAR, ("F64", "F32")),
    Case("integers", tensor(WEIGHTS, LINEAR, lambda w: w.astype("i8")), WEIGHTS, LINEAR, ("I64", "F32")),
    Case("metadata not JSON", write(METADATA, b'{"query_maxlen":'), METADATA),
    Case("metadata of 0 bytes", write(METADATA, b""), METADATA),
    Case("metadata not UTF-8", write(METADATA, b'{"query_token_id": "\xff"}'), METADATA),
    Case("metadata a list", write(METADATA, b"[]"), METADATA, says=("a list", "object")),
    *(
        Case(f"{key}={value!r}", put(METADATA, **{key: value}), METADATA, key, ("wanted",))
        for key, values in {
            "query_maxlen": COUNT,
            "doc_maxlen": COUNT,
            "query_token_id": [3, True, ["[unused0]"], {}],
            "doc_token_id": [3],
            "attend_to_mask_tokens": [1, "true", [True]],
        }.items()
        for value in values
    ),
    Case("no such query marker", put(METADATA, query_token_id="[NOPE]"), METADATA, "query_token_id", (r"\[NOPE\]",)),
    Case("no such marker", put(METADATA, doc_token_id="[unused99]"), METADATA, "doc_token_id", (r"\[unused99\]",)),
    Case("a marker of two tokens", put(METADATA, query_token_id="[Q] "), METADATA, "query_token_id", (r"\[Q\] ",)),
    Case("too short a query", put(METADATA, query_maxlen=3), METADATA, "query_maxlen", (r"\b3\b",)),
    Case("too short a document", put(METADATA, doc_maxlen=3), METADATA, "doc_maxlen", (r"\b3\b",)),
    Case("past the positions", put(METADATA, doc_maxlen=81), METADATA, "doc_maxlen", (r"\b81\b", r"\b80\b")),
    Case("architectures a text", put(CONFIG, architectures="HF_ColBERT"), CONFIG, "architectures", ("list",)),
    Case("architectures of numbers", put(CONFIG, architectures=[1]), CONFIG, "architectures"),
]


@pytest.mark.parametrize("case", STANFORDS, ids=show)
def test_a_damaged_stanford_checkpoint_is_refused(case: Case, copy_golden: Copy) -> None:
    refused(copy_golden(STANFORD), case)


@pytest.mark.parametrize("classes", [None, [], ["BertModel"], ["BertModel", "HF_ColBERT"], ["hf_colbert"]])
def test_only_its_class_tells_a_stanford_checkpoint(classes: object, copy_golden: Copy) -> None:
    folder = copy_golden(STANFORD)
    put(CONFIG, architectures=classes)(folder)
    with pytest.raises(FileNotFoundError) as caught:
        ColBERT(folder)
    check(caught.value, folder, says=(r"modules\.json", "HF_ColBERT"))


def test_without_metadata_the_settings_of_stanford_hold(copy_golden: Copy) -> None:
    folder = copy_golden(STANFORD)
    (folder / METADATA).unlink()
    with pytest.raises(ArgumentError) as caught:  # the default of 180 tokens is more than this one has positions
        ColBERT(folder)
    check(caught.value, folder, says=("document_length", r"\b180\b", r"\b80\b"))
    info = ColBERT(folder, document_length=80).info()
    assert info["format"].startswith("Stanford")
    assert info["query_length"] == {"value": 32, "origin": "default"}
    assert info["query_prefix"] == {"value": "[unused0]", "origin": "default"}
    assert info["document_prefix"] == {"value": "[unused1]", "origin": "default"}
    assert info["do_query_expansion"] == {"value": True, "origin": "default"}
    assert info["attend_to_expansion_tokens"] == {"value": False, "origin": "default"}
    assert info["dense"] == [
        {"in_features": 48, "out_features": 32, "bias": False, "activation": "identity", "use_residual": False}
    ]


def test_without_positions_in_the_way_a_stanford_document_has_180_tokens(copy_golden: Copy) -> None:
    folder = copy_golden("x4_jina_xlmr_rotary")
    put(METADATA, doc_maxlen=None, query_maxlen=None)(folder)
    info = ColBERT(folder).info()
    assert info["document_length"] == {"value": 180, "origin": "default"}
    assert info["query_length"] == {"value": 32, "origin": "default"}


# --- what info() warns of -------------------------------------------------------------------------------------------


def test_prompts_that_wait_for_their_name_are_a_warning(copy_golden: Copy) -> None:
    (warning,) = ColBERT(GOLDENS / "v_prompts" / "checkpoint").info()["warnings"]
    for word in ("not applied by themselves", "prompt_name", '"query"', '"document"'):
        assert word in warning
    for golden in (PLAIN, FIXED, MIN):
        assert ColBERT(GOLDENS / golden / "checkpoint").info()["warnings"] == []
    folder = copy_golden("v_prompts")
    put(COLBERT, default_prompt_name="query")(folder)
    (warning,) = ColBERT(folder).info()["warnings"]
    assert '"document"' in warning
    assert '"query"' not in warning


def test_skiplist_words_that_are_no_tokens_are_a_warning(copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    put(MASK, skiplist_words=[",", "notaword", "neither is this"])(folder)
    with pytest.warns(UserWarning, match="notaword"):
        model = ColBERT(folder)
    (warning,) = model.info()["warnings"]
    for word in ("notaword", "neither is this"):
        assert word in warning
    assert '","' not in warning


# --- precision and device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", [PLAIN, STANFORD, FIXED])
def test_float16_is_not_for_the_cpu(golden: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ColBERT(GOLDENS / golden / "checkpoint", dtype="float16")
    check(caught.value, GOLDENS, says=("dtype", "float16", "float32", "CPU"))
    assert caught.value.argument == "dtype"


@pytest.mark.parametrize("dtype", ["", "f32", "Float32", "torch.float32", "INT8", "Auto", "float32 "])
def test_an_unknown_precision_is_named(dtype: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ColBERT(GOLDENS / PLAIN / "checkpoint", dtype=dtype)
    check(caught.value, GOLDENS, says=("dtype", re.escape(json.dumps(dtype)), "float32"))


@pytest.mark.parametrize(
    "device", ["gpu", "", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda 0", "mps", "auto"]
)
def test_an_unknown_device_is_named(device: str) -> None:
    with pytest.raises(DeviceError) as caught:
        ColBERT(GOLDENS / PLAIN / "checkpoint", device=device)
    check(caught.value, GOLDENS, says=(re.escape(json.dumps(device)), "unknown", "cpu"))


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1", "cuda:99", "metal"])
def test_a_device_that_is_not_there_is_an_error_and_never_the_cpu(device: str) -> None:
    # Not compiled in, or compiled in and not in this machine.
    try:
        model = ColBERT(GOLDENS / PLAIN / "checkpoint", device=device)
    except DeviceError as error:
        check(error, GOLDENS, says=(device.split(":")[0],))
    else:
        assert model.info()["device"].startswith(device)


@pytest.mark.parametrize(("option", "value"), [("device", None), ("device", 0), ("dtype", None), ("dtype", np.float32)])
def test_device_and_precision_are_texts(option: str, value: object) -> None:
    with pytest.raises(ArgumentError) as caught:
        ColBERT(GOLDENS / PLAIN / "checkpoint", **{option: value})
    assert caught.value.argument == option
