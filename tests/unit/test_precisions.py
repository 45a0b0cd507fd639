"""`dtype="bfloat16"`, `"int8"` and `"auto"` on the CPU: how near they come to float32, and what they share with it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from chandelier import ColBERT, Document, LocalStore, MultiVectors, build_info

# The least cosine of a row with that of float32, and the mean of what is missing to 1: MiniLM's are 0.99988 and 1.6e-5,
# 0.9984 and 5e-4.
BOUNDS = {"bfloat16": (0.9995, 5e-5), "int8": (0.995, 1e-3)}
# Small models, whose rows of 32 numbers leave little to average over.
TINY_BOUNDS = {"bfloat16": 0.999, "int8": 0.98}
TEXTS = [
    "the lighthouse",
    "ships and rocks, fog and lamps " * 20,
    "Paris is the capital of France.",
    "def encode(texts): return [tokens(text) for text in texts]",
    "A river runs through it, and three bridges cross the river; the oldest is of stone.",
]
EVERY_BACKBONE = [
    "a_bert_pylate",
    "h_modernbert_v5",
    "l_xlmr_pylate",
    "m_distilbert_pylate",
    "p_lfm2_pylate",
    "q_bf16_weights",
    "x1_eurobert",
    "x2_qwen3_bidirectional",
    "x3_xmod",
    "x4_jina_xlmr_rotary",
]


@pytest.fixture(scope="module")
def real(minilm_checkpoint: Path) -> dict[str, ColBERT]:
    """MiniLM in each precision."""
    return {dtype: ColBERT(minilm_checkpoint, dtype=dtype) for dtype in ("float32", *BOUNDS)}


@cache
def tiny(folder: Path, dtype: str) -> MultiVectors:
    return ColBERT(folder, dtype=dtype).encode_documents(TEXTS)


def cosines(left: MultiVectors, right: MultiVectors) -> np.ndarray:
    assert np.array_equal(left.offsets, right.offsets)
    return np.asarray((left.data.astype(np.float64) * right.data).sum(axis=1))


@pytest.mark.parametrize("dtype", BOUNDS)
def test_real_weights_come_near_to_float32(real: dict[str, ColBERT], dtype: str) -> None:
    least, missing = BOUNDS[dtype]
    for encode in ("encode_documents", "encode_queries"):
        exact, rounded = (getattr(real[name], encode)(TEXTS) for name in ("float32", dtype))
        found = cosines(exact, rounded)
        print(f"{dtype}, {encode}: least cosine {found.min():.5f}, 1 - mean {1 - found.mean():.1e}")
        assert found.min() > least
        assert 1 - found.mean() < missing
        # It is another arithmetic, not another name of the same.
        assert not np.array_equal(exact.data, rounded.data)


@pytest.mark.parametrize("dtype", TINY_BOUNDS)
@pytest.mark.parametrize("case", EVERY_BACKBONE)
def test_every_backbone_computes_in_it(goldens: Path, case: str, dtype: str) -> None:
    folder = goldens / case / "checkpoint"
    found = cosines(tiny(folder, "float32"), tiny(folder, dtype))
    print(f"{case}, {dtype}: least cosine {found.min():.5f}")
    assert TINY_BOUNDS[dtype] < found.min() < 1 - 1e-9


@pytest.mark.parametrize("dtype", ["float32", *BOUNDS])
def test_a_text_gives_the_same_bits_in_any_company_from_any_thread(minilm_checkpoint: Path, dtype: str) -> None:
    together = ColBERT(minilm_checkpoint, dtype=dtype, threads=2).encode_documents(TEXTS)
    model = ColBERT(minilm_checkpoint, dtype=dtype, threads=1)
    assert all(model.encode_documents([text])[0].tobytes() == together[i].tobytes() for i, text in enumerate(TEXTS))
    assert model.encode_documents(TEXTS[::-1], batch_tokens=40) == MultiVectors.from_arrays(list(together)[::-1])


def test_the_name_is_told_and_the_fingerprint_is_the_same(real: dict[str, ColBERT]) -> None:
    assert {name: model.dtype for name, model in real.items()} == {name: name for name in real}
    assert len({model.fingerprint for model in real.values()}) == 1


ENCODE = """
import sys, numpy
from chandelier import ColBERT
folder, dtype, out, *texts = sys.argv[1:]
numpy.save(out, ColBERT(folder, dtype=dtype).encode_documents(texts).data)
"""


@pytest.mark.parametrize("dtype", ["float32", *BOUNDS])
@pytest.mark.parametrize("simd", ["amx", "avx512", "avx2", "neon", "portable"])
def test_every_kind_of_instructions_gives_the_same(
    real: dict[str, ColBERT], minilm_checkpoint: Path, tmp_path: Path, simd: str, dtype: str
) -> None:
    out = tmp_path / "rows.npy"
    command = [sys.executable, "-c", ENCODE, str(minilm_checkpoint), dtype, str(out), *TEXTS]
    done = subprocess.run(command, env={**os.environ, "CHANDELIER_SIMD": simd}, capture_output=True, text=True)
    if "CHANDELIER_SIMD: got" in done.stderr and simd != "portable":
        pytest.skip(f"this processor has no {simd}")
    assert done.returncode == 0, done.stderr
    ours = real[dtype].encode_documents(TEXTS).data
    theirs = np.load(out)
    # What rounds a product and a sum separately, or bfloat16 in pairs, moves a number across a step here and there.
    within = {"float32": 2e-6, "bfloat16": 4e-3, "int8": 2e-2}[dtype]
    print(f"{simd}, {dtype}: worst gap {np.abs(ours - theirs).max():.1e}")
    assert np.abs(ours - theirs).max() < within


def test_build_info_names_the_instructions_of_each_precision() -> None:
    assert all(f"{dtype}: " in build_info()["kernels"] for dtype in ("float32", *BOUNDS))


# --- auto -----------------------------------------------------------------------------------------------------------

OPEN = """
import sys, json, pickle
from chandelier import ColBERT, build_info
model = ColBERT(sys.argv[1], dtype="auto")
handle = pickle.load(sys.stdin.buffer)
rows = model.encode_documents(sys.argv[2:])
same = rows == ColBERT(sys.argv[1], dtype=model.dtype).encode_documents(sys.argv[2:])
facts = [model.dtype, repr(model), model.info()["dtype"], model.arguments["dtype"], handle.dtype, same]
print(json.dumps([build_info()["kernels"], *facts]))
"""
# Of int8 and bfloat16: these multiply four numbers, or two, in the time of a float32.
OF_ITS_OWN = {"amx", "avx512vnni", "avx512bf16"}


@pytest.mark.parametrize("simd", ["amx", "avx512", "avx2", "neon", "portable", None])
def test_auto_is_the_fastest_of_the_instructions(goldens: Path, simd: str | None) -> None:
    folder = goldens / "a_bert_pylate" / "checkpoint"
    forced = {} if simd is None else {"CHANDELIER_SIMD": simd}
    pickled = pickle.dumps(ColBERT(folder, dtype="auto"))
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder), *TEXTS],
        input=pickled,
        env={**os.environ, **forced},
        capture_output=True,
    )
    if b"CHANDELIER_SIMD: got" in done.stderr and simd != "portable":
        pytest.skip(f"this processor has no {simd}")
    assert done.returncode == 0, done.stderr.decode()
    kernels, dtype, shown, told, argument, opened_again, same = json.loads(done.stdout)
    print(kernels, "->", dtype)
    by = dict(each.split(": ") for each in kernels.split(", "))
    assert dtype == next((each for each in ("int8", "bfloat16") if by[each] in OF_ITS_OWN), "float32")
    assert f"dtype={dtype!r}" in shown
    assert (told, argument) == (dtype, "auto")
    assert opened_again == dtype, "a handle is resolved where it is opened, not where it was pickled"
    assert same


@pytest.mark.parametrize("simd", ["avx2", "portable"])
def test_the_command_line_takes_it_and_info_tells_what_it_is(goldens: Path, simd: str) -> None:
    command = [sys.executable, "-m", "chandelier", "info", str(goldens / "a_bert_pylate" / "checkpoint")]
    env = {**os.environ, "CHANDELIER_SIMD": simd}
    for chosen, told in {"auto": "float32", "int8": "int8"}.items():
        done = subprocess.run([*command, "--dtype", chosen, "--json"], env=env, capture_output=True, text=True)
        if "CHANDELIER_SIMD: got" in done.stderr and simd != "portable":
            pytest.skip(f"this processor has no {simd}")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["dtype"] == told
    refused = subprocess.run([*command, "--dtype", "float16"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--dtype" in refused.stderr


SEARCH = """
import sys
from chandelier import ColBERT, LocalStore
with LocalStore(ColBERT(sys.argv[1], dtype="auto"), sys.argv[2]) as store:
    print(store.model.dtype, store.search("where is paris?", k=1)[0].id)
"""


def test_a_store_opens_where_auto_is_something_else(goldens: Path, tmp_path: Path) -> None:
    folder, path = goldens / "a_bert_pylate" / "checkpoint", tmp_path / "notes.db"
    with LocalStore(ColBERT(folder, dtype="auto"), path) as store:
        store.upsert([Document("a", "Bread needs flour."), Document("b", "Paris is in France.")])
    for simd, model in {"portable": "float32", None: store.model.dtype}.items():
        env = os.environ if simd is None else {**os.environ, "CHANDELIER_SIMD": simd}
        command = [sys.executable, "-c", SEARCH, str(folder), str(path)]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.stdout.split() == [model, "b"], done.stderr
