"""Bad arguments, odd texts and odd arrays at every door: a typed error that says which argument, or a right result.

The tables hold what is given and the words that the message must name; the messages themselves belong to the library.
A panic of the compiled core is a `BaseException` that is no `Exception`: `pytest.raises` lets it through, and the test
fails.
"""

from __future__ import annotations

import copy
import json
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import chandelier
from chandelier import (
    ArgumentError,
    ChandelierError,
    ColBERT,
    DeviceError,
    MeanVector,
    ModelError,
    MultiVectors,
    ShapeError,
    exceptions,
    maxsim,
    maxsim_matrix,
    top_k,
)

CHECKPOINT = Path(__file__).parents[1] / "goldens" / "a_bert_pylate" / "checkpoint"
DIM = 32
NAN, INF = float("nan"), float("inf")
HALF_A_CHARACTER = "\ud83d"

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def model() -> ColBERT:
    """The plain PyLate checkpoint: 32 dimensions, queries of 32 rows, documents of at most 180 of 192 positions."""
    return ColBERT(CHECKPOINT)


def check_argument(error: Exception, argument: str, *says: str) -> None:
    """Holds an error to the argument that it must name, and to the words (patterns) in its message."""
    message = str(error)
    assert getattr(error, "argument", None) == argument, message
    for pattern in (argument, *says):
        assert re.search(pattern, message, re.IGNORECASE), f"nothing like {pattern!r} in {message!r}"
    assert not message.endswith("."), f"a full stop ends {message!r}"


def rows(count: int, dim: int = DIM, seed: int = 0) -> Floats:
    """Unit rows of small random numbers."""
    array = np.random.default_rng(seed).standard_normal((count, dim))
    unit: Floats = (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)
    return unit


# --- texts: what is no list of str ----------------------------------------------------------------------------------

# (what is given for a list of texts, what the message must name)


class AnObject:
    """Its address is in no test's name, so that two processes agree what they run."""

    def __repr__(self) -> str:
        return "AnObject()"


BAD_TEXTS: list[tuple[Any, str]] = [
    ("one text", "list"),
    ("", "list"),
    (None, "None"),
    (3, "int"),
    (1.5, "float"),
    (True, "bool"),
    (b"bytes", "bytes"),
    (bytearray(b"bytes"), "bytearray"),
    ({"text": "a"}, "dict"),
    (AnObject(), "AnObject"),
    ([None], r"\b0\b"),
    ([3, "fine"], r"\b0\b"),
    (["fine", 3], r"\b1\b"),
    (["fine", 1.5], r"\b1\b"),
    (["fine", b"bytes"], r"\b1\b"),
    (["fine", "fine", ["nested"]], r"\b2\b"),
    (["fine", ("nested",)], r"\b1\b"),
    (["fine", {"text": "a"}], r"\b1\b"),
    (["fine"] * 999 + [None], r"\b999\b"),
    ([HALF_A_CHARACTER], r"\b0\b.*surrogate|surrogate.*\b0\b"),
    (["fine", f"cut {HALF_A_CHARACTER} here"], r"\b1\b.*surrogate|surrogate.*\b1\b"),
    (["fine", "fine", "\ude00\ud83d"], r"\b2\b.*surrogate|surrogate.*\b2\b"),
    ([[], []], r"\b0\b"),
    (np.zeros(2), r"\b0\b"),
]
TAKES_TEXTS = ["encode_queries", "encode_documents", "tokenize_queries", "tokenize_documents"]


@pytest.mark.parametrize("method", TAKES_TEXTS)
@pytest.mark.parametrize(("texts", "says"), BAD_TEXTS, ids=lambda value: ascii(value)[:40])
def test_texts_are_a_list_of_str(model: ColBERT, method: str, texts: Any, says: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        getattr(model, method)(texts)
    check_argument(caught.value, "texts", says)


@pytest.mark.parametrize("is_query", [False, True])
@pytest.mark.parametrize(("sentences", "says"), BAD_TEXTS[2:], ids=lambda value: ascii(value)[:40])
def test_encode_takes_one_text_or_a_list_and_no_more(model: ColBERT, sentences: Any, says: str, is_query: bool) -> None:
    with pytest.raises(ArgumentError) as caught:
        model.encode(sentences, is_query=is_query)
    check_argument(caught.value, "sentences", says)


def test_encode_refuses_half_a_character(model: ColBERT) -> None:
    with pytest.raises(ArgumentError) as caught:
        model.encode(HALF_A_CHARACTER)
    check_argument(caught.value, "sentences", "surrogate")


def test_encode_takes_one_text(model: ColBERT) -> None:
    one = model.encode("a text")
    listed = model.encode(["a text"])
    assert isinstance(one, np.ndarray)
    assert isinstance(listed, list)
    np.testing.assert_array_equal(one, listed[0])


@pytest.mark.parametrize("method", ["encode_queries", "encode_documents"])
@pytest.mark.parametrize("empty", [[], (), iter(())], ids=["list", "tuple", "iterator"])
def test_no_text_gives_no_matrix(model: ColBERT, method: str, empty: Iterable[str]) -> None:
    vectors = getattr(model, method)(empty)
    assert len(vectors) == 0
    assert vectors.data.shape == (0, DIM)
    assert vectors.data.dtype == np.float32
    assert vectors.offsets.tolist() == [0]


def test_no_text_in_the_other_doors(model: ColBERT) -> None:
    assert model.encode([]) == []
    assert model.tokenize_queries([]) == []
    assert model.tokenize_documents([]) == []


ITERABLES: list[tuple[str, Callable[[list[str]], Iterable[str]]]] = [
    ("tuple", tuple),
    ("iterator", iter),
    ("generator", lambda texts: (text for text in texts)),
    ("map", lambda texts: map(str, texts)),
    ("keys", lambda texts: dict.fromkeys(texts).keys()),
    ("array of str", lambda texts: np.array(texts)),
    ("array of objects", lambda texts: np.array(texts, dtype=object)),
]


@pytest.mark.parametrize(("what", "make"), ITERABLES)
def test_any_iterable_of_str_will_do(model: ColBERT, what: str, make: Callable[[list[str]], Iterable[str]]) -> None:
    texts = ["one text", "and another one", "three"]
    assert model.encode_documents(make(texts)) == model.encode_documents(texts)
    assert len(model.encode(make(texts))) == 3


def test_an_error_of_the_callers_own_generator_comes_through(model: ColBERT) -> None:
    def broken() -> Iterator[str]:
        yield "fine"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        model.encode_documents(broken())


# --- texts: odd, and right ------------------------------------------------------------------------------------------

ODD_TEXTS = [
    "",
    "   ",
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\u00a0\u2003\u3000",
    "word " * 100_000,
    "a" * 100_000,
    "." * 10_000,
    "\u05e9\u05dc\u05d5\u05dd \u0639\u0627\u0644\u0645",
    "\u202eright to left\u202c",
    "\x00",
    "before\x00after",
    "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "\ufeff\ufffd\ufffe\uffff\U0010ffff",
    "e" + "\u0301" * 1_000,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466" * 50,
    "[Q] ",
    "[D] [D] [Q] text [D] ",
    "[MASK]",
    "[MASK] " * 500,
    "[CLS] [SEP] [PAD] [UNK] [MASK] [unused0]",
    "[CLS]" * 400,
    "[q] [d] [mask] [cls] [sep]",
    "%s {} {0} ${HOME} \\u0000 <s> </s> \x1b[31m",
]


def assert_unit_rows(matrix: Floats) -> None:
    """Finite rows of length 1."""
    assert matrix.dtype == np.float32
    assert matrix.shape[1] == DIM
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text)[:30])
def test_an_odd_text_is_encoded(model: ColBERT, text: str) -> None:
    (query,) = model.encode_queries([text])
    (document,) = model.encode_documents([text])
    assert query.shape == (32, DIM)
    assert 3 <= len(document) <= 180  # [CLS], [D] and [SEP] stay, whatever the text
    assert_unit_rows(query)
    assert_unit_rows(document)
    (tokens,) = model.tokenize_documents([text])
    assert tokens.keep.sum() == len(document)
    assert len(tokens.ids) == len(tokens.tokens) == len(tokens.offsets) <= 180
    assert ((tokens.offsets >= 0) & (tokens.offsets <= len(text))).all()


def test_odd_texts_do_not_disturb_each_other(model: ColBERT) -> None:
    together = model.encode_documents(ODD_TEXTS)
    for text, matrix in zip(ODD_TEXTS, together, strict=True):
        np.testing.assert_array_equal(matrix, model.encode_documents([text])[0])


# --- the constructor ------------------------------------------------------------------------------------------------

NO_COUNT: list[Any] = ["32", -1, 0, True, False, 1.5, 10**30, 2**64, [32], b"32", NAN]
NO_FLAG: list[Any] = ["yes", "False", 1, 0, [], b"1"]
NO_TEXT: list[Any] = [3, True, b"[Q] ", ["[Q] "], HALF_A_CHARACTER]

BAD_ARGUMENTS: dict[str, list[Any]] = {
    "query_length": [*NO_COUNT, 2**63, 1, 2, 193],  # [CLS], the prefix and [SEP] need 3 rows; there are 192 positions
    "document_length": [*NO_COUNT, 2**63, 1, 2, 193],
    "query_prefix": [*NO_TEXT, "[NOPE] ", " ", "two words"],
    "document_prefix": [*NO_TEXT, "[NOPE] ", " ", "two words"],
    "skiplist_words": ["abc", "", b"abc", 3, True, [1], [None], [","] * 3 + [b"."], {",": 1}, [HALF_A_CHARACTER]],
    "do_query_expansion": NO_FLAG,
    "attend_to_expansion_tokens": NO_FLAG,
    "threads": [*NO_COUNT, 2**63],
    "dtype": [None, 32, np.float32, "", "float16", "float8", "f32", "Float32", "bf16", "INT8", "Auto"],
    "device": [None, 0, True, b"cpu", ["cpu"]],
}


@pytest.mark.parametrize(
    ("argument", "value"),
    [(argument, value) for argument, values in BAD_ARGUMENTS.items() for value in values],
    ids=lambda value: ascii(value)[:30],
)
def test_the_constructor_names_the_argument(argument: str, value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        ColBERT(CHECKPOINT, **{argument: value})
    check_argument(caught.value, argument)


@pytest.mark.parametrize("value", ["float8", "float16", "nonsense"])
def test_an_unknown_dtype_says_what_there_is(value: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ColBERT(CHECKPOINT, dtype=value)
    check_argument(caught.value, "dtype", value, "float32")


# This build computes on the processor alone: the others are known and refused.
@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cuda", "compiled"),
        ("cuda:0", "compiled"),
        ("cuda:1", "compiled"),
        ("metal", "compiled"),
        ("cdua", "cpu"),
        ("", "cpu"),
        ("CPU", "cpu"),
        ("cpu ", "cpu"),
        ("cpu:0", "cpu"),
        ("cuda:", "cpu"),
        ("cuda:x", "cpu"),
        ("cuda:-1", "cpu"),
        ("cuda:99999999999999999999", "cuda"),
        ("tpu", "cpu"),
    ],
)
def test_a_device_that_is_not_there(device: str, says: str) -> None:
    with pytest.raises(DeviceError) as caught:
        ColBERT(CHECKPOINT, device=device)
    assert device in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("path", [None, 3, True, b"model", ["model"], "", "nul\x00byte", HALF_A_CHARACTER])
def test_a_path_that_is_none(path: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        ColBERT(path)
    check_argument(caught.value, "model_name_or_path")


def test_options_are_given_by_name() -> None:
    positional: tuple[Any, ...] = (CHECKPOINT, "cpu")
    with pytest.raises(TypeError):
        ColBERT(*positional)


def test_an_unknown_option_is_named() -> None:
    misspelt: dict[str, Any] = {"query_lenght": 32}
    with pytest.raises(TypeError, match="query_lenght"):
        ColBERT(CHECKPOINT, **misspelt)


def test_numbers_of_numpy_are_numbers() -> None:
    options: dict[str, Any] = {"query_length": np.int64(8), "document_length": np.int32(16), "threads": np.uint8(1)}
    model = ColBERT(str(CHECKPOINT), **options)
    assert (model.query_length, model.document_length) == (8, 16)


def test_the_smallest_and_the_largest_length_work() -> None:
    small = ColBERT(CHECKPOINT, query_length=4, document_length=4)  # [CLS], prefix and [SEP] leave room for one token
    assert [len(matrix) for matrix in small.encode_queries(["a long text indeed"])] == [4]
    assert [len(matrix) for matrix in small.encode_documents(["a long text indeed"])] == [4]
    large = ColBERT(CHECKPOINT, query_length=192, document_length=192)
    assert [len(matrix) for matrix in large.encode_queries(["word " * 1_000])] == [192]
    assert [len(matrix) for matrix in large.encode_documents(["word " * 1_000])] == [192]


# --- options of the calls -------------------------------------------------------------------------------------------

BAD_OPTIONS: list[tuple[dict[str, Any], str, str]] = [
    *(({"batch_tokens": value}, "batch_tokens", "") for value in NO_COUNT),
    ({"prompt": 3}, "prompt", ""),
    ({"prompt": b"query: "}, "prompt", ""),
    ({"prompt": ["query: "]}, "prompt", ""),
    ({"prompt": HALF_A_CHARACTER}, "prompt", "surrogate"),
    ({"prompt_name": "passage"}, "prompt_name", "passage.*document|document.*passage"),  # what there is instead
    ({"prompt_name": ""}, "prompt_name", ""),
    ({"prompt_name": 3}, "prompt_name", ""),
    ({"prompt": "query: ", "prompt_name": "query"}, "prompt", "prompt_name"),
]


@pytest.mark.parametrize("method", ["encode_queries", "encode_documents", "encode"])
@pytest.mark.parametrize(("options", "argument", "says"), BAD_OPTIONS, ids=lambda value: ascii(value)[:40])
def test_a_call_names_the_option(
    model: ColBERT, method: str, options: dict[str, Any], argument: str, says: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        getattr(model, method)(["a text"], **options)
    check_argument(caught.value, argument, says)


def test_a_bad_option_is_refused_for_no_text_too(model: ColBERT) -> None:
    with pytest.raises(ArgumentError) as caught:
        model.encode_documents([], batch_tokens=0)
    check_argument(caught.value, "batch_tokens")


@pytest.mark.parametrize("batch_tokens", [1, 7, 10**9])
def test_batch_tokens_changes_nothing_but_the_batches(model: ColBERT, batch_tokens: int) -> None:
    texts = ["short", "a somewhat longer text", "", "word " * 300]
    assert model.encode_documents(texts, batch_tokens=batch_tokens) == model.encode_documents(texts)


# --- rerank and similarity ------------------------------------------------------------------------------------------

DOCUMENTS = ["a text about France", "a text about Spain", "nothing"]

BAD_RERANKS: list[tuple[tuple[Any, Any], dict[str, Any], str]] = [
    *(((DOCUMENTS[0], DOCUMENTS), {"top_k": value}, "top_k") for value in NO_COUNT),
    ((["a query"], DOCUMENTS), {}, "query"),
    ((None, DOCUMENTS), {}, "query"),
    ((3, DOCUMENTS), {}, "query"),
    ((b"a query", DOCUMENTS), {}, "query"),
    ((HALF_A_CHARACTER, DOCUMENTS), {}, "query"),
    (("a query", "one document"), {}, "documents"),
    (("a query", None), {}, "documents"),
    (("a query", 3), {}, "documents"),
    (("a query", ["fine", None]), {}, "documents"),
    (("a query", ["fine", HALF_A_CHARACTER]), {}, "documents"),
]


@pytest.mark.parametrize(("arguments", "options", "argument"), BAD_RERANKS, ids=lambda value: ascii(value)[:40])
def test_rerank_names_the_argument(
    model: ColBERT, arguments: tuple[Any, Any], options: dict[str, Any], argument: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        model.rerank(*arguments, **options)
    check_argument(caught.value, argument)


def test_rerank_names_the_document(model: ColBERT) -> None:
    mixed: list[Any] = ["fine", "fine", 3]
    with pytest.raises(ArgumentError) as caught:
        model.rerank("a query", mixed)
    check_argument(caught.value, "documents", r"\b2\b")


def test_rerank_of_nothing_is_nothing(model: ColBERT) -> None:
    assert model.rerank("a query", []) == []
    assert model.rerank("a query", [], top_k=3) == []
    assert model.rerank("a query", model.encode_documents([])) == []


def test_rerank_gives_what_there_is(model: ColBERT) -> None:
    ranked = model.rerank("a query", DOCUMENTS, top_k=1_000)
    assert sorted(item.index for item in ranked) == [0, 1, 2]
    assert [item.text for item in ranked] == [DOCUMENTS[item.index] for item in ranked]
    assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)


def test_rerank_refuses_vectors_of_another_model(model: ColBERT) -> None:
    with pytest.raises(ShapeError, match=r"(?s)\b32\b.*\b16\b|\b16\b.*\b32\b"):
        model.rerank("a query", MultiVectors.from_arrays([rows(4, 16)]))


@pytest.mark.parametrize("wrong", [None, 3, AnObject()], ids=repr)
def test_similarity_names_the_argument(model: ColBERT, wrong: Any) -> None:
    vectors = model.encode_documents(DOCUMENTS)
    for arguments, argument in (((wrong, vectors), "queries"), ((vectors, wrong), "documents")):
        with pytest.raises(ArgumentError) as caught:
            model.similarity(*arguments)
        check_argument(caught.value, argument)


# --- maxsim, maxsim_matrix, top_k -----------------------------------------------------------------------------------

QUERY, DOCUMENT = rows(4, 8, seed=1), rows(6, 8, seed=2)


def with_value(value: float, dtype: type = np.float32) -> npt.NDArray[Any]:
    """A matrix with one odd number in its last row."""
    array: npt.NDArray[Any] = DOCUMENT.astype(dtype)
    array[-1, -1] = value
    return array


# (what, the matrix, the error, what the message must name)
BAD_MATRICES: list[tuple[str, Any, type[Exception], str]] = [
    ("one row, flat", DOCUMENT[0], ShapeError, "1"),
    ("three axes", DOCUMENT[None, :, :, None], ShapeError, "4"),
    ("no axis", np.array(1, np.float32), ShapeError, ""),
    ("another dimension", rows(6, 5), ShapeError, r"(?s)\b8\b.*\b5\b|\b5\b.*\b8\b"),
    ("no dimension", np.zeros((6, 0), np.float32), ShapeError, r"\b0\b"),
    # The best of no tokens is no number: nothing to score.
    ("no token", np.zeros((0, 8), np.float32), ShapeError, ""),
    ("NaN", with_value(NAN), ArgumentError, "nan|finite"),
    ("infinity", with_value(INF), ArgumentError, "inf|finite"),
    ("minus infinity", with_value(-INF), ArgumentError, "inf|finite"),
    ("NaN as float64", with_value(NAN, np.float64), ArgumentError, "nan|finite"),
    ("more than a float32 holds", with_value(1e300, np.float64), ArgumentError, "inf|finite|float32"),
    ("infinity as float16", with_value(INF, np.float16), ArgumentError, "inf|finite"),
    ("complex", DOCUMENT.astype(np.complex64), ArgumentError, "complex"),
    ("bool", DOCUMENT > 0, ArgumentError, "bool"),
    ("str", np.full((6, 8), "1"), ArgumentError, "<U1|str"),
    ("objects", DOCUMENT.astype(object), ArgumentError, "object"),
    ("dates", np.zeros((6, 8), "datetime64[s]"), ArgumentError, "datetime"),
    ("None", None, ArgumentError, "None"),
    ("a number", 3, ArgumentError, "int"),
    ("a text", "text", ArgumentError, "str"),
]
MATRIX_IDS = [what for what, *_ in BAD_MATRICES]


@pytest.mark.parametrize(("what", "wrong", "error", "says"), BAD_MATRICES, ids=MATRIX_IDS)
def test_a_bad_query_is_refused(what: str, wrong: Any, error: type[Exception], says: str) -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: maxsim(wrong, [DOCUMENT]), "query"),
        (lambda: top_k(wrong, [DOCUMENT], 1), "query"),
        (lambda: maxsim_matrix([QUERY, wrong], [DOCUMENT]), r"quer(y|ies).*\b1\b"),
    ]
    for call, argument in calls:
        with pytest.raises(error) as caught:
            call()
        assert re.search(f"(?si){argument}", str(caught.value)), str(caught.value)
        assert re.search(says, str(caught.value), re.IGNORECASE), str(caught.value)


@pytest.mark.parametrize(("what", "wrong", "error", "says"), BAD_MATRICES, ids=MATRIX_IDS)
def test_a_bad_document_is_refused_with_its_index(what: str, wrong: Any, error: type[Exception], says: str) -> None:
    documents = [DOCUMENT, DOCUMENT, wrong]
    calls: list[Callable[[], object]] = [
        lambda: maxsim(QUERY, documents),
        lambda: top_k(QUERY, documents, 1),
        lambda: maxsim_matrix([QUERY], documents),
    ]
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        assert re.search(r"(?si)document.*\b2\b", str(caught.value)), str(caught.value)
        assert re.search(says, str(caught.value), re.IGNORECASE), str(caught.value)


@pytest.mark.parametrize("wrong", [None, 3, "text", b"bytes", DOCUMENT, {"a": DOCUMENT}], ids=lambda v: str(type(v)))
def test_documents_are_a_list_of_matrices(wrong: Any) -> None:
    # One matrix alone is refused too: its rows would pass for documents.
    for call in (maxsim, lambda query, documents: top_k(query, documents, 1)):
        with pytest.raises((ArgumentError, ShapeError), match="documents"):
            call(QUERY, wrong)
    with pytest.raises((ArgumentError, ShapeError), match="documents"):
        maxsim_matrix([QUERY], wrong)
    with pytest.raises((ArgumentError, ShapeError), match="queries"):
        maxsim_matrix(wrong, [DOCUMENT])


def test_no_document_gives_no_score() -> None:
    assert maxsim(QUERY, []).shape == (0,)
    assert maxsim_matrix([QUERY], []).shape == (1, 0)
    assert maxsim_matrix([], [DOCUMENT]).shape == (0, 1)
    indices, scores = top_k(QUERY, [], 3)
    assert indices.shape == scores.shape == (0,)


@pytest.mark.parametrize("k", [*NO_COUNT, None], ids=ascii)
def test_top_k_names_k(k: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        top_k(QUERY, [DOCUMENT], k)
    check_argument(caught.value, "k")


def test_top_k_gives_what_there_is() -> None:
    indices, scores = top_k(QUERY, [DOCUMENT, -DOCUMENT], 1_000)
    assert sorted(indices.tolist()) == [0, 1]
    assert scores[0] >= scores[1]
    assert indices.dtype == np.int64
    assert scores.dtype == np.float32


def read_only(array: Floats) -> Floats:
    """The same numbers, not to be written."""
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array: Floats) -> Floats:
    """The same numbers, one byte off."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


# The same numbers in another form: the same scores.
FORMS: list[tuple[str, Callable[[Floats], npt.NDArray[Any]]]] = [
    ("float64", lambda a: a.astype(np.float64)),
    ("big-endian float32", lambda a: a.astype(">f4")),
    ("big-endian float64", lambda a: a.astype(">f8")),
    ("column by column", np.asfortranarray),
    ("every second row", lambda a: np.repeat(a, 2, axis=0)[::2]),
    ("every second column", lambda a: np.repeat(a, 2, axis=1)[:, ::2]),
    ("backwards", lambda a: a[::-1, ::-1].copy()[::-1, ::-1]),
    ("read-only", read_only),
    ("unaligned", unaligned),
    ("a subclass", lambda a: a.view(np.recarray)),
]


@pytest.mark.parametrize(("what", "form"), FORMS)
def test_any_form_of_the_same_numbers_scores_the_same(what: str, form: Callable[[Floats], npt.NDArray[Any]]) -> None:
    documents = [DOCUMENT, -DOCUMENT[:1], DOCUMENT[::-1]]
    expected = [(QUERY.astype(np.float64) @ document.T).max(axis=1).sum() for document in documents]
    formed = [form(document) for document in documents]
    np.testing.assert_allclose(maxsim(form(QUERY), formed), expected, atol=1e-5)
    np.testing.assert_allclose(maxsim_matrix([form(QUERY)], formed), [expected], atol=1e-5)
    indices, scores = top_k(form(QUERY), formed, 3)
    np.testing.assert_allclose(scores, np.array(expected)[indices], atol=1e-5)


def test_float16_scores_as_the_numbers_it_holds() -> None:
    query, document = QUERY.astype(np.float16), DOCUMENT.astype(np.float16)
    expected = (query.astype(np.float64) @ document.astype(np.float64).T).max(axis=1).sum()
    np.testing.assert_allclose(maxsim(query, [document]), [expected], atol=1e-5)
    half = MultiVectors.from_arrays([DOCUMENT]).astype("float16")
    np.testing.assert_allclose(maxsim(query, half), [expected], atol=1e-5)


# --- MultiVectors ---------------------------------------------------------------------------------------------------

DATA = rows(5, 4)


def offsets(*numbers: int) -> npt.NDArray[np.int64]:
    """Row offsets."""
    return np.array(numbers, np.int64)


# (what, data, offsets, the error, what the message must name); DATA has 5 rows
BAD_VECTORS: list[tuple[str, Any, Any, type[Exception], str]] = [
    ("not from 0", DATA, offsets(1, 5), ShapeError, "offsets"),
    ("from below 0", DATA, offsets(-1, 5), ShapeError, "offsets"),
    ("decreasing", DATA, offsets(0, 3, 2, 5), ShapeError, "offsets"),
    ("below 0 on the way", DATA, offsets(0, -2, 5), ShapeError, "offsets"),
    ("beyond the rows", DATA, offsets(0, 3, 6), ShapeError, r"\b6\b.*\b5\b|\b5\b.*\b6\b"),
    ("far beyond the rows", DATA, offsets(0, 2**62), ShapeError, "offsets"),
    ("rows left over", DATA, offsets(0, 3), ShapeError, r"\b3\b.*\b5\b|\b5\b.*\b3\b"),
    ("no offset", DATA, offsets(), ShapeError, "offsets"),
    ("offsets of two axes", DATA, offsets(0, 5)[None], ShapeError, "offsets"),
    ("offsets of floats", DATA, np.array([0.0, 5.0]), ArgumentError, "offsets.*float64"),
    ("offsets of bools", DATA[:1], np.array([False, True]), ArgumentError, "offsets.*bool"),
    ("offsets of str", DATA, np.array(["0", "5"]), ArgumentError, "offsets"),
    ("offsets None", DATA, None, ArgumentError, "offsets"),
    ("data flat", DATA[0], offsets(0, 4), ShapeError, "data"),
    ("data of three axes", DATA[None], offsets(0, 1), ShapeError, "data"),
    ("data of integers", DATA.astype(np.int64), offsets(0, 5), ArgumentError, "data.*int64"),
    ("data of objects", DATA.astype(object), offsets(0, 5), ArgumentError, "data.*object"),
    ("data complex", DATA.astype(np.complex64), offsets(0, 5), ArgumentError, "data.*complex"),
    ("data None", None, offsets(0, 5), ArgumentError, "data"),
    ("data a text", "data", offsets(0, 5), ArgumentError, "data"),
]


@pytest.mark.parametrize(
    ("what", "data", "bounds", "error", "says"), BAD_VECTORS, ids=[what for what, *_ in BAD_VECTORS]
)
def test_multivectors_are_checked(what: str, data: Any, bounds: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        MultiVectors(data, bounds)
    assert re.search(f"(?s){says}", str(caught.value)), str(caught.value)


def test_multivectors_take_read_only_arrays_and_empty_documents() -> None:
    bounds = offsets(0, 0, 2, 2, 5)
    bounds.flags.writeable = False
    vectors = MultiVectors(read_only(DATA), bounds)
    assert [len(matrix) for matrix in vectors] == [0, 2, 0, 3]
    np.testing.assert_array_equal(vectors[3], DATA[2:])


@pytest.mark.parametrize("index", [4, -5, 10**30])
def test_an_index_out_of_range(index: int) -> None:
    vectors = MultiVectors(DATA, offsets(0, 0, 2, 2, 5))
    with pytest.raises(IndexError):
        vectors[index]


@pytest.mark.parametrize("index", ["0", 1.5, None, (0, 1)], ids=repr)
def test_an_index_of_a_wrong_type(index: Any) -> None:
    with pytest.raises(TypeError):
        MultiVectors(DATA, offsets(0, 5))[index]


def test_equality_with_anything_is_an_answer() -> None:
    vectors = MultiVectors(DATA, offsets(0, 5))
    assert vectors == MultiVectors(DATA.copy(), offsets(0, 5))
    for other in (MultiVectors(DATA, offsets(0, 2, 5)), MultiVectors(DATA[:, :3], offsets(0, 5)), None, "text"):
        assert vectors != other


BAD_ARRAYS: list[tuple[str, Any, type[Exception], str]] = [
    ("None", None, ArgumentError, "None"),
    ("a text", "text", ArgumentError, "str"),
    ("a list with None", [DATA, None], ArgumentError, r"\b1\b"),
    ("a flat array", [DATA, DATA[0]], ShapeError, r"\b1\b"),
    ("other dimensions", [DATA, DATA, DATA[:, :3]], ShapeError, r"\b2\b"),
    ("integers", [DATA, DATA.astype(np.int32)], ArgumentError, r"\b1\b"),
]


@pytest.mark.parametrize(("what", "arrays", "error", "says"), BAD_ARRAYS, ids=[what for what, *_ in BAD_ARRAYS])
def test_from_arrays_names_the_array(what: str, arrays: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        MultiVectors.from_arrays(arrays)


def test_concat_joins_what_fits() -> None:
    four, three = MultiVectors(DATA, offsets(0, 5)), MultiVectors(DATA[:, :3], offsets(0, 5))
    with pytest.raises(ShapeError, match=r"(?s)\b3\b.*\b4\b|\b4\b.*\b3\b"):
        MultiVectors.concat([four, three])
    strangers: list[Any] = [[four, None], [four, "text"], None, 3]
    for wrong in strangers:
        with pytest.raises(ArgumentError):
            MultiVectors.concat(wrong)


@pytest.mark.parametrize("dtype", ["float99", "int8", "", "complex64", None, 3], ids=repr)
def test_astype_says_what_there_is(dtype: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        MultiVectors(DATA, offsets(0, 5)).astype(dtype)
    check_argument(caught.value, "dtype", "float16")


# --- MultiVectors in a file -----------------------------------------------------------------------------------------


def saved(path: Path) -> bytes:
    """The content of a sound file."""
    MultiVectors(DATA, offsets(0, 2, 5)).save(path)
    return path.read_bytes()


def with_offsets(content: bytes, *numbers: int) -> bytes:
    """The same file with other row offsets, found by their type."""
    start = 8 + struct.unpack_from("<Q", content)[0]
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    begin, end = next(entry["data_offsets"] for entry in header.values() if entry["dtype"] == "I64")
    new = struct.pack(f"<{len(numbers)}q", *numbers)
    assert len(new) == end - begin
    return content[: start + begin] + new + content[start + end :]


def tensors(**entries: tuple[str, list[int], bytes]) -> bytes:
    """A well-formed safetensors file."""
    header, data = {}, b""
    for name, (dtype, shape, chunk) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(chunk)]}
        data += chunk
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


DAMAGED_FILES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("empty", lambda c: b""),
    ("7 bytes", lambda c: c[:7]),
    ("cut in the header", lambda c: c[:20]),
    ("cut in the data", lambda c: c[:-3]),
    ("garbage", lambda c: b"\xff" * 500),
    ("words", lambda c: b"no vectors in here, and more than eight bytes"),
    ("header of length 2**63", lambda c: struct.pack("<Q", 2**63) + c[8:]),
    ("header of length 2**64 - 1", lambda c: struct.pack("<Q", 2**64 - 1) + c[8:]),
    ("header nested 100,000 deep", lambda c: struct.pack("<Q", 100_000) + b"[" * 100_000),
    ("no tensor", lambda c: tensors()),
    ("tensors of something else", lambda c: tensors(weight=("F32", [2, 2], bytes(16)))),
    ("data of bytes", lambda c: tensors(data=("U8", [2, 2], bytes(4)), offsets=("I64", [2], offsets(0, 2).tobytes()))),
    ("offsets alone", lambda c: tensors(offsets=("I64", [2], offsets(0, 2).tobytes()))),
    ("data alone", lambda c: tensors(data=("F32", [2, 2], bytes(16)))),
    ("offsets not from 0", lambda c: with_offsets(c, 1, 2, 5)),
    ("offsets decreasing", lambda c: with_offsets(c, 0, 6, 5)),
    ("offsets beyond the rows", lambda c: with_offsets(c, 0, 2, 2**62)),
    ("offsets below 0", lambda c: with_offsets(c, 0, -(2**63), 5)),
]


@pytest.mark.parametrize(("what", "damage"), DAMAGED_FILES, ids=[what for what, _ in DAMAGED_FILES])
def test_a_damaged_file_is_named(what: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "vectors.safetensors"
    path.write_bytes(damage(saved(path)))
    with pytest.raises(ChandelierError, match=r"vectors\.safetensors"):
        MultiVectors.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="vectors"):
        MultiVectors.load(tmp_path / "vectors.safetensors")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MultiVectors(DATA, offsets(0, 5)).save(tmp_path / "nowhere" / "vectors.safetensors")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=tmp_path.name):
        MultiVectors.load(tmp_path)
    with pytest.raises(OSError, match=tmp_path.name):
        MultiVectors(DATA, offsets(0, 5)).save(tmp_path)


@pytest.mark.parametrize("path", [None, 3, b"vectors", "nul\x00byte"], ids=repr)
def test_a_file_name_that_is_none(path: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        MultiVectors.load(path)
    check_argument(caught.value, "path")
    with pytest.raises(ArgumentError) as caught:
        MultiVectors(DATA, offsets(0, 5)).save(path)
    check_argument(caught.value, "path")


# --- MeanVector -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [*NO_COUNT, None], ids=ascii)
def test_mean_vector_names_dim(dim: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        MeanVector(dim)
    check_argument(caught.value, "dim")


@pytest.mark.parametrize("method", ["encode_queries", "encode_documents"])
def test_mean_vector_wants_its_dimension(method: str) -> None:
    encode = getattr(MeanVector(8), method)
    with pytest.raises(ShapeError, match=r"(?s)\b8\b.*\b5\b|\b5\b.*\b8\b"):
        encode([DOCUMENT, rows(6, 5)])
    with pytest.raises(ArgumentError, match=r"(?i)nan|finite"):
        encode([with_value(NAN)])
    assert encode([]).shape == (0, 8)


# --- the errors themselves ------------------------------------------------------------------------------------------


def raised(call: Callable[[], object]) -> Exception:
    """The error that a call really raises, with all that the library put into it."""
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def model_error(folder: Path) -> object:
    """Fails on a checkpoint whose modules.json is a number."""
    (folder / "modules.json").write_text("3", encoding="utf-8")
    return ColBERT(folder)


FAILURES: list[tuple[type[Exception], Callable[[Path], object], tuple[str, ...]]] = [
    (ModelError, model_error, ("file", "key")),
    (ArgumentError, lambda folder: ColBERT(CHECKPOINT, threads=0), ("argument",)),
    (DeviceError, lambda folder: ColBERT(CHECKPOINT, device="cdua"), ()),
    (ShapeError, lambda folder: maxsim(QUERY, [rows(6, 5)]), ()),
    (FileNotFoundError, lambda folder: ColBERT(folder / "nowhere"), ()),
]


@pytest.mark.parametrize(("kind", "fail", "fields"), FAILURES, ids=[kind.__name__ for kind, *_ in FAILURES])
def test_an_error_comes_back_from_pickle(
    kind: type[Exception], fail: Callable[[Path], object], fields: tuple[str, ...], tmp_path: Path
) -> None:
    error = raised(lambda: fail(tmp_path))
    assert type(error) is kind
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    for twin in (*copies, copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        for field in fields:
            assert getattr(twin, field) == getattr(error, field)


def test_every_exported_error_comes_back_from_pickle() -> None:
    kinds = {value for value in vars(exceptions).values() if isinstance(value, type)}
    kinds = {kind for kind in kinds if issubclass(kind, ChandelierError)}
    assert kinds >= {ChandelierError, ModelError, ArgumentError, ShapeError, DeviceError}
    for kind in kinds:
        assert getattr(chandelier, kind.__name__) is kind
        twin = pickle.loads(pickle.dumps(kind("a message")))
        assert type(twin) is kind
        assert str(twin) == "a message"


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (ChandelierError, (Exception,)),
        (ModelError, (ChandelierError,)),
        (ArgumentError, (ChandelierError, ValueError)),
        (ShapeError, (ChandelierError, ValueError)),
        (DeviceError, (ChandelierError,)),
    ],
)
def test_the_tree_of_errors(kind: type[Exception], bases: tuple[type[Exception], ...]) -> None:
    assert all(issubclass(kind, base) for base in bases)
    assert kind.__doc__


def test_a_model_survives_every_refusal(model: ColBERT) -> None:
    before = model.encode_documents(DOCUMENTS)
    for wrong, _ in BAD_TEXTS:
        raised(lambda wrong=wrong: model.encode_documents(wrong))  # type: ignore[misc]
    assert model.encode_documents(DOCUMENTS) == before


# --- PyLate's words -------------------------------------------------------------------------------------------------


def test_encode_takes_pylates_options(capsys: pytest.CaptureFixture[str]) -> None:
    model = ColBERT(CHECKPOINT)
    rows = model.encode(["one, two", "three"], batch_size=1, is_query=False, show_progress_bar=True)
    assert all(
        np.array_equal(mine, theirs)
        for mine, theirs in zip(rows, model.encode_documents(["one, two", "three"]), strict=True)
    )
    assert "encoding documents" in capsys.readouterr().err


@pytest.mark.parametrize("value", NO_COUNT)
def test_batch_size_is_a_count(value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        ColBERT(CHECKPOINT).encode(["one, two", "three"], batch_size=value)
    assert caught.value.argument == "batch_size"
