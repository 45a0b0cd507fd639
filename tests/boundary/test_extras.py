"""A missing framework is named with the command that installs it; one framework never imports another."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

EXTRAS = {
    "langchain": ("langchain_core", "langchain-core"),
    "llama_index": ("llama_index", "llama-index-core"),
    "haystack": ("haystack", "haystack-ai"),
    "qdrant": ("qdrant_client", "qdrant-client"),
    "qdrant_edge": ("qdrant_edge", "qdrant-edge-py"),
    "weaviate": ("weaviate", "weaviate-client"),
}
WITHOUT = """
import importlib, json, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2] or name.startswith(sys.argv[2] + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without())
try:
    importlib.import_module(f"chandelier.{sys.argv[1]}")
except ImportError as error:
    print(json.dumps([type(error).__name__, error.name, str(error)]))
"""
LOADED = """
import importlib, json, sys
importlib.import_module(f"chandelier.{sys.argv[1]}")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def fresh(code: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_extra_is_named(name: str) -> None:
    module, package = EXTRAS[name]
    kind, missing, message = fresh(WITHOUT, name, module)
    assert kind == "ModuleNotFoundError"
    assert missing.partition(".")[0] == module
    extra = name.replace("_", "-")
    assert message == f"chandelier.{name} needs {package}: pip install 'chandelier[{extra}]'"


def test_what_an_installed_framework_lacks_is_not_called_a_missing_framework() -> None:
    _, _, message = fresh(WITHOUT, "langchain", "pydantic")
    assert "pydantic" in message
    assert "chandelier[" not in message


@pytest.mark.parametrize("name", ["langchain", "llama_index", "haystack"])
def test_a_framework_brings_no_other_and_no_torch(name: str) -> None:
    loaded = fresh(LOADED, name)
    others = {module for module, _ in EXTRAS.values()} - {EXTRAS[name][0]}
    unwanted = others | {"torch", "transformers", "sentence_transformers", "langchain", "langchain_classic", "tqdm"}
    found = unwanted & set(loaded)
    assert (
        found - ({"tqdm"} if name != "langchain" else set()) == set()
    )  # the two others' hosts import a bar themselves


@pytest.mark.parametrize("name", ["rerank", "retrieval", "shared", "scores"])
def test_what_all_adapters_share_imports_no_framework(name: str) -> None:
    loaded = fresh(LOADED, name)
    assert {module for module, _ in EXTRAS.values()} & set(loaded) == set()
