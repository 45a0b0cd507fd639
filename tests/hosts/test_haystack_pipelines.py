"""Whole pipelines: indexed, saved, loaded and run, synchronous and asynchronous, traced, failing, closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline, tracing
from haystack.components.builders import PromptBuilder
from haystack.core.errors import DeserializationError, PipelineRuntimeError
from haystack.document_stores.types import DuplicatePolicy
from hosts_contract import LONG, QUESTION, TEXTS, WEAVIATE

from chandelier import ColBERT, LocalStore, MeanVector, Store, StoreError
from chandelier.haystack import ColBERTDocumentWriter, ColBERTRanker, ColBERTRetriever
from chandelier.qdrant_edge import Bm25, QdrantEdgeStore
from chandelier.shared import SHARED as MODELS
from chandelier.shared import release_models
from chandelier.store.handles import SHARED

DOCUMENTS = [Document(id=f"id-{index}", content=text, meta={"page": index}) for index, text in enumerate(TEXTS[:6])]


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    release_models()
    yield
    gc.collect()
    assert SHARED.lent == {}


@pytest.fixture(params=["local", "edge", *WEAVIATE])
def store(request: pytest.FixtureRequest, tiny: ColBERT, tmp_path: Path) -> Iterator[Store]:
    if request.param == "local":
        with LocalStore(tiny, tmp_path / "notes.db", datatype="float16") as local:
            yield local
    elif request.param in WEAVIATE:
        with request.getfixturevalue("open_weaviate")(tiny, request.param) as weaviate:
            yield weaviate
    else:
        options: dict[str, Any] = {"prefetch": MeanVector(tiny.dim), "sparse": Bm25()}
        with QdrantEdgeStore(tmp_path / "shard", tiny, **options) as edge:
            yield edge


def whole(store: Any, model: Any) -> Pipeline:
    """Written, then found and ranked, in one pipeline: the writer's count is the template's."""
    pipeline = Pipeline()
    pipeline.add_component("writer", ColBERTDocumentWriter(store, DuplicatePolicy.SKIP))
    pipeline.add_component("question", PromptBuilder("{{ question }}{{ '' if count }}", required_variables="*"))
    pipeline.add_component("retriever", ColBERTRetriever(store, top_k=5))
    pipeline.add_component("ranker", ColBERTRanker(model, top_k=2))
    pipeline.connect("writer.documents_written", "question.count")
    pipeline.connect("question.prompt", "retriever.query")
    pipeline.connect("retriever.documents", "ranker.documents")
    return pipeline


def inputs(question: str = QUESTION) -> dict[str, Any]:
    return {
        "writer": {"documents": DOCUMENTS},
        "question": {"question": question},
        "ranker": {"query": question},
        "retriever": {"filters": {"field": "meta.page", "operator": ">=", "value": 1}},
    }


def test_a_pipeline_is_saved_loaded_and_run(store: Store, tiny: ColBERT) -> None:
    pipeline = whole(store, tiny)
    result = pipeline.run(inputs())
    assert {document.id for document in result["ranker"]["documents"]} <= {f"id-{page}" for page in range(1, 6)}
    text = pipeline.dumps()
    store.close()

    loaded = Pipeline.loads(text)
    assert loaded.to_dict()["components"] == pipeline.to_dict()["components"]
    assert not MODELS.models
    assert SHARED.lent == {}
    assert loaded.run(inputs()) == result
    assert len(MODELS.models) == 1
    assert len(SHARED.lent) == 1  # the writer and the retriever share it
    loaded.close()
    assert SHARED.lent == {}
    assert loaded.run(inputs()) == result
    loaded.close()


async def test_the_same_in_an_event_loop(store: Store, tiny: ColBERT) -> None:
    pipeline = whole(store, tiny)
    result = await pipeline.run_async(inputs())
    text = pipeline.dumps()
    store.close()
    loaded = Pipeline.loads(text)
    results = await asyncio.gather(*(loaded.run_async(inputs()) for _ in range(4)))
    assert all(each == result for each in results)
    await loaded.close_async()


def test_two_pipelines_over_one_folder_that_only_one_may_open(tiny: ColBERT, tmp_path: Path) -> None:
    with QdrantEdgeStore(tmp_path / "shard", tiny) as store:
        indexing, asking = Pipeline(), Pipeline()
        indexing.add_component("writer", ColBERTDocumentWriter(store))
        asking.add_component("retriever", ColBERTRetriever(store))
        texts = indexing.dumps(), asking.dumps()
    indexing, asking = map(Pipeline.loads, texts)
    assert indexing.run({"documents": DOCUMENTS}) == {"writer": {"documents_written": len(DOCUMENTS)}}
    assert len(asking.run({"query": QUESTION})["retriever"]["documents"]) == len(DOCUMENTS)
    indexing.close()
    assert asking.run({"query": QUESTION, "top_k": 1})["retriever"]["documents"]
    asking.close()


def test_what_cannot_be_saved_is_named(tiny: ColBERT) -> None:
    with LocalStore(tiny) as store:
        pipeline = whole(store, tiny)
        pipeline.run(inputs())
        with pytest.raises(StoreError, match="in memory"):
            pipeline.dumps()


LOAD = """
import json, pathlib, sys
from haystack import Pipeline
if sys.argv[2] == "import":
    import chandelier.haystack
text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
allowed = {"allowed_modules": ["chandelier.haystack"]} if sys.argv[2] == "allow" else {}
pipeline = Pipeline.loads(text, **allowed)
data = {"writer": {"documents": []}, "question": {"question": "the moon"}, "ranker": {"query": "the moon"}}
print(json.dumps([document.id for document in pipeline.run(data)["ranker"]["documents"]]))
pipeline.close()
"""


@pytest.mark.parametrize("way", ["import", "allow", "neither"])
def test_another_process_loads_it_if_it_trusts_the_module(tiny: ColBERT, tmp_path: Path, way: str) -> None:
    with LocalStore(tiny, tmp_path / "notes.db") as store:
        pipeline = whole(store, tiny)
        pipeline.run(inputs())
        (tmp_path / "pipeline.yaml").write_text(pipeline.dumps(), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-c", LOAD, str(tmp_path / "pipeline.yaml"), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if way == "neither":
        assert done.returncode
        assert "trusted-module allowlist" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout.splitlines()[-1])) == 2


@pytest.mark.parametrize("kind", ["chandelier.store.local.LocalStore", "subprocess.Popen", "LocalStor"])
def test_a_file_cannot_open_anything_else(tiny: ColBERT, tmp_path: Path, kind: str) -> None:
    with LocalStore(tiny, tmp_path / "notes.db") as store:
        pipeline = Pipeline()
        pipeline.add_component("retriever", ColBERTRetriever(store))
        text = pipeline.dumps().replace("type: LocalStore", f"type: {kind}")
    assert kind in text
    with pytest.raises(DeserializationError):
        Pipeline.loads(text)


class Span(tracing.Span):
    def __init__(self, name: str, parent: tracing.Span | None) -> None:
        self.name = name
        self.parent = parent
        self.tags: dict[str, Any] = {}
        self.begun, self.seconds = time.perf_counter(), 0.0

    def set_tag(self, key: str, value: Any) -> None:
        self.tags[key] = value


class Recorder(tracing.Tracer):
    """Keeps the spans that Haystack opens."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    @contextlib.contextmanager
    def trace(
        self, operation_name: str, tags: dict[str, Any] | None = None, parent_span: tracing.Span | None = None
    ) -> Iterator[Span]:
        span = Span(operation_name, parent_span)
        span.tags.update(tags or {})
        self.spans.append(span)
        yield span
        span.seconds = time.perf_counter() - span.begun

    def current_span(self) -> tracing.Span | None:
        return None


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    monkeypatch.setattr(tracing.tracer, "is_content_tracing_enabled", True)
    tracing.enable_tracing(recorder)
    yield recorder
    tracing.disable_tracing()


@pytest.mark.parametrize("way", ["run", "run_async"])
def test_retrieval_and_ranking_are_spans_of_their_own(tiny: ColBERT, recorder: Recorder, way: str) -> None:
    with LocalStore(tiny) as store:
        pipeline = whole(store, tiny)
        if way == "run_async":
            asyncio.run(pipeline.run_async(inputs()))
        else:
            pipeline.run(inputs())
    spans = {span.tags.get("haystack.component.name", span.name): span for span in recorder.spans}
    root = next(span for span in recorder.spans if span.name.endswith("pipeline.run") or "async" in span.name)
    for name, kind in (
        ("writer", "ColBERTDocumentWriter"),
        ("retriever", "ColBERTRetriever"),
        ("ranker", "ColBERTRanker"),
    ):
        span = spans[name]
        assert span.name == "haystack.component.run"
        assert span.tags["haystack.component.type"] == kind
        assert span.parent is root
        assert span.seconds > 0
    found = spans["retriever"].tags["haystack.component.output"]["documents"]
    assert spans["retriever"].tags["haystack.component.input"]["query"] == QUESTION
    assert spans["ranker"].tags["haystack.component.input"]["documents"] == found
    assert len(spans["ranker"].tags["haystack.component.output"]["documents"]) == 2


def test_what_goes_wrong_is_the_cause_of_the_hosts_error(tiny: ColBERT) -> None:
    with LocalStore(tiny) as store:
        pipeline = whole(store, tiny)
        with pytest.raises(PipelineRuntimeError, match=r"(?s)retriever.*query: got an empty text") as caught:
            pipeline.run(inputs(" "))
        assert isinstance(caught.value.__cause__, ValueError)
        assert pipeline.run(inputs())["ranker"]["documents"]  # it serves on


async def test_a_pipeline_that_is_cancelled_serves_on(minilm: ColBERT) -> None:
    pipeline = Pipeline()
    pipeline.add_component("ranker", ColBERTRanker(minilm, cache_bytes=0))
    many = [Document(content=f"{number}: {LONG[:600]}") for number in range(200)]
    task = asyncio.create_task(pipeline.run_async({"query": QUESTION, "documents": many}))
    await asyncio.sleep(0.2)
    begun = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - begun < 1.0  # the whole takes several seconds
    result = await pipeline.run_async({"query": QUESTION, "documents": DOCUMENTS})
    assert len(result["ranker"]["documents"]) == len(DOCUMENTS)
