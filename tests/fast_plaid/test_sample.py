"""pylate-rs's sample of retrieval runs with fast-plaid, in an environment of its own: `make test-fast-plaid`.

The model is MiniLM, built as for the golden case with real weights but for two settings (`minilm.json`). It never
learned the mask tokens that fill a question up: there are 16 tokens, as many as the longest of the five questions
has, not 32. And its 384 values are turned, not cut down to 128 by a drawn projection. With the golden case's settings
fast-plaid has document 14 for the fifth question, as exact MaxSim of the pooled rows has for the fourth and the
fifth; with 16 tokens and 128 values document 3 is first by 0.06, here by 1.1.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from missing import missing

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "fast-plaid" / "bin" / "python"
NAMED = [6, 4, 17, 0, 3]
"""The documents of the arrondissements that the five questions name: the 7th, 5th, 18th, 1st and 4th."""


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "minilm"
    script, spec = ROOT / "tests" / "goldens" / "build_minilm.py", Path(__file__).with_name("minilm.json")
    subprocess.run([sys.executable, script, "--spec", spec, "--out", folder], check=True, capture_output=True)
    return folder


def run_sample(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    if not PYTHON.exists():
        missing("fast-plaid's environment is missing: make test-fast-plaid")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "integrations"), "TMPDIR": str(cwd)}
    command = [PYTHON, ROOT / "examples" / "fast_plaid_sample.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=110, check=False)


@pytest.mark.parametrize("index", [["--index", "index"], []], ids=["named", "temporary"])
def test_every_question_finds_its_arrondissement_first(index: list[str], minilm: Path, tmp_path: Path) -> None:
    done = run_sample("--model", minilm, *index, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = ast.literal_eval(done.stdout)
    assert [found[0][0] for found in answers] == NAMED
    assert [len(found) for found in answers] == [3] * 5
    assert [path.name for path in tmp_path.iterdir()] == index[1:], "nothing else is left behind"


def test_a_folder_that_exists_is_left_alone(minilm: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text("mine", encoding="utf-8")
    done = run_sample("--model", minilm, "--index", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "name a new one" in done.stderr
    assert list(tmp_path.iterdir()) == [notes]
