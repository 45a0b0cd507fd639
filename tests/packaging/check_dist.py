"""Builds the sdist, builds the wheel from it, and tries that wheel in an empty environment of every Python at hand.

Run by `make dist-test`. Interpreters: those named in the variable PYTHONS, else every `python3.N` on the PATH that runs
and every version that pyenv has, oldest and newest are tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "tests" / "goldens" / "a_bert_pylate" / "checkpoint"
OLDEST_SUPPORTED = (3, 10)

TRIAL = """
import pathlib, sys
import chandelier
assert "site-packages" in chandelier.__file__, chandelier.__file__
model = chandelier.ColBERT(sys.argv[1])
rows = model.encode_documents(["Paris is the capital of France."])[0]
assert rows.shape == (11, 32), rows.shape
best = model.rerank("what is the capital of france?", ["Bread needs flour.", "Paris is the capital of France."])[0]
assert best.index == 1
page = model.explain("what is the capital of france?", best.text).to_html()
assert ".chandelier-explanation" in page, "the style sheet is not in the wheel"
with chandelier.LocalStore(model, "store.db") as store:
    store.upsert([chandelier.Document("a", "Paris is the capital of France."), chandelier.Document("b", "Bread.")])
    assert [hit.id for hit in store.search("what is the capital of france?", 1)] == ["a"]
pathlib.Path("store.db").unlink()
for name, package in (
    ("langchain", "langchain-core"),
    ("llama_index", "llama-index-core"),
    ("haystack", "haystack-ai"),
    ("qdrant", "qdrant-client"),
    ("qdrant_edge", "qdrant-edge-py"),
    ("weaviate", "weaviate-client"),
):
    try:
        __import__(f"chandelier.{name}")
    except ModuleNotFoundError as error:
        assert package in str(error), error
    else:
        raise AssertionError(f"chandelier.{name} without its extra")
print(sys.version.split()[0], "numpy", __import__("numpy").__version__, "encodes", rows.shape)
"""

TRIAL_OF_EDGE = """
import sys
import chandelier
from chandelier.qdrant_edge import QdrantEdgeStore
with QdrantEdgeStore("edge", chandelier.ColBERT(sys.argv[1])) as store:
    store.upsert([chandelier.Document("a", "Paris is the capital of France.")])
    assert [hit.id for hit in store.search("what is the capital of france?")] == ["a"]
assert "qdrant_client" not in sys.modules
print("the extra qdrant-edge alone stores and finds")
"""

TRIAL_OF_LANGCHAIN = """
import sys
from langchain_core.documents import Document
from chandelier.langchain import ColBERTRerank, ColBERTVectorStore
texts = ["Bread needs flour.", "Paris is the capital of France."]
question = "what is the capital of france?"
best = ColBERTRerank(model=sys.argv[1], top_n=1).compress_documents([Document(text) for text in texts], question)
store = ColBERTVectorStore.from_texts(texts, sys.argv[1])
assert best[0].page_content == store.as_retriever(search_kwargs={"k": 1}).invoke(question)[0].page_content == texts[1]
assert not {"torch", "langchain", "langchain_classic", "qdrant_client"} & set(sys.modules)
print("the extra langchain alone reranks and retrieves")
"""


def run(*command: str | Path, **options: object) -> str:
    """Run a command and give its output; a failure shows it and ends the check."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def version_of(python: str) -> tuple[int, int] | None:
    """The version of an interpreter, or None if it does not run (a shim without a version behind it)."""
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None  # type: ignore[return-value]


def interpreters() -> list[str]:
    """The oldest and the newest supported interpreter at hand."""
    candidates = os.environ.get("PYTHONS", "").split()
    if not candidates:
        candidates = [sys.executable, *filter(None, (shutil.which(f"python3.{minor}") for minor in range(10, 20)))]
        if pyenv := shutil.which("pyenv"):
            root = Path(run(pyenv, "root").strip()) / "versions"
            candidates += [str(path) for path in root.glob("*/bin/python3")]
    found: dict[tuple[int, int], str] = {}
    for candidate in candidates:
        version = version_of(candidate)
        if version is not None and version >= OLDEST_SUPPORTED:
            found.setdefault(version, candidate)
    return [found[version] for version in sorted({min(found), max(found)})]


def main() -> None:
    """Build, install and try."""
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(tools / "maturin", "sdist", "--out", folder, cwd=ROOT)
        (sdist,) = folder.glob("*.tar.gz")
        # The dependencies that were compiled for the checkout serve the sdist as well.
        environment = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target")}
        run(
            sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, sdist, cwd=folder, env=environment
        )
        (wheel,) = folder.glob("*.whl")
        print(f"{sdist.name} {sdist.stat().st_size / 1e6:.1f} MB -> {wheel.name} {wheel.stat().st_size / 1e6:.1f} MB")
        for number, python in enumerate(interpreters()):
            venv = folder / f"venv{number}"
            run(python, "-m", "venv", venv)
            run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
            print(run(venv / "bin" / "python", "-c", TRIAL, CHECKPOINT, cwd=folder).strip())
        run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", f"{wheel}[qdrant-edge]")
        print(run(venv / "bin" / "python", "-c", TRIAL_OF_EDGE, CHECKPOINT, cwd=folder).strip())
        run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", f"{wheel}[langchain]")
        print(run(venv / "bin" / "python", "-c", TRIAL_OF_LANGCHAIN, CHECKPOINT, cwd=folder).strip())


if __name__ == "__main__":
    main()
