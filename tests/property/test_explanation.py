"""Laws of the spans of an explanation, for every kind of tokenizer and any text: each token is where its span says."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given

from chandelier import ColBERT, Explanation

_spec = importlib.util.spec_from_file_location("invariance", Path(__file__).with_name("test_invariance.py"))
assert _spec is not None
assert _spec.loader is not None
invariance = sys.modules["invariance"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(invariance)
NASTY = invariance.NASTY

# WordPiece that lowercases and strips accents; byte-level BPE over NFC, over nothing, and with another split;
# SentencePiece over NFKC.
BYTE_LEVEL = ["h_modernbert_v5", "p_lfm2_pylate", "x2_qwen3_bidirectional"]
KINDS = ["a_bert_pylate", *BYTE_LEVEL, "l_xlmr_pylate"]
WORDS = "The Lighthouse, over the ROCKS -- keeps 12 ships safe since 1868; café naïve"


def byte_alphabet() -> dict[str, int]:
    """The characters that byte-level tokens are written in, as GPT-2 chose them."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


BYTES = byte_alphabet()


def bare(text: str) -> str:
    """Without what tokenizers drop or add on their own account: accents, control characters, white space."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if unicodedata.category(c)[0] not in "MC" and not c.isspace()).lower()


def is_there(kind: str, token: str, words: str) -> bool:
    """Whether a token can have come from these words."""
    if kind in BYTE_LEVEL and set(token) <= set(BYTES):
        spelled = bytes(BYTES[c] for c in token).strip(b" ")
        return any(spelled in form.encode() for form in (words, unicodedata.normalize("NFC", words)))
    return bare(token.removeprefix("##").strip("▁")) in bare(words)


def is_space(character: str) -> bool:
    """Unicode's white space; Python counts four control characters more."""
    return character.isspace() and character not in "\x1c\x1d\x1e\x1f"


def extends(character: str) -> bool:
    """Whether it makes one character with what is before it, be that a space."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf", "Sk")


def check(kind: str, explanation: Explanation) -> None:
    text = explanation.document
    assert explanation.document_seen[0] == 0
    last = 0
    for token, span in zip(explanation.document_tokens, explanation.document_spans, strict=True):
        if span is None:
            continue
        start, end = span
        assert 0 <= start < end <= len(text), (token, span)
        assert start >= last, "spans go backwards"
        last = start
        words = text[start:end]
        assert not is_space(words[0]) or not words.strip() or extends(words.lstrip()[0]), (token, words)
        assert not is_space(words[-1]) or all(map(is_space, words)), (token, words)
        if token not in ("[UNK]", "<unk>"):
            assert is_there(kind, token, words), (token, words)
    for span in explanation.spans():
        assert text[span.start : span.end]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(kind: str, goldens: Path) -> ColBERT:
    return ColBERT(goldens / kind / "checkpoint", skiplist_words=[])


@given(text=NASTY)
def test_every_token_is_where_its_span_says(kind: str, model: ColBERT, text: str) -> None:
    explanation = model.explain("the moon", text)
    check(kind, explanation)
    if explanation.document_seen == (0, len(text)):
        covered = {place for span in explanation.document_spans if span for place in range(*span)}
        letters = {place for place, c in enumerate(text) if c.isascii() and c.isalnum()}
        specials = [found.span() for found in re.finditer(r"\[\w+\] ?", text)]
        letters -= {place for span in specials for place in range(*span)}
        assert letters <= covered, "a letter belongs to no token"


def test_every_golden_text(kind: str, model: ColBERT, goldens: Path) -> None:
    inputs = json.loads((goldens / "a_bert_pylate" / "inputs.json").read_text(encoding="utf-8"))
    for text in inputs["queries"] + inputs["documents"]:
        check(kind, model.explain("the moon", text))


def test_words_are_words(model: ColBERT) -> None:
    """No span crosses from one word into the next, and the spans of a word make it up."""
    explanation = model.explain("the moon", f" \t{WORDS}\n")
    spans = [span for span in explanation.document_spans if span and explanation.document[slice(*span)].strip()]
    for word in re.finditer(r"\S+", explanation.document):
        inside = [span for span in spans if span[0] < word.end() and span[1] > word.start()]
        assert inside, word
        assert all(word.start() <= start and end <= word.end() for start, end in inside), (word, inside)
        covered = {place for span in inside for place in range(*span)}
        assert covered == set(range(*word.span())), (word, inside)


@pytest.mark.parametrize("lead", ["\x07", "\x00\x01", "\x1b\x07 ", "\x1bé\x07", "\u200b\x07"])
def test_control_characters_in_front_move_nothing(model: ColBERT, lead: str) -> None:
    """SentencePiece's normaliser loses count of those that it removes before any other character."""
    explanation = model.explain("moon", f"{lead}the élan of the moon")
    words = [explanation.document[slice(*span)] for span in explanation.document_spans if span]
    assert words[-1][-1] == "n"
    start = explanation.document.index("moon")
    assert start in {span[0] for span in explanation.document_spans if span}


@pytest.mark.parametrize(
    "text", ["\x07Paris is the \x07capital e\x07\u0301", "\x07\x07 a e\x07\u0301 capital e\x00\u0308 of"]
)
def test_control_characters_that_have_to_stay_move_nothing(kind: str, model: ColBERT, text: str) -> None:
    """Without the one before it, an accent would join its letter, and the tokens would be others."""
    explanation = model.explain("moon", text)
    check(kind, explanation)
    start = text.index("capital")
    assert any(span[0] in (start, start - 1) and span[1] > start for span in explanation.document_spans if span)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("a 👩\u200d👩\u200d👧 b", "👩\u200d👩\u200d👧"),
        ("a 🇫🇷 b", "🇫🇷"),
        ("a 👍🏽 b", "👍🏽"),
        ("a cafe\u0301 b", "e\u0301"),
        ("a \u1112\u1161\u11ab b", "\u1112\u1161\u11ab"),
        ("a हि b", "हि"),
        ("a \u05e9\u05c1\u05b8 b", "\u05e9\u05c1\u05b8"),
    ],
)
def test_what_is_read_as_one_character_is_never_cut(model: ColBERT, text: str, whole: str) -> None:
    explanation = model.explain("the moon", text)
    start = text.index(whole)
    inside = [span for span in explanation.document_spans if span and span[0] < start + len(whole) and span[1] > start]
    assert inside
    for span in inside:
        assert span[0] <= start
        assert span[1] >= start + len(whole)


def test_tokens_with_spans_are_those_that_are_encoded(model: ColBERT) -> None:
    for text in ("\x07abc de", "\x00\x01\x02", "\x1b[31m red", "  \x07 x", "\x07\u0301e"):
        tokens, rows = model.tokenize_documents([text])[0], model.encode_documents([text])
        assert tokens.keep.sum() == len(rows.data)
