"""LlamaIndex: `ColBERTRetriever`, under the contract of all hosts and what LlamaIndex wants beyond it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime
import logging
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts_contract import (
    LONG,
    QUESTION,
    TEXTS,
    WEAVIATE,
    AsyncRetrievalContract,
    Result,
    RetrievalContract,
    exact_scores,
)
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import (
    BaseNode,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.schema import Document as LlamaDocument
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import metadata_dict_to_node
from qdrant_client import QdrantClient
from test_llama_index_rerank import read

from chandelier import ColBERT, Document, LocalStore, Store
from chandelier.exceptions import ArgumentError, PartialUpsertError, ShapeError, StoreError
from chandelier.llama_index import ColBERTRetriever
from chandelier.qdrant import QdrantStore
from chandelier.qdrant_edge import QdrantEdgeStore
from chandelier.shared import SHARED, release_models

DISTINCT = TEXTS[:6]  # LlamaIndex before 0.14 took nodes with equal texts for one

NAMES = {"k": "similarity_top_k", "filter": "filters"}


class TestRetrieval(RetrievalContract):
    def component(self, store: Any, **options: Any) -> ColBERTRetriever:
        return ColBERTRetriever(store=store, **{NAMES.get(name, name): value for name, value in options.items()})

    def read(self, documents: list[NodeWithScore]) -> list[Result]:
        return read(documents)

    def filter(self, dialect: dict[str, Any]) -> MetadataFilters:
        symbols = {"$gte": ">="}
        return MetadataFilters(
            filters=[
                MetadataFilter(key=key, operator=symbols[operator], value=value)  # type: ignore[arg-type]
                for key, condition in dialect.items()
                for operator, value in condition.items()
            ]
        )

    def asked(self, component: ColBERTRetriever, per_call: dict[str, Any]) -> ColBERTRetriever:
        """A retriever of LlamaIndex takes nothing but the query; what is to differ is set."""
        component = copy.copy(component)
        for name, value in per_call.items():
            setattr(component, NAMES[name], value)
        return component

    def search(self, component: ColBERTRetriever, query: str, **per_call: Any) -> list[Any]:
        return self.asked(component, per_call).retrieve(query)


class TestRetrievalInALoop(AsyncRetrievalContract, TestRetrieval):
    search = AsyncRetrievalContract.search

    async def asearch(self, component: ColBERTRetriever, query: str, **per_call: Any) -> list[Any]:
        return await self.asked(component, per_call).aretrieve(query)


class OverWeaviate:
    """Another store, of which only the protocol is known."""

    @pytest.fixture
    def store(self, filled_weaviate: Store) -> Store:
        return filled_weaviate


class TestRetrievalOverWeaviate(OverWeaviate, TestRetrieval):
    pass


class TestRetrievalOverWeaviateInALoop(OverWeaviate, TestRetrievalInALoop):
    pass


Call = Callable[..., list[NodeWithScore]]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """`retrieve`, or `aretrieve` to its end."""
    if request.param == "sync":
        return lambda retriever, query: retriever.retrieve(query)
    return lambda retriever, query: asyncio.run(retriever.aretrieve(query))


@pytest.fixture(params=["local", "qdrant", "edge", *WEAVIATE])
def store(request: pytest.FixtureRequest, tiny: ColBERT, tmp_path: Path) -> Iterator[Store]:
    """Every store that there is."""
    if request.param == "local":
        one: Store = LocalStore(tiny)
    elif request.param == "qdrant":
        one = QdrantStore(QdrantClient(":memory:"), "nodes", tiny, datatype="float32")
    elif request.param in WEAVIATE:
        one = request.getfixturevalue("open_weaviate")(tiny, request.param)
    else:
        one = QdrantEdgeStore(tmp_path / "edge", tiny, datatype="float32")
    with one:
        yield one


def family() -> list[BaseNode]:
    """One node of each class, with all that a node can hold."""
    source = LlamaDocument(text="The whole book.", id_="book", metadata={"title": "Tides"})
    rich = TextNode(
        id_="rich",
        text="  The moon moves the sea.\n",
        metadata={"page": 3, "tags": ["a", "ü"], "deep": {"x": [1.5, None, True]}, "none": None},
        excluded_embed_metadata_keys=["page"],
        excluded_llm_metadata_keys=["tags"],
        relationships={
            NodeRelationship.SOURCE: source.as_related_node_info(),
            NodeRelationship.NEXT: RelatedNodeInfo(node_id="plain"),
            NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c-1"), RelatedNodeInfo(node_id="c-2")],
        },
        metadata_template="{key}={value}",
        metadata_seperator=" | ",  # so spelt where the field has an alias, and where there are two
        text_template="<{metadata_str}> {content}",
        start_char_idx=7,
        end_char_idx=99,
    )
    return [
        rich,
        TextNode(id_="plain", text="Bread needs flour."),
        TextNode(id_="empty", text=""),
        IndexNode(id_="index", text="Paris is in France.", index_id="france"),
        IndexNode(id_="leads-on", text="All about bread.", index_id="bread", obj=TextNode(id_="inner", text="Flour!")),
        ImageNode(id_="image", text="a map", image_url="http://localhost/a.png", metadata={"page": 9}),
        Node(id_="node", text_resource=MediaResource(text="Salt.", mimetype="text/x-salt")),
        Node(
            id_="bytes",
            text_resource=MediaResource(text="A film of the tide.", data=b"The tide."),
            image_resource=MediaResource(data=bytes(range(256)), mimetype="image/png"),
            audio_resource=MediaResource(data=b"\xff\xfbsound", path="a.mp3"),
            video_resource=MediaResource(data=b"\0video", url="http://localhost/a.mp4"),
        ),
        ImageDocument(id_="picture", text="a map of the sea", image="aGVsbG8="),
        LlamaDocument(id_="document", text="The sea is deep.", metadata={"page": 1}),
    ]


class TestNodes:
    @pytest.mark.parametrize("way", ["add", "aadd"])
    def test_every_node_comes_back_whole(self, store: Store, call: Call, way: str) -> None:
        nodes = family()
        before = copy.deepcopy(nodes)
        retriever = ColBERTRetriever(store, similarity_top_k=20)
        report = retriever.add_nodes(nodes) if way == "add" else asyncio.run(retriever.aadd_nodes(nodes))
        assert sorted(report.stored) == sorted(node.node_id for node in nodes)
        assert nodes == before
        found = {each.node_id: each.node for each in call(retriever, "the moon and the sea")}
        leading = found.pop("inner", None)
        assert leading == nodes[4].obj  # type: ignore[attr-defined]
        for node in nodes:
            if node.node_id != "leads-on":
                assert type(found[node.node_id]) is type(node)
                assert found[node.node_id] == node

    def test_what_is_encoded_is_the_text_with_its_embedded_metadata(self, store: Store, tiny: ColBERT) -> None:
        node = TextNode(text="The moon.", metadata={"title": "Tides", "id": 7}, excluded_embed_metadata_keys=["id"])
        texts = {
            MetadataMode.EMBED: "title: Tides\n\nThe moon.",
            MetadataMode.NONE: "The moon.",
            MetadataMode.ALL: "title: Tides\nid: 7\n\nThe moon.",
        }
        for mode, text in texts.items():
            retriever = ColBERTRetriever(store, metadata_mode=mode)
            retriever.add_nodes([node])  # the same id replaces
            (found,) = retriever.retrieve(QUESTION)
            assert found.score == pytest.approx(exact_scores(tiny, QUESTION, [text])[0], abs=2e-5)
            assert found.node == node

    def test_an_explanation_points_into_the_own_text(self, store: Store) -> None:
        retriever = ColBERTRetriever(store, explain=True)
        text = "  The moon moves the sea."
        retriever.add_nodes([TextNode(text=text, metadata={"title": "the moon"})])
        (found,) = retriever.retrieve("the moon and the sea")
        assert found.metadata["explanation"]["spans"]
        for span in found.metadata["explanation"]["spans"]:
            assert text[span["start"] : span["end"]] == span["text"] != ""
        assert found.get_content(MetadataMode.LLM) == f"title: the moon\n\n{text}".strip()

    @pytest.mark.parametrize("explain", [False, True])
    def test_the_users_own_metadata_comes_back_whatever_it_is_called(self, store: Store, explain: bool) -> None:
        """A retriever writes no note but `explanation`, and so has none to take away."""
        metadata = {"truncated": True, "explanation": {"seen": [0, 1], "spans": []}}
        hidden = list(metadata)
        node = TextNode(
            text="The moon.",
            metadata=metadata,
            excluded_llm_metadata_keys=hidden,
            excluded_embed_metadata_keys=hidden,
        )
        retriever = ColBERTRetriever(store, explain=explain)
        retriever.add_nodes([node])
        (found,) = retriever.retrieve("the moon")
        assert found.metadata["truncated"] is True
        assert (found.node == node) is not explain

    def test_llama_index_reads_what_was_stored(self, store: Store) -> None:
        nodes = family()[:4]
        ColBERTRetriever(store).add_nodes(nodes)
        for node, document in zip(nodes, store.get([node.node_id for node in nodes]), strict=True):
            assert metadata_dict_to_node(dict(document.metadata)) == node

    def test_what_others_stored_is_a_text_node(self, store: Store) -> None:
        store.upsert([Document("a", "The moon.", {"page": 3, "deep": {"x": [1]}})])
        (found,) = ColBERTRetriever(store).retrieve("the moon")
        assert found.node == TextNode(id_="a", text="The moon.", metadata={"page": 3, "deep": {"x": [1]}})

    def test_what_only_looks_like_a_node_is_named(self, store: Store) -> None:
        for content in ("{", "[]", 7):
            store.upsert([Document("odd", "The moon.", {"_node_content": content})])
            with pytest.raises(StoreError, match="'odd': its _node_content is no node"):
                ColBERTRetriever(store).retrieve("the moon")

    def test_the_users_own_keys_can_be_filtered_by(self, store: Store) -> None:
        """LlamaIndex's own stores overwrite them."""
        node = TextNode(id_="a", text="The moon.", metadata={"doc_id": "mine", "document_id": "mine too"})
        retriever = ColBERTRetriever(store)
        retriever.add_nodes([node, TextNode(text="The sea.")])
        for key, value in node.metadata.items():
            retriever.filters = {key: value}
            assert [each.node for each in retriever.retrieve("the sea")] == [node]

    @pytest.mark.parametrize("way", ["sync", "async"])
    def test_deletion(self, store: Store, way: str) -> None:
        def done(name: str, argument: Any) -> Any:
            return (
                getattr(retriever, name)(argument)
                if way == "sync"
                else asyncio.run(getattr(retriever, f"a{name}")(argument))
            )

        retriever = ColBERTRetriever(store)
        parts = [TextNode(id_=f"book-{page}", text=f"page {page}") for page in range(3)]
        for part in parts:
            part.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="book")
        retriever.add_nodes([*parts, *family()[1:4]])
        assert done("delete_nodes", ["plain", "not-there"]) == 1
        assert done("delete_ref_doc", "book") == 3
        assert done("delete_ref_doc", "None") == 0, "what has no source is not taken for its"
        assert sorted(each.node_id for each in retriever.retrieve("bread")) == ["empty", "index"]

    @pytest.mark.parametrize(
        ("node", "message"),
        [
            (ImageNode(id_="odd", image_url="http://localhost/a.png"), "'odd', which has no text"),
            (TextNode(id_="odd", text="a", metadata={"at": datetime.datetime(2020, 1, 1)}), r"'odd'.*timestamp"),
            (
                TextNode(id_="odd", text="a", metadata={"x": {1, 2}}),
                r"'odd' cannot be stored: metadata\['x'\]: got set",
            ),
            (TextNode(id_="odd", text="a", metadata={"x": float("nan")}), "'odd' cannot be stored: metadata.*nan"),
            (TextNode(id_="odd", text="\ud800"), "'odd' cannot be stored: .*surrogate"),
            ("a text", "got str, wanted a node"),
            (NodeWithScore(node=TextNode(text="a")), "got NodeWithScore, wanted a node"),
        ],
        ids=["image", "date", "set", "nan", "surrogate", "str", "NodeWithScore"],
    )
    @pytest.mark.parametrize("way", ["add", "aadd"])
    def test_a_node_that_cannot_be_stored_is_named_before_anything_is(
        self, tiny: ColBERT, node: Any, message: str, way: str
    ) -> None:
        with LocalStore(tiny) as store:
            retriever = ColBERTRetriever(store)
            nodes = [TextNode(text="b"), node]
            with pytest.raises(ArgumentError, match=rf"nodes\[1\].*{message}"):
                retriever.add_nodes(nodes) if way == "add" else asyncio.run(retriever.aadd_nodes(nodes))
            assert store.count() == 0

    @pytest.mark.parametrize(
        "nodes", ["text", pytest.param(TextNode(text="a"), id="node"), {"a": 1}, None, 3], ids=repr
    )
    def test_what_is_no_list_of_nodes_is_refused(self, tiny: ColBERT, nodes: Any) -> None:
        with LocalStore(tiny) as store, pytest.raises(ArgumentError, match=r"nodes: got \w+, wanted a list of nodes"):
            ColBERTRetriever(store).add_nodes(nodes)

    def test_what_the_store_refuses_is_reported(self, tiny: ColBERT) -> None:
        class Picky(LocalStore):
            """Takes rows, whatever they are, so that one of them is refused."""

            def upsert(self, documents: Any, **options: Any) -> Any:
                given = [
                    Document(each.id, each.text, each.metadata, [[1.0]] if each.id == "odd" else None)
                    for each in documents
                ]
                return super().upsert(given, **options)

        with Picky(tiny) as store:
            retriever = ColBERTRetriever(store)
            with pytest.raises(PartialUpsertError, match="refused 1") as caught:
                retriever.add_nodes([TextNode(id_="odd", text="a"), TextNode(id_="fine", text="b")])
            assert caught.value.report is not None
            assert (caught.value.report.stored, list(caught.value.report.failed)) == (["fine"], ["odd"])

    def test_a_node_longer_than_the_model_reads_is_told(self, tiny: ColBERT, caplog: pytest.LogCaptureFixture) -> None:
        with LocalStore(tiny) as store, caplog.at_level(logging.WARNING, logger="chandelier"):
            retriever = ColBERTRetriever(store)
            assert retriever.add_nodes([TextNode(text="short")]).truncated == []
            assert not caplog.records
            report = retriever.add_nodes([TextNode(id_="long", text=LONG), TextNode(text="short")])
        assert report.truncated == ["long"]
        assert "1 of 2 nodes are longer than the 180 tokens" in caplog.text
        assert "'long'" in caplog.text

    async def test_the_loop_goes_on_while_nodes_are_added(self, minilm: ColBERT) -> None:
        with LocalStore(minilm) as store:
            retriever = ColBERTRetriever(store)
            nodes = [TextNode(text=f"{index}: {LONG[:300]}") for index in range(60)]
            await retriever.aadd_nodes(nodes[:1])
            gaps, done = [], asyncio.Event()

            async def tick() -> None:
                last = time.perf_counter()
                while not done.is_set():
                    await asyncio.sleep(0.001)
                    now = time.perf_counter()
                    gaps.append(now - last)
                    last = now

            ticker = asyncio.create_task(tick())
            begun = time.perf_counter()
            await retriever.aadd_nodes(nodes)
            whole = time.perf_counter() - begun
            done.set()
            await ticker
            assert max(gaps) < whole / 2


def refuse_in_a_loop() -> None:
    """For work that must be done beside the event loop."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        pytest.fail("done in the event loop")


class TestWhereTheWorkIsDone:
    """However short it is: with a store or a model that is slow the loop would stand still."""

    class Slow(LocalStore):
        def search(self, *arguments: Any, **options: Any) -> Any:
            refuse_in_a_loop()
            return super().search(*arguments, **options)

        def upsert(self, *arguments: Any, **options: Any) -> Any:
            refuse_in_a_loop()
            return super().upsert(*arguments, **options)

        def delete(self, *arguments: Any, **options: Any) -> Any:
            refuse_in_a_loop()
            return super().delete(*arguments, **options)

    class SlowNode(TextNode):
        def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
            refuse_in_a_loop()
            return self.text

    async def test_nothing_is_done_in_the_loop(self, tiny: ColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
        with self.Slow(tiny) as store:
            retriever = ColBERTRetriever(store)
            await retriever.aadd_nodes([self.SlowNode(id_="a", text="The moon."), self.SlowNode(text="The sea.")])
            encode = tiny.encode_queries
            monkeypatch.setattr(
                ColBERT,
                "encode_queries",
                lambda _, *given, **options: (refuse_in_a_loop(), encode(*given, **options))[1],
            )
            for query in (QueryBundle("the moon"), QueryBundle("?", custom_embedding_strs=["the moon", "a moon"])):
                found = await retriever.aretrieve(query)
                assert [each.node_id for each in found][:1] == ["a"]
            assert await retriever.adelete_nodes(["a"]) == 1
            assert await retriever.adelete_ref_doc("book") == 0


class TestBuilding:
    def test_from_nodes_in_memory(self, tiny: ColBERT) -> None:
        nodes = [TextNode(text=text) for text in DISTINCT]
        retriever = ColBERTRetriever.from_nodes(nodes, tiny, similarity_top_k=3, explain=True)
        with retriever.store:
            assert isinstance(retriever, ColBERTRetriever)
            found = retriever.retrieve(QUESTION)
            assert len(found) == 3
            assert all("explanation" in each.metadata for each in found)

    def test_from_nodes_in_a_file_that_stays(self, goldens: Path, tmp_path: Path) -> None:
        checkpoint, path = goldens / "a_bert_pylate" / "checkpoint", tmp_path / "nodes.db"
        nodes = [TextNode(id_=f"id-{index}", text=text) for index, text in enumerate(TEXTS[:3])]
        settings = {"query_length": 22}
        with ColBERTRetriever.from_nodes(nodes, checkpoint, path, model_kwargs=settings).store as store:
            before = ColBERTRetriever(store).retrieve(QUESTION)
        more = [TextNode(id_="id-0", text="another"), TextNode(id_="id-3", text="The sea.")]
        with ColBERTRetriever.from_nodes(more, checkpoint, path, model_kwargs=settings).store as store:
            after = {each.node_id: each for each in ColBERTRetriever(store).retrieve(QUESTION)}
        assert set(after) == {"id-0", "id-1", "id-2", "id-3"}
        assert after["id-0"].text == "another"
        for each in before[:1]:
            assert after[each.node_id] == each

    def test_what_fails_leaves_no_store_open(self, tiny: ColBERT, tmp_path: Path) -> None:
        path = tmp_path / "nodes.db"
        for options in ({"explian": True}, {"similarity_top_k": 0}):
            with pytest.raises((TypeError, ArgumentError)):
                ColBERTRetriever.from_nodes([TextNode(text="a")], tiny, path, **options)
        with pytest.raises(ArgumentError):
            ColBERTRetriever.from_nodes([ImageNode()], tiny, path)
        assert not path.with_name("nodes.db-wal").exists(), "the last to close takes it away"


class TestDescriptions:
    """A retriever over a description opens nothing before it searches, and is copied and pickled as one."""

    @pytest.fixture
    def description(self, goldens: Path, tmp_path: Path) -> dict[str, Any]:
        checkpoint = goldens / "a_bert_pylate" / "checkpoint"
        nodes = [TextNode(id_="a", text="The moon."), TextNode(id_="b", text="Bread.", metadata={"lang": "en"})]
        retriever = ColBERTRetriever.from_nodes(
            nodes, checkpoint, tmp_path / "nodes.db", model_kwargs={"query_length": 19}
        )
        with retriever.store as store:
            return store.description  # type: ignore[attr-defined, no-any-return]

    @pytest.mark.parametrize(
        "copied",
        [lambda one: one, copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))],
        ids=["itself", "copy", "deepcopy", "pickle"],
    )
    def test_it_is_opened_when_it_is_needed(
        self, description: dict[str, Any], call: Call, copied: Callable[[ColBERTRetriever], ColBERTRetriever]
    ) -> None:
        release_models()
        filters = MetadataFilters(filters=[MetadataFilter(key="lang", value="en")])
        retriever = copied(ColBERTRetriever(description, similarity_top_k=2, filters=filters, score_threshold=-1.0))
        assert not SHARED.models
        assert [each.node_id for each in call(retriever, "the moon")] == ["b"]
        assert len(SHARED.models) == 1
        retriever.filters = None
        assert {each.node_id for each in call(retriever, "the moon")} == {"a", "b"}

    async def test_nodes_come_and_go_in_a_loop(self, description: dict[str, Any]) -> None:
        retriever = ColBERTRetriever(description)
        await retriever.aadd_nodes([TextNode(id_="c", text="Salt.")])
        other = ColBERTRetriever(description)
        assert await other.adelete_nodes(["a", "b"]) == 2
        assert [each.node_id for each in await retriever.aretrieve("salt")] == ["c"]

    def test_what_is_in_memory_is_not_pickled(self, tiny: ColBERT) -> None:
        with LocalStore(tiny) as store, pytest.raises(StoreError, match="is in memory"):
            pickle.dumps(ColBERTRetriever(store))


class TestIndexNodes:
    """An index node leads on to its object, as in every retriever of LlamaIndex."""

    class Fixed(BaseRetriever):
        def __init__(self, *nodes: NodeWithScore) -> None:
            self.nodes = list(nodes)
            super().__init__()

        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return self.nodes

        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return self.nodes

    def test_to_another_retriever(self, tiny: ColBERT, call: Call) -> None:
        with LocalStore(tiny) as books, LocalStore(tiny) as pages:
            inner = ColBERTRetriever(pages, similarity_top_k=1)
            inner.add_nodes([TextNode(id_="p-1", text="The moon moves the sea."), TextNode(id_="p-2", text="Bread.")])
            objects: dict[str, Any] = {"other": inner}
            outer = ColBERTRetriever(books, object_map=objects)
            book = IndexNode(id_="b", text="A book about tides.", index_id="tides", obj=inner)
            outer.add_nodes([book, TextNode(id_="t", text="Paris.")])
            assert (book.obj, objects) == (inner, {"other": inner}), "what was given is not changed"
            assert sorted(each.node_id for each in call(outer, "the moon and the sea")) == ["p-1", "t"]
            reopened = ColBERTRetriever(books, object_map={"tides": inner})
            assert sorted(each.node_id for each in call(reopened, "the moon and the sea")) == ["p-1", "t"]
            assert sorted(
                each.node_id for each in call(ColBERTRetriever(books, objects=[book]), "the moon and the sea")
            ) == ["p-1", "t"]
            (alone,) = [each.node for each in call(ColBERTRetriever(books), "tides") if each.node_id == "b"]
            assert isinstance(alone, IndexNode)
            assert (alone.index_id, alone.obj) == ("tides", None), "without the object it is found itself"

    def test_to_a_node_with_the_score_of_the_index_node(self, tiny: ColBERT, call: Call) -> None:
        with LocalStore(tiny) as store:
            retriever = ColBERTRetriever(store)
            retriever.add_nodes([IndexNode(text="tides", index_id="x", obj=TextNode(id_="whole", text="All of it."))])
            (found,) = call(retriever, "tides")
            assert found.node == TextNode(id_="whole", text="All of it.")
            assert found.score == pytest.approx(store.search("tides")[0].score / tiny.query_length)

    def test_two_that_lead_to_the_same_are_one(self, tiny: ColBERT, call: Call) -> None:
        whole = TextNode(id_="whole", text="All of it.")
        with LocalStore(tiny) as store:
            retriever = ColBERTRetriever(store)
            retriever.add_nodes([IndexNode(text=text, index_id=text, obj=whole) for text in ("one", "two")])
            assert [each.node_id for each in call(retriever, "one")] == ["whole"]

    def test_of_another_retriever_to_ours(self, tiny: ColBERT, call: Call) -> None:
        with LocalStore(tiny) as store:
            ours = ColBERTRetriever(store)
            ours.add_nodes([TextNode(id_="a", text="The moon.")])
            outer = self.Fixed(NodeWithScore(node=IndexNode(text="x", index_id="x", obj=ours), score=0.5))
            assert [each.node_id for each in call(outer, "the moon")] == ["a"]


class TestQueries:
    def test_several_texts_stand_for_one_question(self, tiny: ColBERT, call: Call) -> None:
        """As `HyDEQueryTransform` makes them: their rows are scored together."""
        texts = ["the moon", "bread and water"]
        with LocalStore(tiny) as store:
            store.upsert(Document(str(index), text) for index, text in enumerate(DISTINCT))
            retriever = ColBERTRetriever(store, similarity_top_k=6)
            found = {
                each.node_id: each.score for each in call(retriever, QueryBundle("?", custom_embedding_strs=texts))
            }
            one, other = (exact_scores(tiny, text, DISTINCT) for text in texts)
            for index, (first, second) in enumerate(zip(one, other, strict=True)):
                assert found[str(index)] == pytest.approx((first + second) / 2, abs=1e-5)
            single = call(retriever, QueryBundle("?", custom_embedding_strs=texts[:1]))
            assert single == call(retriever, texts[0])
            retriever = ColBERTRetriever(store, explain=True)
            with pytest.raises(ArgumentError, match="explain"):
                call(retriever, QueryBundle("?", custom_embedding_strs=texts))

    @pytest.mark.parametrize(
        "query",
        [QueryBundle(""), QueryBundle("", image_path="a.png"), QueryBundle("x", custom_embedding_strs=["a", " "])],
        ids=["empty", "image", "one of two"],
    )
    def test_what_asks_nothing_is_refused(self, tiny: ColBERT, call: Call, query: QueryBundle) -> None:
        with LocalStore(tiny) as store, pytest.raises(ArgumentError, match="query"):
            call(ColBERTRetriever(store), query)

    def test_a_store_that_fails_says_so(self, tiny: ColBERT, call: Call) -> None:
        store = LocalStore(tiny)
        retriever = ColBERTRetriever(store)
        store.close()
        with pytest.raises(StoreError, match="closed"):
            call(retriever, QUESTION)

    def test_depth_and_exact_reach_the_store(self, tiny: ColBERT) -> None:
        with LocalStore(tiny) as store:
            store.upsert(Document(str(index), text) for index, text in enumerate(DISTINCT))
            with pytest.raises((ArgumentError, ShapeError), match="depth"):
                ColBERTRetriever(store, similarity_top_k=5, depth=3)
            retriever = ColBERTRetriever(store, similarity_top_k=2, depth=3, exact=True)
            assert len(retriever.retrieve(QUESTION)) == 2
            with pytest.raises(ArgumentError, match="similarity_top_k"):
                retriever.similarity_top_k = 0
            assert retriever.similarity_top_k == 2


def test_an_embedding_is_not_kept(tiny: ColBERT) -> None:
    node = TextNode(text="The moon.", embedding=[0.25] * 768)
    with LocalStore(tiny) as store:
        retriever = ColBERTRetriever(store)
        retriever.add_nodes([node])
        (stored,) = store.iterate()
        assert "0.25" not in str(stored.metadata)
        assert retriever.retrieve("moon")[0].node.embedding is None
    assert node.embedding == [0.25] * 768


def test_closing_leaves_open_what_others_use(tiny: ColBERT, tmp_path: Path) -> None:
    made = ColBERTRetriever.from_nodes([TextNode(text="The moon.")], tiny, tmp_path / "nodes.db")
    description = made.store.description
    made.close()
    with pytest.raises(StoreError, match="closed"):
        made.retrieve("moon")
    one, other = ColBERTRetriever(description), ColBERTRetriever(description)
    assert one.store is other.store
    one.close()
    assert len(other.retrieve("moon")) == 1
    other.close()
    with LocalStore(tiny) as store:
        ColBERTRetriever(store).close()
        assert store.count() == 0
