"""Scores, pooled rows and explanations of the package are those of Python's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from javascript import JavaScriptError, Node, multivectors

from chandelier import ColBERT, MultiVectors, maxsim, pool_tokens

FROM_PARTS = """
    const held = ({ data, offsets, dim }) => chandelier.MultiVectors.fromParts(
        Float32Array.from(data), Uint32Array.from(offsets), dim);
"""
PAIRS = [
    ("lighthouse for ships", "The lighthouse guides ships; its lamp never goes out."),
    ("a family 👨‍👩‍👧 in Москва", "👩🏽‍🚀 flew over 東京 and Москва with her family 👨‍👩‍👧, naïvely."),
    ("MOON", "  the moon\n\tand the " + "tide " * 300 + "moon"),
    ("", "."),
]


def parts(rows: MultiVectors) -> dict[str, Any]:
    return {"data": rows.data.ravel().tolist(), "offsets": rows.offsets.tolist(), "dim": rows.dim}


def random_rows(lengths: list[int], dim: int, seed: int = 1) -> MultiVectors:
    random = np.random.default_rng(seed)
    arrays = [random.standard_normal((length, dim)).astype(np.float32) for length in lengths]
    return MultiVectors.from_arrays([rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in arrays])


@pytest.mark.parametrize("dim", [1, 7, 32, 96, 128, 130])
def test_scores_are_pythons(node: Node, dim: int) -> None:
    query, documents = random_rows([32], dim), random_rows([1, 2, 30, 180, 5], dim, seed=2)
    code = FROM_PARTS + "return chandelier.maxsim(held(argument.query), held(argument.documents))"
    ours = node.evaluate(code, {"query": parts(query), "documents": parts(documents)})
    assert ours.dtype == np.float32
    assert np.abs(ours - maxsim(query[0], documents)).max() < 1e-5


@pytest.mark.parametrize("protected", [0, 1, 3])
@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_pooled_rows_are_pythons(node: Node, minilm: ColBERT, factor: int, protected: int) -> None:
    documents = minilm.encode_documents([document for _, document in PAIRS])
    code = (
        FROM_PARTS + "return kept.rows(chandelier.poolTokens(held(argument.rows), argument.factor, argument.protected))"
    )
    found = node.evaluate(code, {"rows": parts(documents), "factor": factor, "protected": protected})
    ours, theirs = multivectors(found), pool_tokens(documents, factor, protected_tokens=protected)
    assert ours.offsets.tolist() == theirs.offsets.tolist()
    assert np.abs(ours.data - theirs.data).max() < 2e-6


@pytest.fixture(scope="module")
def real(node: Node, minilm_checkpoint: Path) -> Iterator[Node]:
    """MiniLM is open, as `kept.model`."""
    node.evaluate("kept.model = new chandelier.ColBERT(kept.read(argument))", str(minilm_checkpoint))
    yield node
    node.evaluate("kept.model.free()")


def test_the_model_says_what_it_is(real: Node, minilm: ColBERT) -> None:
    code = """
        const { dim, queryLength, documentLength, dtype, fingerprint } = kept.model;
        return { dim, queryLength, documentLength, dtype, fingerprint };
    """
    assert real.evaluate(code) == {
        "dim": minilm.dim,
        "queryLength": minilm.query_length,
        "documentLength": minilm.document_length,
        "dtype": "float32",
        "fingerprint": minilm.fingerprint,
    }


def test_pooling_while_encoding(real: Node, minilm: ColBERT) -> None:
    texts = [document for _, document in PAIRS]
    code = "return kept.rows(kept.model.encodeDocuments(argument, { poolFactor: 3, protectedTokens: 2 }))"
    ours, theirs = (
        multivectors(real.evaluate(code, texts)),
        minilm.encode_documents(texts, pool_factor=3, protected_tokens=2),
    )
    assert ours.offsets.tolist() == theirs.offsets.tolist()
    assert np.abs(ours.data - theirs.data).max() < 2e-5


@pytest.mark.parametrize(("query", "document"), PAIRS)
def test_explanations_are_pythons(real: Node, minilm: ColBERT, query: str, document: str) -> None:
    """Places count UTF-16 code units in JavaScript, characters in Python: what stands there is the same text."""
    code = "return kept.model.explain(argument.query, argument.document)"
    if document == ".":  # the skiplist drops it, [CLS] and the prefix and [SEP] are left
        assert len(real.evaluate(code, {"query": query, "document": document})["documentTokens"]) == 3
    ours = real.evaluate(code, {"query": query, "document": document})
    theirs = minilm.explain(query, document)
    assert ours["score"] == pytest.approx(theirs.score, abs=2e-5 * len(theirs.query_tokens))
    assert (ours["queryTokens"], ours["documentTokens"]) == (list(theirs.query_tokens), list(theirs.document_tokens))
    similarities = ours["similarities"].reshape(theirs.similarities.shape)
    assert np.abs(similarities - theirs.similarities).max() < 2e-5

    def units(text: str, span: tuple[int, int] | None) -> list[int] | None:
        return span and [len(text[:place].encode("utf-16-le")) // 2 for place in span]

    assert ours["querySpans"] == [units(query, span) for span in theirs.query_spans]
    assert ours["documentSpans"] == [units(document, span) for span in theirs.document_spans]
    assert ours["querySeen"] == units(query, theirs.query_seen)
    assert ours["documentSeen"] == units(document, theirs.document_seen)
    assert [match["queryToken"] for match in ours["matches"]] == list(range(len(theirs.query_tokens)))
    for match, wanted in zip(ours["matches"], theirs.matches, strict=True):
        assert match["documentToken"] == wanted.document_index
        assert match["similarity"] == pytest.approx(wanted.similarity, abs=2e-5)
        assert match["share"] == pytest.approx(wanted.share, abs=1e-4)
        assert match.get("span") == units(document, wanted.span)
    wanted_spans = theirs.spans()
    assert [[span["start"], span["end"]] for span in ours["spans"]] == [
        units(document, (span.start, span.end)) for span in wanted_spans
    ]
    for span, wanted_span in zip(ours["spans"], wanted_spans, strict=True):
        assert span["weight"] == pytest.approx(wanted_span.weight, abs=1e-3)
        assert span["wordWeight"] == pytest.approx(wanted_span.word_weight, abs=1e-3)
        assert span["queryTokens"].tolist() == list(wanted_span.query_tokens)


def test_options_are_pythons(node: Node, goldens: Path) -> None:
    folder = goldens / "a_bert_pylate" / "checkpoint"
    code = """
        const model = new chandelier.ColBERT(kept.read(argument), {
            queryLength: 20, documentLength: 12, queryPrefix: "", documentPrefix: "", skiplistWords: ["the"],
            doQueryExpansion: true, attendToExpansionTokens: true, dtype: undefined,
        });
        const queries = kept.rows(model.encodeQueries(["the moon"]));
        const documents = kept.rows(model.encodeDocuments(["the moon, the tide"]));
        model.free();
        return [queries, documents];
    """
    queries, documents = map(multivectors, node.evaluate(code, str(folder)))
    theirs = ColBERT(
        folder, query_length=20, document_length=12, query_prefix="", document_prefix="", skiplist_words=["the"],
        do_query_expansion=True, attend_to_expansion_tokens=True,
    )  # fmt: skip
    assert len(queries[0]) == 20
    assert np.abs(queries.data - theirs.encode_queries(["the moon"]).data).max() < 2e-5
    documents_of_python = theirs.encode_documents(["the moon, the tide"])
    assert documents.offsets.tolist() == documents_of_python.offsets.tolist()
    assert np.abs(documents.data - documents_of_python.data).max() < 2e-5


def test_no_texts_are_no_rows(real: Node) -> None:
    assert len(multivectors(real.evaluate("return kept.rows(kept.model.encodeDocuments([]))"))) == 0
    with pytest.raises(JavaScriptError, match="0 queries"):
        real.evaluate("return chandelier.maxsim(kept.model.encodeQueries([]), kept.model.encodeDocuments(['x']))")
