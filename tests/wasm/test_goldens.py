"""The package in Node gives the reference's tokens, rows and scores, and what Python's gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import npm_package
import numpy as np
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
def int8(node: Node) -> Callable[[Path], MultiVectors]:
    """The rows of `TEXTS` in int8, as documents."""

    def encode(folder: Path) -> MultiVectors:
        code = """
            const model = new chandelier.ColBERT(kept.read(argument.folder), { dtype: "int8" });
            const rows = kept.rows(model.encodeDocuments(argument.texts));
            const { dtype } = model;
            model.free();
            return { dtype, rows };
        """
        found: dict[str, Any] = node.evaluate(code, {"folder": str(folder), "texts": TEXTS})
        assert found["dtype"] == "int8"
        return multivectors(found["rows"])

    return encode


@pytest.mark.parametrize("case", EVERY_BACKBONE)
def test_int8_is_pythons(int8: Callable[[Path], MultiVectors], goldens: Path, case: str) -> None:
    check_int8(int8, goldens / case / "checkpoint")


def test_int8_of_real_weights(int8: Callable[[Path], MultiVectors], minilm_checkpoint: Path) -> None:
    check_int8(int8, minilm_checkpoint)


def check_int8(encode: Callable[[Path], MultiVectors], folder: Path) -> None:
    """A product and a sum are rounded separately here, which moves a number across a step now and then."""
    ours, theirs = encode(folder), ColBERT(folder, dtype="int8").encode_documents(TEXTS)
    assert ours.offsets.tolist() == theirs.offsets.tolist()
    print(f"worst gap {np.abs(ours.data - theirs.data).max():.1e}")
    assert np.abs(ours.data - theirs.data).max() < 2e-2
    assert not np.array_equal(ours.data, ColBERT(folder).encode_documents(TEXTS).data), "float32 by another name"
