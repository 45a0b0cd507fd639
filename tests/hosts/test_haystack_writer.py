"""`ColBERTDocumentWriter`: what is written, which policies hold, and that nothing is lost without a word."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from hosts_contract import LONG, WEAVIATE, items
from qdrant_client import AsyncQdrantClient

from chandelier import ArgumentError, ColBERT, LocalStore, PartialUpsertError, Store, StoreError
from chandelier.haystack import ColBERTDocumentWriter, ColBERTRetriever
from chandelier.qdrant import QdrantStore
from chandelier.qdrant_edge import QdrantEdgeStore
from chandelier.shared import SHARED, release_models


@pytest.fixture
def store(tiny: ColBERT) -> Iterator[Store]:
    with LocalStore(tiny) as store:
        yield store


@pytest.fixture(params=["run", "run_async"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(writer: ColBERTDocumentWriter, way: str, *arguments: Any) -> int:
    result = asyncio.run(writer.run_async(*arguments)) if way == "run_async" else writer.run(*arguments)
    (count,) = result.values()
    assert set(result) == {"documents_written"}
    return int(count)


@pytest.fixture
def documents() -> list[Document]:
    return [Document(id=item.id, content=item.text, meta=item.metadata) for item in items()]


def texts(store: Store) -> dict[str, str]:
    return {document.id: document.text for document in store.iterate()}


def test_what_was_written_comes_back(store: Store, way: str, documents: list[Document]) -> None:
    before = copy.deepcopy(documents)
    assert write(ColBERTDocumentWriter(store), way, documents) == len(documents)
    assert documents == before
    found = ColBERTRetriever(store, top_k=100).run("the moon")["documents"]
    assert {each.id: (each.content, each.meta) for each in found} == {
        each.id: (each.content, each.meta) for each in documents
    }


@pytest.fixture(params=["edge", *WEAVIATE])
def other(request: pytest.FixtureRequest, tiny: ColBERT, tmp_path: Path) -> Iterator[Store]:
    """Another store, of which only the protocol is known."""
    if request.param in WEAVIATE:
        made: Store = request.getfixturevalue("open_weaviate")(tiny, request.param)
    else:
        made = QdrantEdgeStore(tmp_path / "shard", tiny)
    with made as store:
        yield store


def test_another_store(other: Store, way: str) -> None:
    test_what_was_written_comes_back(other, way, [Document(content=item.text, meta=item.metadata) for item in items()])
    other.delete_all()
    test_what_is_there_is_skipped(other, way)
    other.delete_all()
    test_what_is_there_fails_all_of_them(other, way, ("2", "1"))


def test_no_documents(store: Store, way: str) -> None:
    for policy in DuplicatePolicy:
        assert write(ColBERTDocumentWriter(store, policy), way, []) == 0


@pytest.mark.parametrize("per_run", [False, True])
@pytest.mark.parametrize("policy", [DuplicatePolicy.NONE, DuplicatePolicy.OVERWRITE])
def test_what_is_there_is_replaced(store: Store, way: str, policy: DuplicatePolicy, per_run: bool) -> None:
    writer = ColBERTDocumentWriter(store, DuplicatePolicy.FAIL if per_run else policy)
    options = [policy] if per_run else []
    assert write(writer, way, [Document(id="1", content="old"), Document(id="2", content="two")], *options) == 2
    assert write(writer, way, [Document(id="1", content="new"), Document(id="1", content="newer")], *options) == 2
    assert texts(store) == {"1": "newer", "2": "two"}


def test_what_is_there_is_skipped(store: Store, way: str) -> None:
    writer = ColBERTDocumentWriter(store, DuplicatePolicy.SKIP)
    assert write(writer, way, [Document(id="1", content="old")]) == 1
    given = [Document(id="1", content="new"), Document(id="2", content="two"), Document(id="2", content="again")]
    assert write(writer, way, given) == 1
    assert write(writer, way, given) == 0
    assert texts(store) == {"1": "old", "2": "two"}


@pytest.mark.parametrize("ids", [("2", "1"), ("2", "2")])
def test_what_is_there_fails_all_of_them(store: Store, way: str, ids: tuple[str, str]) -> None:
    writer = ColBERTDocumentWriter(store, DuplicatePolicy.FAIL)
    assert write(writer, way, [Document(id="1", content="old")]) == 1
    with pytest.raises(DuplicateDocumentError, match=f"'{ids[1]}'.*nothing was written"):
        write(writer, way, [Document(id=id, content="new") for id in ids])
    assert texts(store) == {"1": "old"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Document(id="no text"), "'no text' has no content"),
        (Document(id="picture", blob=ByteStream(b"x")), "'picture' has no content"),
        (Document(id="both", content="x", blob=ByteStream(b"x")), "'both' has a blob"),
        ("not a document for sure", "list of haystack's Document"),
    ],
    ids=str,
)
def test_what_cannot_be_written_whole_is_refused_by_name(store: Store, way: str, bad: Any, message: str) -> None:
    writer = ColBERTDocumentWriter(store)
    with pytest.raises(ArgumentError, match=message):
        write(writer, way, [Document(content="fine"), bad])
    for no_list in ("not a list actually", None, Document(content="x")):
        with pytest.raises(ArgumentError, match="list of haystack's Document"):
            write(writer, way, no_list)
    assert store.count() == 0


def test_what_the_store_refuses_is_named_and_the_rest_is_there(store: Store, way: str) -> None:
    given = [Document(content="fine"), Document(id="set", content="x", meta={"a": {1, 2}}), Document(content="good")]
    with pytest.raises(PartialUpsertError, match=r"metadata\['a'\]: got set") as caught:
        write(ColBERTDocumentWriter(store), way, given)
    assert caught.value.report is not None
    assert list(caught.value.report.failed) == ["set"]
    assert sorted(texts(store).values()) == ["fine", "good"]


@pytest.mark.filterwarnings("ignore:Mutating attribute 'id':Warning")  # of a class of the host that is subclassed
def test_rows_of_a_document_are_taken_as_they_are(store: Store, way: str) -> None:
    @dataclass
    class ComingDocument(Document):
        """What Haystack's own is announced to be."""

        multivector_embedding: list[list[float]] | None = None

    rows = store.model.encode_documents(["Paris is in France."])[0].tolist()
    given: list[Any] = [
        ComingDocument(id="text", content="Bread needs flour."),
        ComingDocument(id="rows", content="of no matter", multivector_embedding=rows),
    ]
    write(ColBERTDocumentWriter(store), way, given)
    (stored,) = store.get(["rows"], with_vectors=True)
    assert np.allclose(np.asarray(stored.vectors, np.float32), rows, atol=1e-3)
    assert store.search("where is paris?", 1)[0].id == "rows"


def test_what_is_cut_off_is_said(store: Store, way: str, caplog: pytest.LogCaptureFixture) -> None:
    given = [Document(id="long", content=LONG), Document(id="short", content="x")]
    with caplog.at_level(logging.WARNING, "chandelier"):
        assert write(ColBERTDocumentWriter(store), way, given) == 2
    (message,) = [record.getMessage() for record in caplog.records if "longer" in record.getMessage()]
    assert message.startswith("1 of 2 documents")
    assert "'long'" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": None}, "store"),
        ({"store": {}}, "store"),
        ({"policy": "skip"}, "policy"),
        ({"policy": 1}, "policy"),
    ],
    ids=str,
)
def test_a_bad_option_is_named(tiny: ColBERT, options: dict[str, Any], message: str) -> None:
    with LocalStore(tiny) as store, pytest.raises(ArgumentError, match=message):
        ColBERTDocumentWriter(**{"store": store, **options})


async def test_a_bad_policy_of_a_run_is_named(store: Store) -> None:
    with pytest.raises(ArgumentError, match="policy: got 'skip'"):
        ColBERTDocumentWriter(store).run([], "skip")  # type: ignore[arg-type]


def test_an_asynchronous_client(tiny: ColBERT, documents: list[Document]) -> None:
    async def main() -> None:
        client = AsyncQdrantClient(":memory:")
        writer = ColBERTDocumentWriter(QdrantStore(client, "notes", tiny), DuplicatePolicy.SKIP)
        assert await writer.run_async(documents) == {"documents_written": len(documents)}
        assert await writer.run_async(documents) == {"documents_written": 0}
        with pytest.raises(StoreError, match="AsyncQdrantClient"):
            writer.run(documents)
        await client.close()

    asyncio.run(main())


def test_a_dictionary_opens_nothing(tmp_path: Path) -> None:
    release_models()
    description = {
        "type": "QdrantEdgeStore",
        "model": {"model_name_or_path": str(tmp_path / "not-there")},
        "path": str(tmp_path / "shard"),
        "prefetch": {"type": "MeanVector", "dim": 32},
    }
    given = ColBERTDocumentWriter(description, DuplicatePolicy.SKIP).to_dict()
    assert given == {
        "type": "chandelier.haystack.writer.ColBERTDocumentWriter",
        "init_parameters": {"store": description, "policy": "SKIP"},
    }
    before = json.dumps(given)
    again = ColBERTDocumentWriter.from_dict(given)
    assert json.dumps(given) == before
    assert again.to_dict() == given
    assert not SHARED.models
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="not-there"):
        again.run([])
    del given["init_parameters"]["policy"]
    assert ColBERTDocumentWriter.from_dict(given).to_dict()["init_parameters"]["policy"] == "NONE"
    for odd in ("REPLACE", ["SKIP"], {}, 1):
        given["init_parameters"]["policy"] = odd
        with pytest.raises(ArgumentError, match="policy: got "):
            ColBERTDocumentWriter.from_dict(given)
