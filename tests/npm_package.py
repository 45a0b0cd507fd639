"""The npm package of `make wasm`, and what a golden case asks of it wherever it runs: in Node, or in a browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from missing import missing

from chandelier import MultiVectors

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "tests" / "goldens"
REAL = "r_minilm_real"
REFUSED = "x6_lfm2_bidirectional"
CASES = sorted({path.parent.name for path in GOLDENS.glob("*/checkpoint")} - {REFUSED} | {REAL})

ENCODE = """({ ColBERT, maxsim }, files, inputs) => {
    const base64 = array => {
        const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
        let text = "";
        for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
        return btoa(text);
    };
    const whole = array => Array.from(array);
    const model = new ColBERT(files);
    const queries = model.encodeQueries(inputs.queries);
    const documents = model.encodeDocuments(inputs.documents);
    const scores = inputs.queries.map(query => base64(maxsim(model.encodeQueries([query]), documents)));
    const parts = (rows, tokens) => ({
        data: base64(rows.data),
        offsets: whole(rows.offsets),
        tokens: tokens.map(({ ids, attentionMask, keep }) => [ids, attentionMask, keep].map(whole)),
    });
    const found = {
        q: parts(queries, model.tokenizeQueries(inputs.queries)),
        d: parts(documents, model.tokenizeDocuments(inputs.documents)),
        scores,
        dim: model.dim,
        fingerprint: model.fingerprint,
    };
    for (const held of [queries, documents, model]) held.free();
    return found;
}"""
"""A function of the package, a checkpoint's files and a case's texts; `check` holds its result to the reference."""


def built(target: str) -> Path:
    """Its folder, for "web" or "nodejs"."""
    folder = ROOT / "target" / "wasm" / target
    if not (folder / "chandelier.js").is_file():
        missing("the npm package is not built: run `make wasm`")
    return folder


def inputs(case: str) -> dict[str, list[str]]:
    """The texts of a case."""
    texts: dict[str, list[str]] = json.loads((GOLDENS / case / "inputs.json").read_text(encoding="utf-8"))
    return texts


def check(case: str, found: dict[str, Any], where: str, report: Callable[[str], None]) -> None:
    """Tokens and counts are the reference's, rows and scores are within the golden files' tolerance."""
    tolerance = json.loads((GOLDENS / case / "meta.json").read_text(encoding="utf-8"))["tolerance"]
    with np.load(GOLDENS / case / "expected.npz") as arrays:
        expected = dict(arrays)
    if "alt_scores" in expected:  # with the words of the skiplist that are unknown ignored
        expected |= {name.removeprefix("alt_"): array for name, array in expected.items() if name.startswith("alt_")}
    worst = 0.0
    for role in ("q", "d"):
        check_tokens(expected, role, found[role]["tokens"])
        rows = MultiVectors(floats(found[role]["data"]).reshape(-1, found["dim"]), np.array(found[role]["offsets"]))
        assert rows.offsets.tolist() == expected[f"{role}_off"].tolist()
        worst = max(worst, float(np.abs(rows.data - expected[f"{role}_emb"]).max()))
    scores = np.array([floats(line) for line in found["scores"]])
    gaps = np.abs(scores - expected["scores"]).max(axis=1)
    report(f"{where}, golden {case}: worst row gap {worst:.1e}, worst score gap {gaps.max():.1e}")
    assert worst <= tolerance["rows_max_abs"]
    assert (gaps <= tolerance["scores_max_abs_per_query_row"] * np.diff(expected["q_off"])).all()


def check_tokens(expected: dict[str, npt.NDArray[Any]], role: str, tokens: list[list[list[int]]]) -> None:
    for place, name in enumerate(("ids", "att", "keep")):
        wanted = np.split(expected[f"{role}_{name}"], expected[f"{role}_ids_off"][1:-1])
        assert [text[place] for text in tokens] == [[int(x) for x in text] for text in wanted], name


def floats(text: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), np.float32)
