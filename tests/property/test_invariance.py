"""Laws of encoding: what may not change a bit of a text's rows, and what every row and every offset obeys."""

from __future__ import annotations

import json
import random
import shutil
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandelier import ColBERT, MultiVectors, Tokens

WORDS = ["the", "lighthouse", "keeper", "lights", "a", "lamp", "ships", "rocks,", "fog;", "café", "東京", "🌊", "(sea)"]


def forty_documents() -> list[str]:
    """Forty texts of mixed length: empty, one word, ..., some past the limit of 180 tokens."""
    source = random.Random(40)
    lengths = [0, 1, 400, 1, 250, *(source.choice([2, 5, 12, 30, 60, 90, 140]) for _ in range(35))]
    return [" ".join(source.choices(WORDS, k=length)) for length in lengths]


def copy_checkpoint(goldens: Path, case: str, to: Path, file: str, **changes: object) -> Path:
    """A golden checkpoint with some keys of one JSON file set otherwise."""
    shutil.copytree(goldens / case / "checkpoint", to, dirs_exist_ok=True)
    config = json.loads((to / file).read_text(encoding="utf-8"))
    (to / file).write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return to


# --- company, order, batches, threads -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["a_bert_pylate", "r_minilm_real"])
def model(request: pytest.FixtureRequest, open_model: Callable[[str], ColBERT]) -> ColBERT:
    return open_model(request.param)


@pytest.fixture(scope="module")
def alone(model: ColBERT) -> MultiVectors:
    """The forty documents, each in a call of its own."""
    return MultiVectors.concat([model.encode_documents([text]) for text in forty_documents()])


def test_forty_in_one_call_are_forty_calls(model: ColBERT, alone: MultiVectors) -> None:
    together = model.encode_documents(forty_documents())
    counts = np.diff(together.offsets)
    assert (counts.min(), counts.max()) == (3, np.diff(alone.offsets).max())
    assert together == alone


@pytest.mark.parametrize("order", ["reversed", "shuffled", "shortest first"])
def test_any_order(model: ColBERT, alone: MultiVectors, order: str) -> None:
    texts = forty_documents()
    places = list(range(len(texts)))
    if order == "reversed":
        places.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(places)
    else:
        places.sort(key=lambda place: len(texts[place]))
    encoded = model.encode_documents([texts[place] for place in places])
    assert encoded == MultiVectors.from_arrays([alone[place] for place in places])


@pytest.mark.parametrize("batch_tokens", [1, 7, 256, 10**6])
def test_any_batch(model: ColBERT, alone: MultiVectors, batch_tokens: int) -> None:
    assert model.encode_documents(forty_documents(), batch_tokens=batch_tokens) == alone
    queries = forty_documents()[:10]
    assert model.encode_queries(queries, batch_tokens=batch_tokens) == model.encode_queries(queries)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_any_number_of_threads(model: ColBERT, alone: MultiVectors, threads: int) -> None:
    handle = ColBERT(model.name, threads=threads)
    assert handle.threads == threads
    assert handle.encode_documents(forty_documents()) == alone
    assert handle.encode_documents(forty_documents(), batch_tokens=7) == alone


def test_two_runs_are_bit_for_bit_equal(model: ColBERT) -> None:
    assert model.encode_documents(forty_documents()) == model.encode_documents(forty_documents())


def test_any_iterable_and_any_door(tiny: ColBERT) -> None:
    texts = forty_documents()
    rows = tiny.encode_documents(texts)
    assert tiny.encode_documents(tuple(texts)) == rows
    assert tiny.encode_documents(text for text in texts) == rows
    assert MultiVectors.from_arrays(tiny.encode(texts)) == rows
    assert np.array_equal(tiny.encode(texts[3]), tiny.encode_documents(texts[3:4])[0])
    assert tiny.encode_documents([]) == MultiVectors.from_arrays([], dim=tiny.dim)


# --- nasty texts ----------------------------------------------------------------------------------------------------

SPACES = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
INVISIBLE = "\u200b\u200d\u200e\u200f\u202e\ufeff\xad\ufe0f\x00\x01\x07\x1b\x7f\x9f"
MARKS = "\u0301\u0308\u0323\u0351\u036b\u05b8\u064b\u0e31\u20e3"
LETTERS = "aZéÉñßẞİıſΣσςǅﬁﬃÅK日本語かがガ한ㅏمرحباשלוםहि🌊👩👨🇫🇷🏽𝔘𓀀\U000e0041\ue000\uffff\U0010ffff"  # noqa: RUF001
PIECES = [
    "[Q] ",
    "[D] ",
    "[q] ",
    "[MASK]",
    "[mask]",
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "[UNK]",
    "##ing",
    "##",
    "paris",
    "Moon",
    "THE",
]
NASTY = st.lists(
    st.sampled_from([*SPACES, *INVISIBLE, *MARKS, *LETTERS, *string.punctuation, *PIECES])
    | st.text(alphabet=string.ascii_letters + "  ", max_size=12)
    | st.text(alphabet=st.characters(codec="utf-8"), max_size=3),
    max_size=24,
).map("".join)


def letters_of(token: str) -> str:
    return token.removeprefix("##")


def check_offsets(text: str, tokens: Tokens) -> None:
    """Every span lies in the text, spans do not go backwards, and a plain word is found where its span says."""
    assert tokens.offsets.dtype == np.int64
    last = 0
    for token, (start, end) in zip(tokens.tokens, tokens.offsets.tolist(), strict=True):
        assert 0 <= start <= end <= len(text), (token, start, end)
        if start == end:
            assert (start, end) == (0, 0), (token, start, end)
            continue
        assert start >= last or end > last, "spans go backwards"
        last = start
        span = text[start:end]
        word = letters_of(token)
        if span.isascii() and word.isascii() and word.isalnum():
            assert "".join(filter(str.isprintable, span)).lower() == word, (token, span)


def check_text(model: ColBERT, text: str) -> None:
    for role in ("query", "document"):
        tokens = (model.tokenize_queries if role == "query" else model.tokenize_documents)([text])[0]
        rows = (model.encode_queries if role == "query" else model.encode_documents)([text])[0]
        assert len(rows) == tokens.keep.sum()
        assert len(tokens.ids) <= (model.query_length if role == "query" else model.document_length)
        assert np.isfinite(rows).all()
        assert np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1).max() < 1e-5
        check_offsets(text, tokens)
        assert tokens.offsets[0].tolist() == [0, 0], "[CLS] is no part of the text"


@given(text=NASTY)
def test_nasty_texts(tiny: ColBERT, text: str) -> None:
    check_text(tiny, text)


@given(texts=st.lists(NASTY, max_size=6), batch_tokens=st.integers(1, 400))
def test_nasty_texts_in_company(tiny: ColBERT, texts: list[str], batch_tokens: int) -> None:
    together = tiny.encode_documents(texts, batch_tokens=batch_tokens)
    assert len(together) == len(texts)
    for rows, text in zip(together, texts, strict=True):
        assert np.array_equal(rows, tiny.encode_documents([text])[0])


@given(text=NASTY, left=st.text(SPACES, max_size=4), right=st.text(SPACES, max_size=4))
def test_white_space_around_a_text_changes_nothing(tiny: ColBERT, text: str, left: str, right: str) -> None:
    """As Python's `str.strip` sees white space, U+001C to U+001F included; only the offsets move."""
    bare, padded = tiny.tokenize_documents([text.strip(), left + text + right])
    assert bare.ids.tolist() == padded.ids.tolist()
    moved = len(left + text) - len((left + text).lstrip())
    assert all(
        after == before or after == [place + moved for place in before]
        for before, after in zip(bare.offsets.tolist(), padded.offsets.tolist(), strict=True)
    )


def test_real_weights_on_nasty_texts(minilm: ColBERT) -> None:
    for text in (
        "",
        SPACES,
        INVISIBLE,
        MARKS,
        LETTERS,
        "".join(PIECES),
        " ".join(PIECES),
        string.punctuation,
        "a" * 5000,
    ):
        check_text(minilm, text)


@pytest.fixture(scope="module")
def lowercasing(goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> ColBERT:
    """Golden a with `do_lower_case`: the text is lower-cased before the tokenizer sees it, and may grow by that."""
    folder = tmp_path_factory.mktemp("lowercasing")
    return ColBERT(copy_checkpoint(goldens, "a_bert_pylate", folder, "sentence_bert_config.json", do_lower_case=True))


@given(text=NASTY)
def test_nasty_texts_in_lower_case(lowercasing: ColBERT, tiny: ColBERT, text: str) -> None:
    check_text(lowercasing, text)
    ours, pythons = lowercasing.tokenize_documents([text])[0], tiny.tokenize_documents([text.strip().lower()])[0]
    assert ours.ids.tolist() == pythons.ids.tolist()


@pytest.mark.parametrize("before", ["", "İ", "İİİ ", "  İ\x1c İ", "ẞ İstanbul, ", "ΟΔΥΣΣΕΥΣ "])
def test_offsets_survive_letters_that_grow(lowercasing: ColBERT, before: str) -> None:
    text = f"{before} the MOON and the Sea{before}"
    tokens = lowercasing.tokenize_documents([text])[0]
    spans = [text[start:end] for start, end in tokens.offsets.tolist()]
    for word in ("MOON", "Sea"):
        pieces = [span for span in spans if span and span in word]
        assert "".join(pieces).startswith(word), (spans, tokens.tokens)
    check_offsets(text, tokens)


def test_offsets_of_every_golden_text(goldens: Path, tiny: ColBERT, minilm: ColBERT, lowercasing: ColBERT) -> None:
    inputs = json.loads((goldens / "a_bert_pylate" / "inputs.json").read_text(encoding="utf-8"))
    for model in (tiny, minilm, lowercasing):
        for text in inputs["queries"] + inputs["documents"]:
            check_text(model, text)


def test_words_are_where_the_offsets_say(minilm: ColBERT) -> None:
    text = "  The Lighthouse,\tover the Rocks -- keeps 12 ships safe.  "
    tokens = minilm.tokenize_documents([text])[0]
    words = [(word, text[start:end]) for word, (start, end) in zip(tokens.tokens, tokens.offsets.tolist(), strict=True)]
    assert words == [
        ("[CLS]", ""),
        ("[D] ", ""),
        ("the", "The"),
        ("lighthouse", "Lighthouse"),
        (",", ","),
        ("over", "over"),
        ("the", "the"),
        ("rocks", "Rocks"),
        ("-", "-"),
        ("-", "-"),
        ("keeps", "keeps"),
        ("12", "12"),
        ("ships", "ships"),
        ("safe", "safe"),
        (".", "."),
        ("[SEP]", ""),
    ]
    assert [word for (word, _), keep in zip(words, tokens.keep, strict=True) if not keep] == [",", "-", "-", "."]


@pytest.fixture(scope="module")
def prompted(goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> ColBERT:
    """Golden v with its document prompt made the default one, so that tokens of a prompt are seen."""
    folder = tmp_path_factory.mktemp("prompted")
    file = "config_sentence_transformers.json"
    return ColBERT(copy_checkpoint(goldens, "v_prompts", folder, file, default_prompt_name="document"))


@given(text=NASTY)
def test_the_prompt_is_no_part_of_the_text(prompted: ColBERT, text: str) -> None:
    prompt = prompted.prompts["document"]
    assert prompt
    tokens = prompted.tokenize_documents([text])[0]
    check_offsets(text, tokens)
    without = prompted.encode_documents([prompt + text], prompt="")
    assert len(without.data) == tokens.keep.sum()
    assert prompted.encode_documents([text]) == without


def test_tokens_of_the_prompt_have_no_offsets(prompted: ColBERT) -> None:
    tokens = prompted.tokenize_documents(["the moon"])[0]
    spans = tokens.offsets.tolist()
    assert spans[-3:] == [[0, 3], [4, 8], [0, 0]]
    assert spans[:-3] == [[0, 0]] * (len(spans) - 3)
    assert len(spans) > 6, "the prompt has tokens"
