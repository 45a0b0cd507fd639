"""The built package in a real Chromium gives the reference's rows and scores, within the golden files' tolerance."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from site_server import Site
from visitor import Visitor

from chandelier import MultiVectors

GOLDENS = Path(__file__).parents[1] / "goldens"
REAL = "r_minilm_real"
REFUSED = "x6_lfm2_bidirectional"
CASES = sorted({path.parent.name for path in GOLDENS.glob("*/checkpoint")} - {REFUSED} | {REAL})

ENCODE = """async ({ folder, paths, inputs }) => {
    const { default: init, ColBERT, maxsim } = await import("/chandelier/chandelier.js");
    await init();
    const read = async path => new Uint8Array(await (await fetch(`/models/${folder}/${path}`)).arrayBuffer());
    const files = Object.fromEntries(await Promise.all(paths.map(async path => [path, await read(path)])));
    const model = new ColBERT(files);
    const base64 = array => {
        const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
        let text = "";
        for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
        return btoa(text);
    };
    const queries = model.encodeQueries(inputs.queries);
    const documents = model.encodeDocuments(inputs.documents);
    const scores = inputs.queries.map(query => base64(maxsim(model.encodeQueries([query]), documents)));
    const parts = rows => [base64(rows.data), Array.from(rows.offsets)];
    return { queries: parts(queries), documents: parts(documents), scores, dim: model.dim };
}"""


def rows(parts: tuple[str, list[int]], dim: int) -> MultiVectors:
    data = np.frombuffer(base64.b64decode(parts[0]), np.float32).reshape(-1, dim)
    return MultiVectors(data, np.array(parts[1], np.int64))


@pytest.mark.parametrize("case", CASES)
def test_the_rows_are_the_references(
    visit: Callable[..., Visitor], site: Site, case: str, minilm_checkpoint: Path, report: Callable[[str], None]
) -> None:
    folder = minilm_checkpoint if case == REAL else GOLDENS / case / "checkpoint"
    site.mounts[f"models/{case}/"] = folder
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    inputs = json.loads((GOLDENS / case / "inputs.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = visit().page.evaluate(ENCODE, {"folder": case, "paths": paths, "inputs": inputs})

    tolerance = json.loads((GOLDENS / case / "meta.json").read_text(encoding="utf-8"))["tolerance"]
    with np.load(GOLDENS / case / "expected.npz") as arrays:
        expected = dict(arrays)
    if "alt_scores" in expected:  # with the words of the skiplist that are unknown ignored
        expected |= {name.removeprefix("alt_"): array for name, array in expected.items() if name.startswith("alt_")}
    worst = 0.0
    for role, texts in (("q", "queries"), ("d", "documents")):
        ours = rows(found[texts], found["dim"])
        assert ours.offsets.tolist() == expected[f"{role}_off"].tolist()
        worst = max(worst, float(np.abs(ours.data - expected[f"{role}_emb"]).max()))
    assert worst <= tolerance["rows_max_abs"]
    scores = np.array([np.frombuffer(base64.b64decode(line), np.float32) for line in found["scores"]])
    gaps = np.abs(scores - expected["scores"]).max(axis=1)
    assert (gaps <= tolerance["scores_max_abs_per_query_row"] * np.diff(expected["q_off"])).all()
    report(f"Chromium, golden {case}: worst row gap {worst:.1e}, worst score gap {gaps.max():.1e}")
