"""`import chandelier` is light: numpy and the compiled core, nothing that only some callers need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

UNWANTED = [
    "tqdm",
    "huggingface_hub",
    "torch",
    "tensorflow",
    "transformers",
    "safetensors",
    "langchain",
    "langchain_core",
    "llama_index",
    "haystack",
    "qdrant_client",
    "weaviate",
    "argparse",
    "chandelier.cli",
    "chandelier.store",
    "asyncio",
    "sqlite3",
]
MODULES = """
import json, sys
import numpy
before = set(sys.modules)
import chandelier
print(json.dumps(sorted(set(sys.modules) - before)))
"""
TIMES = """
import json, time
times = [time.perf_counter()]
import numpy
times.append(time.perf_counter())
import chandelier
times.append(time.perf_counter())
print(json.dumps([times[1] - times[0], times[2] - times[1]]))
"""


def fresh(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_no_heavy_module_is_imported() -> None:
    modules = fresh(MODULES)
    assert "chandelier._core" in modules
    found = [name for name in modules if name in UNWANTED or name.partition(".")[0] in UNWANTED]
    assert found == []
    # Whatever else it needs is its own or comes with Python.
    assert {n.partition(".")[0] for n in modules} - set(sys.stdlib_module_names) - {"numpy"} == {"chandelier"}


def test_a_silent_encode_imports_no_bar_either() -> None:
    code = """
import json, sys
from chandelier import ColBERT
ColBERT("tests/goldens/a_bert_pylate/checkpoint").encode_documents(["a"])
print(json.dumps("tqdm" in sys.modules))
"""
    assert fresh(code) is False


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tests/goldens/a_bert_pylate/checkpoint", False),
        ("tests/goldens/no-such-checkpoint", False),
        ("./no-such-checkpoint", False),
        ("house/plain", True),
    ],
)
def test_only_a_hub_name_imports_the_hubs_client(name: str, expected: bool) -> None:
    code = f"""
import json, sys
from chandelier import ColBERT
try:
    ColBERT({name!r}, local_files_only=True, cache_dir="/no/such/cache").encode_documents(["a"])
except FileNotFoundError:
    pass
print(json.dumps("huggingface_hub" in sys.modules))
"""
    assert fresh(code) is expected


def test_import_takes_less_than_numpys(report: Callable[[str], None]) -> None:
    """Relative, so that a slow machine is no failure; the goal of 0.05 s is for the report to show."""
    fresh(TIMES)  # warms the file cache
    runs = [fresh(TIMES) for _ in range(7)]
    numpys, ours = (median(run[which] for run in runs) for which in (0, 1))
    report(f"import chandelier: {ours * 1000:.0f} ms beyond numpy's own {numpys * 1000:.0f} ms (median of 7)")
    assert ours < numpys
