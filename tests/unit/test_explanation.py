"""Explanations: the numbers are those of MaxSim, the spans those of the words, and no text can break a rendering."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chandelier
from chandelier import ArgumentError, ColBERT, Explanation, Match, ModelError, ShapeError, Span
from chandelier.explanation.html import page

QUERY = "which light keeps ships away from the rocks?"
DOCUMENT = "  The Lighthouse, built 1868, keeps ships off the rocks.\nBread needs flour."
HOSTILE = "</p><script>alert('x')</script> & \"q\" <mark>\x00\x07\x1b[31m\x9b\u202e\r\n[SEP] #{title}"
GOLDENS = Path(__file__).parents[1] / "goldens"
REFUSED = {"x6_lfm2_bidirectional"}  # brings its own code
CASES = sorted(path.parent.name for path in GOLDENS.glob("*/checkpoint") if path.parent.name not in REFUSED)


def check_numbers(model: ColBERT, explanation: Explanation) -> None:
    """Everything an explanation says, from the encoded rows alone."""
    rows = model.encode_queries([explanation.query])[0].astype(np.float64)
    columns = model.encode_documents([explanation.document])[0].astype(np.float64)
    similarities = rows @ columns.T
    assert explanation.similarities.dtype == np.float32
    assert explanation.similarities.shape == similarities.shape
    assert explanation.similarities.shape == (len(explanation.query_tokens), len(explanation.document_tokens))
    assert np.abs(explanation.similarities - similarities).max() < 1e-5
    assert explanation.score == pytest.approx(similarities.max(axis=1).sum(), abs=1e-5)
    ranked = model.rerank(explanation.query, [explanation.document])[0]
    assert explanation.score == pytest.approx(ranked.score, abs=1e-5)
    assert len(explanation.matches) == len(rows)
    for row, match in enumerate(explanation.matches):
        assert match.document_index == explanation.similarities[row].argmax()
        assert match.similarity == explanation.similarities[row].max()
        assert match.document_token == explanation.document_tokens[match.document_index]
        assert match.span == explanation.document_spans[match.document_index]
        assert (match.query_token, match.query_span) == (explanation.query_tokens[row], explanation.query_spans[row])
        assert math.isfinite(match.share)
    assert sum(match.similarity for match in explanation.matches) == pytest.approx(explanation.score, abs=1e-9)
    assert sum(match.share for match in explanation.matches) == pytest.approx(1, abs=1e-9)


def check_spans(explanation: Explanation) -> None:
    """The merged spans are in order, apart, and account for every match that stands for text."""
    spans = explanation.spans()
    assert all(span.start < span.end <= len(explanation.document) for span in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))
    owners = {number: span for span in spans for number in span.query_tokens}
    assert sum(len(span.query_tokens) for span in spans) == len(owners), "each match in one span"
    for number, match in enumerate(explanation.matches):
        assert (number in owners) == (match.span is not None)
        if match.span is not None:
            assert owners[number].start <= match.span[0] < match.span[1] <= owners[number].end
    for span in spans:
        matches = [explanation.matches[number] for number in span.query_tokens]
        assert span.weight == pytest.approx(sum(match.similarity for match in matches))
        assert span.word_weight == pytest.approx(sum(match.similarity for match in matches if match.query_span))
    without = sum(match.similarity for match in explanation.matches if match.span is None)
    assert sum(span.weight for span in spans) + without == pytest.approx(explanation.score)


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_maxsim(case: str, open_model: Callable[[str], ColBERT]) -> None:
    model = open_model(case)
    texts = json.loads((GOLDENS / case / "inputs.json").read_text(encoding="utf-8"))
    pairs = [(QUERY, DOCUMENT), *zip(texts["queries"][:4], texts["documents"][:4], strict=True)]
    for query, document in pairs:
        try:
            explanation = model.explain(query, document)
        except ShapeError:
            assert not model.encode_documents([document]).data.size, "only a skiplist leaves nothing to explain"
            continue
        check_numbers(model, explanation)
        check_spans(explanation)
        assert explanation.to_text(color=False)
        assert explanation.to_html()


def test_matches_are_the_words(minilm: ColBERT) -> None:
    explanation = minilm.explain("Lighthouse keeps SHIPS", DOCUMENT)
    found = {
        explanation.query[slice(*match.query_span)]: DOCUMENT[slice(*match.span)]
        for match in explanation.matches
        if match.query_span and match.span
    }
    assert found == {"Lighthouse": "Lighthouse", "keeps": "keeps", "SHIPS": "ships"}
    strongest = sorted(explanation.spans(), key=lambda span: span.word_weight)[-3:]
    assert {DOCUMENT[span.start : span.end] for span in strongest} == {"Lighthouse", "keeps", "ships"}
    assert "," not in explanation.document_tokens, "a skiplist drops its row"
    unspoken = {match.query_token for match in explanation.matches if match.query_span is None}
    assert unspoken == {"[CLS]", "[Q] ", "[SEP]", "[MASK]"}


def test_prompts_are_those_of_rerank(open_model: Callable[[str], ColBERT]) -> None:
    model = open_model("v_prompts")
    names = {"query_prompt_name": "query", "document_prompt_name": "document"}
    explanation = model.explain("the moon", "The Moon moves the sea.", **names)
    ranked = model.rerank("the moon", ["The Moon moves the sea."], **names)[0]
    assert explanation.score == pytest.approx(ranked.score, abs=1e-5)
    assert explanation.score != pytest.approx(model.explain("the moon", "The Moon moves the sea.").score, abs=1e-3)
    assert explanation.query_spans.count(None) > 4, "a prompt is no text of the query"
    assert [explanation.query[slice(*span)] for span in explanation.query_spans if span] == ["the", "moon"]


@pytest.mark.parametrize("role", ["queries", "documents"])
def test_tokenize_takes_prompts_as_encode_does(open_model: Callable[[str], ColBERT], role: str) -> None:
    model = open_model("v_prompts")
    tokenize, encode = getattr(model, f"tokenize_{role}"), getattr(model, f"encode_{role}")
    (name, text), *_ = model.prompts.items()
    for prompt in ({"prompt": "so: "}, {"prompt_name": name}, {"prompt": ""}, {}):
        assert tokenize(["the moon"], **prompt)[0].keep.sum() == len(encode(["the moon"], **prompt).data)
    named, spelled = tokenize(["the moon"], prompt_name=name)[0], tokenize(["the moon"], prompt=text)[0]
    assert named.ids.tolist() == spelled.ids.tolist()
    assert len(tokenize(["the moon"], prompt="so: ")[0].ids) >= len(tokenize(["the moon"], prompt="")[0].ids)
    with pytest.raises(ArgumentError, match="prompt_name"):
        tokenize(["the moon"], prompt_name="riddle")
    with pytest.raises(ArgumentError, match="both prompt and prompt_name"):
        tokenize(["the moon"], prompt="a", prompt_name=name)


@pytest.mark.parametrize(
    ("arguments", "names", "parts"),
    [
        ((b"q", "d"), {}, ["query", "wanted a str"]),
        (("q", ["d"]), {}, ["document", "wanted a str"]),
        (("q", None), {}, ["document", "wanted a str"]),
        (("q", "half \ud83d"), {}, ["document", "surrogate"]),
        (("q", "d"), {"query_prompt_name": 3}, ["query_prompt_name", "wanted a str"]),
        (("q", "d"), {"query_prompt_name": "riddle"}, ["query_prompt_name", "riddle", "prompts"]),
        (("q", "d"), {"document_prompt_name": "riddle"}, ["document_prompt_name", "riddle", "prompts"]),
    ],
)
def test_bad_arguments(tiny: ColBERT, arguments: Any, names: Any, parts: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        tiny.explain(*arguments, **names)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert caught.value.argument == parts[0]
    if names:
        with pytest.raises(ArgumentError, match=f"^{parts[0]}: got ") as reranked:
            tiny.rerank("q", ["d"], **names)
        assert reranked.value.argument == parts[0]


def test_a_checkpoint_that_pools_is_refused(copy_golden: Callable[[str], Path]) -> None:
    folder = copy_golden("n_st6_mve")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kind = "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling"
    modules.append({"idx": 4, "name": "4", "path": "4_Pooling", "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "4_Pooling").mkdir()
    (folder / "4_Pooling" / "config.json").write_text('{"pool_factor": 2}', encoding="utf-8")
    with pytest.raises(ModelError, match="pools rows") as caught:
        ColBERT(folder).explain(QUERY, DOCUMENT)
    assert str(caught.value.file).endswith("modules.json")


def test_a_document_without_rows_is_refused(goldens: Path) -> None:
    model = ColBERT(goldens / "c_bert_no_prefix_no_skiplist" / "checkpoint", skiplist_words=["[CLS]", "[SEP]", "moon"])
    with pytest.raises(ShapeError, match="document: got no tokens"):
        model.explain("the moon", "moon moon")


def test_empty_texts(tiny: ColBERT) -> None:
    explanation = tiny.explain("", "")
    check_numbers(tiny, explanation)
    assert explanation.spans() == []
    assert set(explanation.query_spans) == set(explanation.document_spans) == {None}
    assert (explanation.query_seen, explanation.document_seen) == ((0, 0), (0, 0))
    assert "(empty document)" in explanation.to_html()
    for blank in (explanation, tiny.explain(" \t", "x")):
        assert "(empty query)" in blank.to_html()
        assert blank.to_text(color=False).splitlines()[0] == f"{blank.score:.4f}  (empty query)"
    assert "not seen" not in explanation.to_html()
    for part in tiny.windows([""])[0]:
        assert tiny.explain("moon", "", window=part).score == tiny.explain("moon", "").score


@pytest.mark.parametrize("case", ["a_bert_pylate", "h_modernbert_v5", "l_xlmr_pylate"])
def test_what_the_model_does_not_see_is_said(case: str, goldens: Path) -> None:
    model = ColBERT(goldens / case / "checkpoint", document_length=16, query_length=12)
    document = " The moon moves the sea. " * 40
    explanation = model.explain("moon " * 30, document)
    start, end = explanation.document_seen
    assert start == 0
    assert end == max(span[1] for span in explanation.document_spans if span)
    assert 4 < end < 60
    assert explanation.query_seen[1] < 60
    for rendering in (explanation.to_text(color=False), explanation.to_html()):
        assert f"{len(document) - end:,} of the {len(document):,} characters of the document" in rendering
        assert "characters of the query" in rendering
    whole = model.explain("moon", " The moon. ")
    assert (whole.document_seen, whole.query_seen) == ((0, 11), (0, 4))
    assert "not seen" not in whole.to_text(color=False) + whole.to_html()


def test_truncation_from_the_left(copy_golden: Callable[[str], Path]) -> None:
    folder = copy_golden("a_bert_pylate")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "truncation_side": "left"}))
    explanation = ColBERT(folder, document_length=16).explain("moon", "the sea " * 100 + "the moon ")
    start, end = explanation.document_seen
    assert end == len(explanation.document)
    assert start == min(span[0] for span in explanation.document_spans if span) > 700
    assert explanation.to_text(color=False).count("…") == 1


def test_it_is_read_only_short_and_pickles(tiny: ColBERT) -> None:
    explanation = tiny.explain(QUERY * 5, HOSTILE)
    with pytest.raises(ValueError, match="read-only"):
        explanation.similarities[0, 0] = 1
    with pytest.raises(AttributeError):
        explanation.score = 1.0  # type: ignore[misc]
    assert len(repr(explanation)) < 200
    assert "\n" not in str(explanation)
    for again in (pickle.loads(pickle.dumps(explanation)), copy.deepcopy(explanation)):
        assert isinstance(again, Explanation)
        assert again.matches == explanation.matches
        assert again.spans() == explanation.spans()
        assert again.to_html() == explanation.to_html()
        assert not again.similarities.flags.writeable
    assert isinstance(explanation.matches[0], Match)
    assert all(isinstance(span, Span) for span in explanation.spans())


class Reader(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text: dict[str, list[str]] = {}
        self.titles: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attributes)
        assert not [name for name in given if name.startswith("on")], given
        self.titles.append(given.get("title") or "")
        for name in ("src", "href"):
            assert (given.get(name) or "data:image/png;").startswith("data:image/png;"), given
        if tag not in ("meta", "img"):
            self.open.append(f"{tag}.{given.get('class')}")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().split(".")[0] == tag

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.text.setdefault(place, []).append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [], "every element is closed"
    return reader


KNOWN_TAGS = {"html", "head", "meta", "title", "style", "body", "main", "section", "header", "h2", "p", "b", "ul", "li"}
KNOWN_TAGS |= {"bdi", "small", "mark", "span", "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "div"}
KNOWN_TAGS |= {"img", "i"}


@pytest.mark.parametrize("text", [HOSTILE, "", "]]>--><!--", "&lt;&amp;", "\u2028\ufeff\U0010ffff", "' onload='x"])
def test_no_text_becomes_markup(tiny: ColBERT, text: str) -> None:
    for query, document in ((text, DOCUMENT), (QUERY, text), (text, text + " ships" * 300)):
        explanation = tiny.explain(query, document)
        reader = read(explanation.to_html())
        assert reader.tags <= KNOWN_TAGS
        shown = "".join(reader.text["p.document"])
        seen = document[: explanation.document_seen[1]]
        hidden = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e\u2400-\u2421\ufffd]")
        assert hidden.sub("?", shown).startswith(hidden.sub("?", seen.replace("\r\n", " \n")))
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e]", explanation.to_html())
        assert "nan" not in re.findall(r"[\w.]+", explanation.to_html().partition("<main>")[2].lower())
        text_lines = explanation.to_text(color=False)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e]", text_lines)


def test_the_page_says_the_numbers(minilm: ColBERT) -> None:
    explanation = minilm.explain("refund for a broken lamp", "The lamp was broken, so we return the money.")
    reader = read(explanation.to_html())
    shown = "".join(reader.text["section." + next(key for key in reader.text if "section" in key).partition(".")[2]])
    assert f"{explanation.score:.4f}" in shown
    cells = [text for place, texts in reader.text.items() if place == "td.number" for text in texts]
    assert cells == [
        number for match in explanation.matches for number in (f"{match.similarity:.3f}", f"{match.share:.1%}")
    ]
    marked = reader.text[next(place for place in reader.text if place.startswith("mark."))]
    assert marked
    lamp = next(span for span in explanation.spans() if explanation.document[span.start : span.end] == "lamp")
    assert any(title.startswith(f"adds {lamp.weight:.3f}: best match of ") for title in reader.titles)


def test_a_page_of_several(tiny: ColBERT) -> None:
    explanations = [tiny.explain(QUERY, text) for text in (DOCUMENT, "Bread.", HOSTILE)]
    html = page(explanations)
    assert html.count("<section") == 3
    assert html.count("<h2") == 3
    assert read(html).tags <= KNOWN_TAGS
    assert page([]).count("<section") == 0
    assert " open>" in page(explanations[:1])
    assert " open>" not in html
    same = [tiny.explain(QUERY, text) for text in (DOCUMENT, "Bread.")]
    reader = read(page(same, ["1 · a&b.txt:7", "2 · a&b.txt:3"]))
    assert reader.tags <= KNOWN_TAGS | {"h1"}
    assert reader.text["h1.None"] == [QUERY]
    assert reader.text["h2.None"] == ["1 · a&b.txt:7", "2 · a&b.txt:3"]


def test_the_page_says_what_is_what(tiny: ColBERT, goldens: Path) -> None:
    (legend,) = read(tiny.explain(QUERY, DOCUMENT).to_html()).text["p.note legend"]
    assert "parts of the score" in legend
    assert "dashed are special tokens" in legend
    (legend,) = read(handmade("a", "x", [0.5], [1.0]).to_html()).text["p.note legend"]
    assert "dashed" not in legend


def test_carriage_returns_drive_nothing(tiny: ColBERT) -> None:
    """One that no newline follows would write a line over; each is shown where it stands."""
    explanation = tiny.explain("the\rmoon", "the moon\r\nthe\rsea\n\rthe sun\r")
    for rendering in (explanation.to_html(), explanation.to_text(color=False)):
        assert "\r" not in rendering
        assert "the␍moon" in rendering
    assert "".join(read(explanation.to_html()).text["p.document"]) == "the moon \nthe␍sea\n␍the sun␍"


def test_a_page_of_a_long_document_is_light(minilm: ColBERT) -> None:
    model = ColBERT(minilm.name, document_length=300)
    explanation = model.explain(QUERY, " ".join(["lighthouse", "keeper", "rocks", "sea"] * 100))
    assert explanation.similarities.shape == (32, 300)
    assert len(explanation.to_html()) < 60_000


def test_lines_for_a_terminal(minilm: ColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    explanation = minilm.explain("ships and rocks", DOCUMENT)
    plain, colored = explanation.to_text(color=False), explanation.to_text(color=True)
    assert "\x1b" not in plain
    assert "[ships]" in plain
    assert "[rocks]" in plain
    assert re.search(r"^  ships +→ ships +0\.\d{3} +\d+%  ━+$", plain, re.MULTILINE)
    assert plain.startswith(f"{explanation.score:.4f}  ships and rocks\n")
    assert re.search(r"\x1b\[1;93mships\x1b\[0m", colored)
    assert not re.search(r"\[(Bread|flour)", plain), "hardly like a word of the query"
    assert colored.count("\x1b[") % 2 == 0
    assert explanation.to_text() == plain, "stdout is no terminal here"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert explanation.to_text() == colored
    monkeypatch.setenv("NO_COLOR", "1")
    assert explanation.to_text() == plain


def handmade(query: str, document: str, similarities: list[float], shares: list[float]) -> Explanation:
    """An explanation in which each token is a whole text, and each query token matches the document."""
    total, count = sum(similarities), len(similarities)
    parts = (
        total,
        np.array([[value, value] for value in similarities], np.float32),
        ([query] * count, [(0, len(query))] * count, (0, len(query))),
        ([document, "[SEP]"], [(0, len(document)), None], (0, len(document))),
        [(0, value, share) for value, share in zip(similarities, shares, strict=True)],
        [(0, len(document), total, total, list(range(count)))],
    )
    return Explanation.own(query, document, parts)


@pytest.mark.parametrize(
    ("similarities", "shares"), [([-0.5, -0.25], [2 / 3, 1 / 3]), ([0.0, 0.0], [0.0, 0.0]), ([0.5, -0.5], [0.0, 0.0])]
)
def test_a_hard_score_is_still_said(similarities: list[float], shares: list[float]) -> None:
    """Values as a model without normalisation might give: negative, or a score of nothing."""
    explanation = handmade("a", "x", similarities, shares)
    for rendering in (explanation.to_html(), explanation.to_text(color=True)):
        assert "nan" not in rendering.lower()
    assert "".join(read(explanation.to_html()).text["p.document"]) == "x"


@pytest.mark.parametrize(
    ("similarity", "strength", "bar", "text", "style"),
    [
        (1.0, "1.000", 24, "[x]", "\x1b[1;93m"),
        (0.75, "0.750", 18, "[x]", "\x1b[1;93m"),
        (0.25, "0.250", 6, "[x]", "\x1b[33m"),
        (0.05, "0.050", 1, "x", ""),
        (-0.5, "0.000", 0, "x", ""),
        (3.0, "1.000", 24, "[x]", "\x1b[1;93m"),
    ],
)
def test_colours_and_bars_are_as_strong_as_similarities(
    similarity: float, strength: str, bar: int, text: str, style: str
) -> None:
    """Whatever its share: a document that has nothing to do with the query is pale."""
    explanation = handmade("a", "x", [similarity, -1.0], [0.5, 0.5])
    html = explanation.to_html()
    assert re.findall(r"<mark [^>]*--w:([\d.]+)", html) == [strength]
    assert re.findall(r"<li [^>]*--w:([\d.]+)", html) == [strength, "0.000"]
    _, _, shown, _, first, *_ = explanation.to_text(color=False).splitlines()
    assert (shown, first.count("━")) == (text, bar)
    assert f"{style}x" in explanation.to_text(color=True).splitlines()[2]
    assert explanation.to_text(color=True).splitlines()[2].startswith(style or "x")


def test_markup_inside_a_token_is_text() -> None:
    query, document = "'\"><u onclick=alert(1)>", '</mark><u title="q">&amp;\''
    reader = read(handmade(query, document, [0.75, 0.5], [0.6, 0.4]).to_html())
    assert reader.tags <= KNOWN_TAGS
    assert reader.text["mark.m0 m1"] == [document]
    assert f"adds 1.250: best match of {query} 0.750, {query} 0.500" in reader.titles
    assert f"{query} → {document}: similarity 0.750, 60.0% of the score" in reader.titles


def test_names_at_the_top() -> None:
    assert {"Explanation", "Match", "Span"} <= set(chandelier.__all__)


@pytest.mark.parametrize("case", ["a_bert_pylate", "h_modernbert_v5", "l_xlmr_pylate"])
def test_a_window_is_explained_in_characters_of_the_whole(case: str, open_model: Callable[[str], ColBERT]) -> None:
    model = open_model(case)
    document = (
        "Zażółć 👩‍👩‍👧 the sea. " * 3 + "  Paris is the capital of France; Bread needs flour. " + "東京 moon. " * 3
    )
    start, end = document.index("Paris"), document.index("Bread") + 11
    alone, whole = model.explain("paris?", document[start:end]), model.explain("paris?", document, window=(start, end))

    def shifted(span: tuple[int, int] | None) -> tuple[int, int] | None:
        return span and (span[0] + start, span[1] + start)

    assert whole.document == document
    assert whole.score == alone.score
    assert np.array_equal(whole.similarities, alone.similarities)
    assert whole.document_seen == shifted(alone.document_seen)
    assert whole.document_spans == tuple(map(shifted, alone.document_spans))
    assert [match.span for match in whole.matches] == [shifted(match.span) for match in alone.matches]
    assert [(span.start, span.end, span.weight) for span in whole.spans()] == [
        (span.start + start, span.end + start, span.weight) for span in alone.spans()
    ]


@pytest.mark.parametrize("case", ["a_bert_pylate", "h_modernbert_v5", "l_xlmr_pylate"])
def test_every_window_of_a_long_document_can_be_explained(case: str, goldens: Path) -> None:
    model = ColBERT(goldens / case / "checkpoint", document_length=24)
    document = "\x07 The lighthouse, e\u0301 👩\u200d👩\u200d👧 \u0301and 東京の moon; unhappily. " * 12
    windows = model.windows([document])[0]
    assert len(windows) > 5
    for start, end in windows:
        whole = model.explain("the moon", document, window=(start, end))
        alone = model.explain("the moon", document[start:end])
        assert whole.document_seen == (start, end), "it is read whole"
        assert [(span.start - start, span.end - start, span.weight, span.query_tokens) for span in whole.spans()] == [
            (span.start, span.end, span.weight, span.query_tokens) for span in alone.spans()
        ]
        assert np.array_equal(whole.similarities, alone.similarities)


def test_what_lies_around_a_window_is_shown_as_not_seen(tiny: ColBERT) -> None:
    document = "Bread needs flour. " * 40 + "The Moon moves the sea." + " Ships pass by." * 50
    start = document.index("The Moon")
    end = start + len("The Moon moves the sea.")
    explanation = tiny.explain("the moon", document, window=(start, end))
    said = f"{start:,} before and {len(document) - end:,} behind"
    text = explanation.to_text(color=False)
    assert said in text
    before, seen, behind = text.split("│")
    assert before.splitlines()[-1] == f"…{document[start - 400 : start]}"
    assert seen.replace("[", "").replace("]", "") == document[start:end]
    assert "[Moon]" in seen
    assert behind.splitlines()[0] == f"{document[end : end + 400]}…"
    assert f"\033[2m…{document[start - 400 : start]}\033[0m" in explanation.to_text(color=True)
    reader = read(explanation.to_html())
    assert reader.text["span.unseen"] == [before.splitlines()[-1], behind.splitlines()[0]]
    assert said in "".join(reader.text["p.note"])
    first = tiny.explain("the moon", document, window=(0, 18))
    assert "│" in first.to_text(color=False)
    assert "before" not in first.to_text(color=False)
    assert len({re.findall("chandelier-[0-9a-f]{8}", page.to_html())[0] for page in (explanation, first)}) == 2


def test_the_whole_as_a_window_is_the_whole(tiny: ColBERT) -> None:
    text = "The Moon moves the sea."
    assert tiny.explain("moon", text, window=(0, len(text))).spans() == tiny.explain("moon", text).spans()


@pytest.mark.parametrize("window", [(0, 0), (5, 3), (0, 24), (24, 25), (-1, 3), (0.0, 3), (1,), 3, "ab", (True, 3)])
def test_a_window_that_is_no_part_of_the_document_is_refused(tiny: ColBERT, window: Any) -> None:
    with pytest.raises(ArgumentError, match="window: got"):
        tiny.explain("moon", "The Moon moves the sea.", window=window)
