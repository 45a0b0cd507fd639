"""Collections of a real Weaviate: what is refused before it is made, what is refused because it is there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from reference import best, ids, random_documents, unit_rows
from weaviate import WeaviateClient
from weaviate.classes.config import Configure, VectorDistances
from weaviate.classes.query import Filter
from weaviate.classes.tenants import Tenant, TenantActivityStatus

from chandelier import ArgumentError, ColBERT, Document, Muvera
from chandelier.exceptions import StoreError
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

DIM = 32
Open = Callable[..., WeaviateStore]

VECTORS = ("vector_config", "vector_index_config", "vectorizer_config")
MULTI = Configure.MultiVectors.self_provided
HNSW = Configure.VectorIndex.hnsw
ENCODING = Configure.VectorIndex.MultiVector.Encoding.muvera


# Names


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mycol", "got 'mycol', which Weaviate would call 'Mycol'; name it so"),
        *((name, "wanted a capital letter, then letters") for name in ("My-col", "My col", "A.b", "1st", "", "\u00dc")),
        ("A" * 256, "wanted a capital letter, then letters"),
        (None, "got None"),
    ],
)
def test_a_name_that_weaviate_would_change_or_refuse(open_weaviate: Open, name: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=rf"^collection: .*{says}") as caught:
        open_weaviate(name)
    assert caught.value.argument == "collection"


def test_the_longest_name(open_weaviate: Open, weaviate_client: WeaviateClient) -> None:
    name = "A" * 255
    try:
        assert open_weaviate(name).upsert([Document("a", "text")]).stored == ["a"]
        assert name in weaviate_client.collections.list_all()
    finally:
        weaviate_client.collections.delete(name)


@pytest.mark.parametrize(
    "properties",
    [
        *({name: "text"} for name in ("Year", "a b", "a-b", "", "1st", "\u00fc", "a.b", "x" * 300)),
        *({name: "text"} for name in ("id", "_id", "_additional", "vector", "text", "metadata", "filter_terms")),
        *({"year": kind} for kind in ("date", "integer", "", None, 5, "int[][]")),
        {5: "int"},
        "all",
        ["year"],
        5,
    ],
)
def test_a_property_that_weaviate_would_change_or_refuse(open_weaviate: Open, properties: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^properties") as caught:
        open_weaviate(properties=properties)
    assert caught.value.argument == "properties"


@pytest.mark.parametrize("tenant", ["", "a b", "a/b", "..", "\u00fc", "%41", "a?b", "x" * 65, 5, b"a"])
def test_the_name_of_a_tenant(
    open_weaviate: Open, weaviate_client: WeaviateClient, weaviate_name: str, tenant: Any
) -> None:
    with pytest.raises(ArgumentError, match=r"^tenant: got .*, wanted a name of at most 64 letters") as caught:
        open_weaviate(tenant=tenant)
    assert caught.value.argument == "tenant"
    assert not weaviate_client.collections.exists(weaviate_name), "a collection without its tenant stays behind"


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"muvera": Muvera(DIM)}, "muvera"),
        ({"muvera": {"ksim": 11}}, "muvera"),
        ({"muvera": {"dprojections": 0}}, "muvera"),
        ({"muvera": {"ksim": 10, "dprojections": 64}}, "muvera"),
        ({"muvera": {"seed": 1}}, "muvera"),
        ({"muvera": {"ksim": 4.5}}, "muvera"),
        ({"muvera": 5}, "muvera"),
        ({"quantizer": "rabitq"}, "quantizer"),
        ({"quantizer": 8}, "quantizer"),
        ({"depth": 0}, "depth"),
        ({"depth": 10_001}, "depth"),
        ({"create_tenant": "yes"}, "create_tenant"),
        ({"create_options": []}, "create_options"),
        ({"create_options": {"nope": 1}}, "create_options: got 'nope', wanted some of .*replication_config"),
        ({"create_options": {5: 1}}, "create_options: got 5, wanted some of"),
        *(
            ({"create_options": {option: []}}, f"create_options: got '{option}', which the store decides")
            for option in ("name", "description", "properties", "multi_tenancy_config", *VECTORS)
        ),
        *(({"timeout": timeout}, "timeout") for timeout in (0, -1, "60", True, float("nan"), None)),
    ],
)
def test_options_are_refused_by_name(
    open_weaviate: Open, weaviate_client: WeaviateClient, weaviate_name: str, options: dict[str, Any], argument: str
) -> None:
    with pytest.raises(ArgumentError, match=f"^{argument}") as caught:
        open_weaviate(**options)
    assert caught.value.argument == argument.partition(":")[0]
    assert not weaviate_client.collections.exists(weaviate_name)


def test_the_widest_encoding_is_made(open_weaviate: Open) -> None:
    store = open_weaviate(muvera={"ksim": 10, "dprojections": 31, "repetitions": 2})
    assert store.upsert(random_documents(3, DIM)).failed == {}
    assert len(store.search(np.eye(DIM)[:2])) == 3


# What is there


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        ([Configure.Vectors.self_provided(name="colbert")], "'colbert': got one vector a document, wanted a multi"),
        ([MULTI(name="other")], r"vector 'colbert': got only \['other'\], wanted one of that name"),
        (None, r"vector 'colbert': got only \['default'\]"),
        ([MULTI(name="colbert", encoding=ENCODING())], "distance of 'colbert': got 'cosine', wanted 'dot'"),
        (
            [MULTI(name="colbert", vector_index_config=HNSW(distance_metric=VectorDistances.DOT))],
            "was made with no muvera, and is opened with",
        ),
        (
            [
                MULTI(
                    name="colbert",
                    encoding=ENCODING(ksim=5),
                    vector_index_config=HNSW(distance_metric=VectorDistances.DOT),
                )
            ],
            "was made with muvera={'ksim': 5, .*opened with muvera={'ksim': 4",
        ),
        (
            [
                MULTI(
                    name="colbert",
                    encoding=ENCODING(),
                    vector_index_config=HNSW(distance_metric=VectorDistances.DOT),
                )
            ],
            "property 'doc_id': got None, wanted 'text'",
        ),
    ],
)
def test_a_collection_of_another_kind_is_refused(
    open_weaviate: Open, weaviate_client: WeaviateClient, weaviate_name: str, vectors: Any, says: str
) -> None:
    """Of the same fingerprint, as somebody has that copied the description."""
    open_weaviate(muvera=True)
    description = weaviate_client.collections.use(weaviate_name).config.get().description
    weaviate_client.collections.delete(weaviate_name)
    weaviate_client.collections.create(weaviate_name, vector_config=vectors, description=description)
    with pytest.raises(StoreError, match=says):
        open_weaviate(muvera=True)


@pytest.mark.parametrize("description", [None, "of mine", "chandelier: {", "chandelier: []", 'chandelier: {"a": 1}'])
def test_a_collection_of_others_is_refused(
    open_weaviate: Open, weaviate_client: WeaviateClient, weaviate_name: str, description: str | None
) -> None:
    weaviate_client.collections.create(weaviate_name, vector_config=MULTI(name="colbert"), description=description)
    with pytest.raises(
        StoreError, match=r"copy its documents as integrations/weaviate.md|layout version None, wanted 1"
    ):
        open_weaviate()


def test_another_encoding_is_refused_in_the_words_that_open_it(
    open_weaviate: Open, weaviate_client: WeaviateClient, weaviate_name: str
) -> None:
    small = {"ksim": 3, "dprojections": 8, "repetitions": 5}
    for made, opened, way_out in (
        (True, None, "muvera=True"),
        (True, small, "muvera=True"),
        (small, None, f"muvera={small}"),
        (small, True, f"muvera={small}"),
        (None, True, "no muvera"),
    ):
        open_weaviate(muvera=made)
        with pytest.raises(StoreError, match=re.escape(f"; open it with {way_out}, or name another collection")):
            open_weaviate(muvera=opened)
        weaviate_client.collections.delete(weaviate_name)


def test_another_model_is_refused(open_weaviate: Open, goldens: Any) -> None:
    open_weaviate(muvera=True)
    with pytest.raises(StoreError, match=r"was written with model .* and is opened with model"):
        open_weaviate(model=ColBERT(goldens / "a_bert_pylate" / "checkpoint", document_prefix="[Q] "), muvera=True)


def test_other_properties_are_refused(open_weaviate: Open) -> None:
    open_weaviate(properties={"year": "int"})
    with pytest.raises(StoreError, match="property 'year': got 'int', wanted 'number'"):
        open_weaviate(properties={"year": "number"})
    with pytest.raises(StoreError, match="property 'lang': got None, wanted 'text'"):
        open_weaviate(properties={"lang": "text"})
    assert open_weaviate().count() == open_weaviate(properties="auto").count() == 0


def test_tenants_against_the_collection(open_weaviate: Open, weaviate_name: str) -> None:
    open_weaviate(tenant="a").upsert([Document("doc", "text of a")])
    with pytest.raises(StoreError, match=r"has tenants; give tenant=\.\.\., or name another collection"):
        open_weaviate()
    with pytest.raises(StoreError, match="tenant 'b' is not there; create_tenant=True makes it"):
        open_weaviate(tenant="b")
    other = open_weaviate(tenant="b", create_tenant=True)
    assert other.count() == 0
    other.upsert([Document("doc", "text of b")])
    other.delete_all()
    assert open_weaviate(tenant="a").get(["doc"])[0].text == "text of a"


def test_no_tenants_against_the_collection(open_weaviate: Open) -> None:
    open_weaviate()
    with pytest.raises(StoreError, match="has no tenants; give no tenant, or name another collection"):
        open_weaviate(tenant="a")


def test_a_tenant_that_is_inactive_or_gone(open_weaviate: Open, weaviate_collection: Any) -> None:
    store = open_weaviate(tenant="a")
    given = random_documents(3, DIM)
    store.upsert(given)
    calls: list[Callable[[], Any]] = [
        store.count,
        store.delete_all,
        lambda: store.search("text"),
        lambda: store.search("text", exact=True),
        lambda: store.hybrid_search("text"),
        lambda: store.get(["doc-0"]),
        lambda: list(store.iterate()),
        lambda: store.delete(["doc-0"]),
    ]

    def refuse_all(says: str) -> None:
        for call in calls:
            with pytest.raises(StoreError, match=says):
                call()
        with pytest.raises(StoreError, match=says) as caught:
            store.upsert(given)
        assert (caught.value.report.stored, caught.value.report.unknown) == ([], ids(given))

    weaviate_collection.tenants.update([Tenant(name="a", activity_status=TenantActivityStatus.INACTIVE)])
    refuse_all("tenant not active: 'a'")
    weaviate_collection.tenants.update([Tenant(name="a", activity_status=TenantActivityStatus.ACTIVE)])
    assert len(store.search("text")) == store.count() == 3
    weaviate_collection.tenants.remove(["a"])
    refuse_all('tenant not found: "a"')


def test_a_collection_that_is_deleted_meanwhile_is_not_made_again(
    open_weaviate: Open, weaviate_client: WeaviateClient, weaviate_name: str
) -> None:
    """Weaviate's auto schema would make one without our index."""
    store = open_weaviate()
    weaviate_client.collections.delete(weaviate_name)
    for call in (store.count, lambda: store.search("text"), lambda: store.upsert(random_documents(2, DIM))):
        with pytest.raises(StoreError, match="could not find class"):
            call()
    assert not weaviate_client.collections.exists(weaviate_name)


@pytest.mark.parametrize("options", [{"muvera": True}, {"tenant": "a", "create_tenant": True, "properties": "auto"}])
def test_stores_that_make_one_collection_at_the_same_time(
    weaviate_server: WeaviateServer, tiny: ColBERT, weaviate_name: str, options: dict[str, Any]
) -> None:
    start = threading.Barrier(6)
    counts: list[int] = []
    problems: list[BaseException] = []

    def make(number: int) -> None:
        try:
            with weaviate_server.connect() as client:
                start.wait()
                store = WeaviateStore(client, weaviate_name, tiny, **options)
                store.upsert([Document(f"doc-{number}", "text", {"year": 2020, "lang": "en"})])
                start.wait()
                counts.append(store.count({"year": 2020}))
        except BaseException as problem:
            problems.append(problem)
            start.abort()

    threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert counts == [6] * 6


@pytest.mark.parametrize("muvera", [None, True])
@pytest.mark.parametrize("quantizer", ["rq", "bq", "sq", "pq"])
def test_scores_are_exact_under_a_quantizer(open_weaviate: Open, quantizer: str, muvera: Any) -> None:
    given, query = random_documents(60, DIM), unit_rows(np.random.default_rng(1), 4, DIM)
    store = open_weaviate(quantizer=quantizer, muvera=muvera)
    assert store.upsert(given).stored == ids(given)
    exact = dict(best(query, given, 60, "float32"))
    hits = store.search(query, 60)
    assert len(hits) > 50
    assert [hit.score for hit in hits] == pytest.approx([exact[hit.id] for hit in hits], abs=4e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert ids(store.search(query, 10, exact=True)) == list(exact)[:10]
    with pytest.raises(
        StoreError, match=f"quantizer: got '{quantizer}', wanted '{'sq' if quantizer != 'sq' else 'rq'}'"
    ):
        open_weaviate(quantizer="sq" if quantizer != "sq" else "rq", muvera=muvera)


# Properties of Weaviate's own


def test_declared_properties_are_for_the_filters_of_weaviate(open_weaviate: Open, weaviate_collection: Any) -> None:
    kinds = {"lang": "text", "year": "int", "ratio": "number", "ok": "boolean", "tags": "text[]", "list": "number[]"}
    store = open_weaviate(properties=kinds)
    fine = {"lang": "en US", "year": 2020, "ratio": 1, "ok": True, "tags": ["a b", "c"], "list": [1, 2.5], "other": {}}
    odd: dict[str, dict[str, Any]] = {
        "year as text": {"year": "2020"},
        "year as float": {"year": 2020.0},
        "year as bool": {"year": True},
        "a year beyond float64": {"year": 2**60},
        "mixed": {"tags": ["a", 1]},
        "list of null": {"tags": [None]},
        "no list": {"tags": "a"},
        "a list": {"lang": ["en"]},
        "mapping": {"ratio": {"a": 1}},
    }
    sound: dict[str, dict[str, Any]] = {"fine": fine, "null": {"year": None}, "empty": {"tags": []}, "none": {}}
    report = store.upsert([Document(id, "text", metadata) for id, metadata in {**odd, **sound}.items()])
    assert report.stored == list(sound)
    assert list(report.failed) == list(odd)
    assert all("as the store declares" in reason for reason in report.failed.values())
    by = Filter.by_property
    for filter in (
        by("lang").equal("en US"),
        by("year").greater_than(2019),
        by("ratio").less_than(1.5),
        by("ok").equal(True),
        by("tags").contains_any(["a b"]),
        by("list").contains_all([1.0, 2.5]),
        by("year").equal(2020) & by("ok").equal(True),
    ):
        assert store.count(filter) == 1
        assert ids(store.search("text", filter=filter)) == ids(store.iterate(filter=filter)) == ["fine"]
        assert ids(store.hybrid_search("text", filter=filter)) == ["fine"]
    assert store.count(by("lang").equal("en")) == 0, "whole texts are compared"
    assert store.get(["fine"])[0].metadata == fine
    assert store.delete(filter=by("year").equal(2020)) == 1
    assert store.count() == 3


def test_filters_that_weaviate_refuses(open_weaviate: Open) -> None:
    store = open_weaviate(properties={"year": "int"})
    store.upsert([Document("a", "text", {"year": 1})])
    for filter, says in (
        (Filter.by_property("nope").equal(1), "no such prop with name 'nope'"),
        (Filter.by_property("year").equal("x"), "could not parse string 'x' as int"),
    ):
        for call in (store.count, lambda filter: store.search("text", filter=filter)):
            with pytest.raises(StoreError, match=says):
                call(filter)
    for wrong in ("year = 1", 5, [1], object()):
        with pytest.raises(
            ArgumentError, match=r"^filter: got .*, wanted a mapping in our dialect, or a filter of weav"
        ):
            store.search("text", filter=wrong)


def test_properties_of_the_first_documents(open_weaviate: Open, weaviate_collection: Any) -> None:
    store = open_weaviate(properties="auto")
    first = {
        "lang": "en",
        "year": 2020,
        "ratio": 0.5,
        "ok": True,
        "tags": ["a"],
        "Year": 1,
        "id": 2,
        "a b": 3,
        "n": None,
    }
    report = store.upsert([Document("a", "text", first), Document("b", "text", {"ratio": 1, "mixed": 1})])
    assert report.failed == {}
    store.upsert([Document("c", "text", {"mixed": "a", "late": 1, "lang": 5, "year": "2020"})])
    kinds = {each.name: each.data_type.value for each in weaviate_collection.config.get().properties}
    own = {"doc_id", "text", "metadata", "filter_terms", "row_count"}
    wanted = {"lang": "text", "year": "int", "ratio": "number", "ok": "boolean", "tags": "text[]", "mixed": "int"}
    assert {name: kind for name, kind in kinds.items() if name not in own} == wanted
    assert store.count(Filter.by_property("year").equal(2020)) == store.count({"year": 2020}) == 1
    assert store.get(["c"])[0].metadata == {"mixed": "a", "late": 1, "lang": 5, "year": "2020"}
    assert store.count({"Year": 1}) == store.count({"id": 2}) == store.count({"lang": 5}) == 1


def test_few_of_very_many_fields_become_properties(open_weaviate: Open, weaviate_collection: Any) -> None:
    store = open_weaviate(properties="auto")
    assert store.upsert([Document("a", "text", {f"f{i}": i for i in range(10_000)})]).failed == {}
    assert len(weaviate_collection.config.get().properties) == 105
    assert store.count({"f9999": 9999}) == store.count(Filter.by_property("f99").equal(99)) == 1
