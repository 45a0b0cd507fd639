"""Laws of `ColBERT.windows`, for every kind of tokenizer and any text: each part is read whole, and all is in one."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandelier import ArgumentError, ColBERT

# WordPiece that lowercases and strips accents; byte-level BPE over NFC and over nothing, the first also for a text as
# it comes, white space and all; SentencePiece over NFKC.
KINDS = ["a_bert_pylate", "h_modernbert_v5", "o_st6_mve_min", "p_lfm2_pylate", "x1_eurobert", "l_xlmr_pylate"]
LONG, LENGTH, SHORT = 96, 24, 8

# Each is read as one character, but the words and white space.
CLUSTERS = [
    "👩\u200d👩\u200d👧",
    "🇫🇷",
    "👍🏽",
    "e\u0301",
    "\u1112\u1161\u11ab",
    "हि",
    "กำ",
    "1\ufe0f\u20e3",
    "水",
    "の",
]
WORDS = ["the", "lighthouse", "keeper,", "a", "rocks;", "don't", "café", "3.14", "antidisestablishmentarianism"]
WHITE = [" ", "  ", "\n", "\r\n", "\t", "\u3000", "\u00a0", "\x1c", " " * 300]
ODD = [
    "\x00",
    "\x07",
    "\u200b",
    "\ufeff",
    "\u0301",
    "\u202e",
    "ﬁ",
    "ẞ",
    "İ",
    "[MASK]",
    "[D] ",
    "</s>",
    "x" * 130,
    "\U0010ffff",
]

SEPARATED = st.lists(st.sampled_from(WORDS), min_size=1, max_size=80).map(" ".join)
ANYTHING = st.one_of(
    SEPARATED,
    st.lists(st.sampled_from(CLUSTERS), max_size=80).map("".join),
    st.lists(st.sampled_from([*CLUSTERS, *WORDS, *WHITE, *ODD]), max_size=80).map("".join),
    st.lists(st.text(max_size=8), max_size=20).map("".join),
    st.text("ab \u0301水", max_size=200),
)


class Reader:
    """A model and the same one with a longer document length, which tells how many tokens a text has."""

    def __init__(self, checkpoint: Path, length: int) -> None:
        self.model = ColBERT(checkpoint, document_length=length)
        self.length = length
        self.longer = ColBERT(checkpoint, document_length=LONG)

    def counts(self, texts: list[str], prompt: str | None = None) -> list[int]:
        return [len(tokens.ids) for tokens in self.longer.tokenize_documents(texts, prompt=prompt)]

    def check(self, text: str, overlap: int | None = None, prompt: str | None = None) -> list[str]:
        """The parts of a text, if all laws hold for them."""
        (ranges,) = self.model.windows([text], overlap=overlap, prompt=prompt)
        parts = [text[start:end] for start, end in ranges]
        whole, empty = self.counts([text, ""], prompt)
        assert self.model.reads_whole([text], prompt=prompt) == [whole <= self.length]
        if whole <= self.length:
            assert ranges == [(0, len(text))]
            return parts
        assert max(self.counts(parts, prompt)) <= self.length, "a part is cut"
        if not text.strip():
            assert ranges == [(0, 0)]
            return parts
        assert all(part and part == part.strip() for part in parts)
        assert all(a < b and c < d for (a, c), (b, d) in itertools.pairwise(ranges)), "a part lies inside another"
        held = {place for start, end in ranges for place in range(start, end)}
        assert not "".join(c for place, c in enumerate(text) if place not in held).strip(), "characters are lost"
        most = (self.length - empty) // 4 if overlap is None else overlap
        common = [text[after:before] for (_, before), (after, _) in itertools.pairwise(ranges)]
        assert all(count - empty <= most for count in self.counts(common, prompt)), "too much is shared"
        return parts


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, goldens: Path) -> Path:
    return goldens / request.param / "checkpoint"


@pytest.fixture(scope="module")
def reader(checkpoint: Path) -> Reader:
    return Reader(checkpoint, LENGTH)


@pytest.fixture(scope="module")
def narrow(checkpoint: Path) -> Reader:
    """As few tokens as a test can ask for: an emoji hardly has room."""
    return Reader(checkpoint, SHORT)


@given(text=ANYTHING)
def test_any_text(reader: Reader, text: str) -> None:
    reader.check(text)


@given(text=ANYTHING, overlap=st.integers(0, 12), prompt=st.sampled_from(["", "the sea: ", "水"]))
def test_any_overlap_and_prompt(reader: Reader, text: str, overlap: int, prompt: str) -> None:
    reader.check(text, overlap, prompt)


@given(text=ANYTHING)
def test_next_to_no_room(narrow: Reader, text: str) -> None:
    error = None
    try:
        narrow.check(text, prompt="")
    except ArgumentError as raised:
        error = raised
    if error:
        (empty,) = narrow.counts([""], "")
        counts = [count - empty for count in narrow.counts(list(text), "")]
        wanted = r"texts\[0\]: got '.*', (\d+) tokens, wanted characters of at most (\d+),"
        found = re.match(wanted, str(error))
        assert found, error
        assert (error.argument, int(found[2])) == ("texts", SHORT - empty)
        assert int(found[1]) in counts
        assert int(found[1]) > SHORT - empty


@pytest.mark.parametrize("joined", [" \u0301", "\t\ufeff", "\u0600 ", "\r\n\u200d"], ids=ascii)
def test_white_space_that_is_a_part_of_a_character(reader: Reader, joined: str) -> None:
    for filling in ("a", "水", "the sea"):
        reader.check(f"{filling}{joined}" * 60)
        reader.check(f"{joined * 30}{filling}" * 4)


@given(units=st.lists(st.sampled_from(CLUSTERS), min_size=20, max_size=60))
def test_what_is_read_as_one_character_is_never_cut(checkpoint: Path, units: list[str]) -> None:
    reader = Reader(checkpoint, 40)  # in bytes, a family has 18 tokens
    text = "".join(units)
    places = {0, *itertools.accumulate(map(len, units))}
    (ranges,) = reader.model.windows([text])
    assert {place for span in ranges for place in span} <= places


@given(text=SEPARATED)
def test_windows_are_full_and_hold_whole_words(reader: Reader, text: str) -> None:
    """No window has room for the word behind it, or else it is nearly full, and no word is cut that has room."""
    (ranges,) = reader.model.windows([text])
    (empty,) = reader.counts([""])
    words = [found.span() for found in re.finditer(r"\S+", text)]
    sizes = reader.counts([text[slice(*word)] for word in words])
    cuts = {place for span in ranges for place in span}
    for (start, end), size in zip(words, sizes, strict=True):
        inside = [place for place in cuts if start < place < end]
        assert size > LENGTH or all(not (text[p - 1].isalpha() and text[p].isalpha()) for p in inside), text[start:end]
    for start, end in ranges[:-1]:
        longer = min(after for _, after in words if after > end)
        fits, more = reader.counts([text[start:end], text[start:longer]])
        assert more > LENGTH or fits >= LENGTH - (LENGTH - empty) // 8, (text[start:end], text[start:longer])


def test_neighbours_share_about_a_quarter(reader: Reader) -> None:
    text = "the lighthouse keeper lights the lamp and the ships pass by at night " * 40
    (empty,) = reader.counts([""])
    for overlap in (None, 0, 3, 12):
        (ranges,) = reader.model.windows([text], overlap=overlap)
        common = [text[after:before] for (_, before), (after, _) in itertools.pairwise(ranges)]
        counts = [count - empty for count in reader.counts(common)]
        wanted = (LENGTH - empty) // 4 if overlap is None else overlap
        longest = max(reader.counts(text.split()[:13])) - empty
        assert len(counts) > 20
        assert all(wanted - longest <= count <= wanted for count in counts), (overlap, counts)


def test_windows_of_several_texts_are_those_of_each(reader: Reader) -> None:
    texts = ["the sea " * count for count in (0, 1, 30, 300)] + ["", "水" * 200]
    together = reader.model.windows(texts)
    assert together == [reader.model.windows([text])[0] for text in texts]
    assert together == reader.model.windows(text for text in texts)
    assert reader.model.windows([]) == []
    assert ColBERT(reader.model.name, document_length=LENGTH, threads=1).windows(texts) == together


def test_the_end_that_is_cut_off_does_not_matter(goldens: Path, tmp_path: Path) -> None:
    source = goldens / "a_bert_pylate" / "checkpoint"
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "truncation_side": "left"}))
    left = Reader(tmp_path, LENGTH)
    text = "the lighthouse keeper lights the lamp, and ships pass by. " * 9
    assert len(left.check(text)) > 5
    assert left.model.windows([text]) == Reader(source, LENGTH).model.windows([text])


def test_a_prompt_of_the_checkpoint_takes_its_room(goldens: Path) -> None:
    """sentence-transformers 6 puts its document prompt before every window too."""
    checkpoint = goldens / "n_st6_mve" / "checkpoint"
    reader = Reader(checkpoint, LENGTH)
    assert reader.model.prompts["document"]
    text = "the lighthouse keeper lights the lamp " * 20
    assert len(reader.check(text)) < len(reader.check(text, prompt="the sea and the moon and the bread: "))
    named = reader.model.windows([text], prompt_name="document")
    assert named == reader.model.windows([text]) != reader.model.windows([text], prompt="")


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("a" + "\u0301" * 3000, 1),
        ("👩" + "\u200d👩" * 500, 1),
        (" ".join(["x" * 99] * 40), 1),
        ("the sea" + " " * 100_000 + "and the moon " * 30, 3),
        ("the sea" * 500, 1),
        ("\x07" * 500 + "the moon " * 40 + "\x00" * 500, 4),
        ("\r\n" * 4000 + "the moon" + "\r\n" * 4000, 1),
    ],
    ids=["accents", "family", "long words", "white space", "one word", "control", "lines"],
)
def test_texts_with_a_long_part(reader: Reader, text: str, least: int) -> None:
    for overlap in (None, 0):
        assert len(reader.check(text, overlap)) >= least


@pytest.mark.parametrize("unit", ["a", "x\u0301", "the ", "水"], ids=ascii)
def test_the_time_grows_with_the_text(checkpoint: Path, unit: str) -> None:
    """A text without a white space, or nothing but words, of any length: 8 times the text, not 64 times the time."""
    model = ColBERT(checkpoint, document_length=LONG, threads=1)

    def seconds(characters: int) -> float:
        begun = time.process_time()
        model.windows([unit * (characters // len(unit))])
        return time.process_time() - begun

    seconds(10_000)
    assert seconds(160_000) < 0.1 + 20 * seconds(20_000)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"overlap": -1}, "overlap", "a whole number from 0"),
    ({"overlap": True}, "overlap", "a whole number from 0"),
    ({"overlap": 2.0}, "overlap", "a whole number from 0"),
    ({"overlap": LENGTH - 3}, "overlap", "less than 21, the tokens that document_length leaves"),
    ({"overlap": 2**40}, "overlap", "a whole number from 0 to"),
    ({"prompt": "the sea " * 20}, "prompt", "fewer than 21, what document_length leaves"),
    ({"prompt": 3}, "prompt", "a str"),
    ({"prompt": "a", "prompt_name": "b"}, "prompt", "one of them"),
    ({"prompt_name": "nobody"}, "prompt_name", "one of the model's prompts"),
    ({"texts": "the sea"}, "texts", "put a single text in a list"),
    ({"texts": ["the sea", None]}, "texts", r"texts\[1\].*wanted a str"),
]


@pytest.mark.parametrize(("arguments", "argument", "message"), BAD, ids=lambda value: str(value)[:30])
def test_bad_arguments(goldens: Path, arguments: dict[str, Any], argument: str, message: str) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", document_length=LENGTH)
    arguments = {"texts": ["the sea"], **arguments}
    with pytest.raises(ArgumentError, match=message) as caught:
        model.windows(**arguments)
    assert caught.value.argument == argument
    if "overlap" not in arguments and "fewer" not in message:
        with pytest.raises(ArgumentError, match=message) as caught:
            model.reads_whole(**arguments)
        assert caught.value.argument == argument


def test_a_very_long_text_is_told_by_its_beginning(reader: Reader) -> None:
    """And one that is long in characters only is not."""
    begun = time.process_time()
    assert reader.model.reads_whole(["水 the " * 2_000_000]) == [False]
    assert time.process_time() - begun < 2, "as a whole it takes many seconds"
    texts = ["\t\n" * 50_000 + "the sea", "the" + " " * 100_000 + "sea", "x" * 70_000, "the \x00 sea" * 70_000]
    assert reader.model.reads_whole(texts) == [count <= LENGTH for count in reader.counts(texts)]


def test_a_prompt_that_nearly_fills_the_room(goldens: Path) -> None:
    reader = Reader(goldens / "a_bert_pylate" / "checkpoint", LENGTH)
    prompt = "the " * 20
    assert reader.counts([prompt]) == [LENGTH - 1]
    assert reader.check("the sea and the moon", prompt=prompt) == ["the", "sea", "and", "the", "moon"]


@pytest.mark.parametrize("method", ["windows", "reads_whole"])
def test_a_function_is_told_how_many_texts_are_done_and_can_end_it(reader: Reader, method: str) -> None:
    work, told = getattr(reader.model, method), list[int]()
    texts = [f"{number} the sea is wide " * 100 for number in range(40)]
    assert work(texts, progress=told.append) == work(texts) == work(texts, progress=True)
    assert told == sorted(told)
    assert told[-1] == 40

    class Enough(Exception):
        pass

    def stop(_: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        work(texts, progress=stop)
    with pytest.raises(ArgumentError, match="progress: got 3, wanted True, False or a function"):
        work(texts, progress=3)
