"""A user's types are seen; `make lint` holds the package to mypy --strict, and the stub to the compiled module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="pip install mypy")


def run_module(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=root, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


USE = """
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

from chandelier import (
    ColBERT, MeanVector, MultiVectors, Muvera, PrefetchEncoder, Ranked, RecallReport, Tokens, recall_probe, top_k
)


def use(model: ColBERT) -> None:
    assert_type(model.encode_queries(["a"]), MultiVectors)
    assert_type(model.rerank("a", ["b"]), list[Ranked])
    assert_type(model.tokenize_documents(["a"]), list[Tokens])
    assert_type(model.encode_documents(["a"])[:1], MultiVectors)
    assert_type(model.similarity([np.eye(2)], [np.eye(2)]), NDArray[np.float32])
    assert_type(top_k(np.eye(2), [np.eye(2)], 1), tuple[NDArray[np.int64], NDArray[np.float32]])
    prefetch: list[PrefetchEncoder] = [Muvera(2, dprojections=1), MeanVector(2)]
    assert_type(prefetch[0].encode_documents([np.eye(2)]), NDArray[np.float32])
    assert_type(recall_probe([np.eye(2)], [np.eye(2)], prefetch), RecallReport)
    model.encode("a").shape
    [rows.shape for rows in model.encode(["a"])]
"""


def test_a_users_types_are_seen(root: Path, tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE.replace("from typing", "from typing_extensions"), encoding="utf-8")
    out = run_module(root, "mypy", "--strict", str(tmp_path / "use.py"))
    assert "Success: no issues found" in out
    assert (root / "integrations" / "chandelier" / "py.typed").is_file()
