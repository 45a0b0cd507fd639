"""The package in Node gives the reference's tokens, rows and scores, and what Python's gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import npm_package
import pytest
from javascript import Node, multivectors

from chandelier import ColBERT, MultiVectors

ENCODE = f"return ({npm_package.ENCODE})(chandelier, kept.read(argument.folder), argument.inputs);"
TEXTS = ["the lighthouse", "ships and rocks, fog and lamps " * 20, "Paris is the capital of France.", "?!", ""]
EVERY_BACKBONE = [
    "a_bert_pylate",
    "h_modernbert_v5",
    "l_xlmr_pylate",
    "m_distilbert_pylate",
    "p_lfm2_pylate",
    "x1_eurobert",
    "x2_qwen3_bidirectional",
    "x3_xmod",
    "x4_jina_xlmr_rotary",
]


@pytest.mark.parametrize("case", npm_package.CASES)
def test_the_rows_are_the_references(
    node: Node,
    open_model: Callable[[str], ColBERT],
    case: str,
    request: pytest.FixtureRequest,
    report: Callable[[str], None],
) -> None:
    folder = npm_package.GOLDENS / case / "checkpoint"
    if case == npm_package.REAL:
        folder = request.getfixturevalue("minilm_checkpoint")
    found = node.evaluate(ENCODE, {"folder": str(folder), "inputs": npm_package.inputs(case)})
    npm_package.check(case, found, "Node", report)
    assert found["fingerprint"] == open_model(case).fingerprint


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, goldens: Path, minilm_checkpoint: Path) -> dict[str, MultiVectors]:
    """Python's rows of `TEXTS` by case and precision, by instructions that round as WebAssembly does."""
    script = """
        import json, sys
        from chandelier import ColBERT
        out, texts, folders = sys.argv[1], *map(json.loads, sys.argv[2:])
        for case, folder in folders.items():
            for dtype in ("float32", "int8"):
                ColBERT(folder, dtype=dtype).encode_documents(texts).save(f"{out}/{case}-{dtype}.safetensors")
    """
    folders = {case: str(goldens / case / "checkpoint") for case in EVERY_BACKBONE} | {"minilm": str(minilm_checkpoint)}
    out = tmp_path_factory.mktemp("plain")
    arguments = [str(out), json.dumps(TEXTS), json.dumps(folders)]
    environment = os.environ | {"CHANDELIER_SIMD": "portable"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), *arguments], check=True, env=environment)
    return {file.stem: MultiVectors.load(file) for file in out.iterdir()}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("case", [*EVERY_BACKBONE, "minilm"])
def test_rows_are_pythons_to_the_last_bit(
    node: Node, plain: dict[str, MultiVectors], goldens: Path, minilm_checkpoint: Path, case: str, dtype: str
) -> None:
    code = """
        const model = new chandelier.ColBERT(kept.read(argument.folder), { dtype: argument.dtype });
        const rows = kept.rows(model.encodeDocuments(argument.texts));
        const { dtype } = model;
        model.free();
        return { dtype, rows };
    """
    folder = minilm_checkpoint if case == "minilm" else goldens / case / "checkpoint"
    found: dict[str, Any] = node.evaluate(code, {"folder": str(folder), "texts": TEXTS, "dtype": dtype})
    assert found["dtype"] == dtype
    assert multivectors(found["rows"]) == plain[f"{case}-{dtype}"]
