"""The page in a real Chromium, with real weights: what a visitor does, and that the numbers are Python's."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from site_server import Site
from visitor import Visitor

from chandelier import ColBERT, maxsim, pool_tokens

QUERY = "how do I keep my garden alive in a dry summer?"
DOCUMENTS = [
    "The parliament voted on the budget late on Thursday, after nine hours of debate.",
    "Mulch keeps the soil moist, so plants need far less water in hot and rainless months.",
    "A violin has four strings, tuned in fifths, and no frets at all.",
    "Naïve café owners 🌵 paid in 東京 for “water”; their cacti — and their guests — did not need any.",
]
TOLERANCE = 1e-3  # of a sum of 32 similarities; a token pooled elsewhere changes it by 0.05 and more


def expected(model: ColBERT, query: str, documents: list[str], factor: int) -> tuple[np.ndarray, list[int]]:
    rows = pool_tokens(model.encode_documents(documents), factor)
    return maxsim(model.encode_queries([query])[0], rows), np.diff(rows.offsets).tolist()


def test_it_ranks_and_pools_as_python_does(visit: Callable[..., Visitor], minilm: ColBERT) -> None:
    visitor = visit(model="minilm")
    visitor.page.fill("#query", "")
    visitor.page.locator("#query").press_sequentially(QUERY, delay=5)
    visitor.type(documents=DOCUMENTS)
    whole, tokens = expected(minilm, QUERY, DOCUMENTS, 1)
    order = np.argsort(-whole, kind="stable").tolist()
    assert order[0] == 1
    previous = tokens
    for factor in (2, 4):
        visitor.page.locator("#pool-factor").focus()
        visitor.page.locator("#pool-factor").evaluate("each => each.value = 1")
        for _ in range(factor - 1):
            visitor.page.keyboard.press("ArrowRight")
        visitor.wait(f"document.querySelector('#pool-output').textContent === '{factor}'")
        visitor.wait_for_ranking()
        rows = visitor.rows()
        pooled, fewer = expected(minilm, QUERY, DOCUMENTS, factor)
        assert [row["text"] for row in rows] == [DOCUMENTS[place] for place in order]
        np.testing.assert_allclose([row["score"] for row in rows], whole[order], atol=TOLERANCE)
        np.testing.assert_allclose([row["pooled"] for row in rows], pooled[order], atol=TOLERANCE)
        assert [row["tokens"] for row in rows] == [tokens[place] for place in order]
        assert [row["pooledTokens"] for row in rows] == [fewer[place] for place in order]
        assert all(few < many for few, many in zip(fewer, previous, strict=True))
        previous = fewer
    foot = visitor.page.inner_text("#ranking tfoot")
    assert f"{sum(tokens)} tokens" in foot
    assert f"{sum(previous)} tokens" in foot
    assert f"{round(100 * (1 - sum(previous) / sum(tokens)))} % saved" in foot


def test_it_explains_as_python_does(visit: Callable[..., Visitor], minilm: ColBERT) -> None:
    visitor = visit(model="minilm")
    visitor.type(QUERY, DOCUMENTS)
    document = DOCUMENTS[3]
    visitor.page.locator("#ranking button", has_text=document[:10]).click()
    visitor.wait("text => document.querySelector('.document').textContent.includes(text)", "café")
    explanation = minilm.explain(QUERY, document)
    marks = visitor.page.evaluate(
        "Array.from(document.querySelectorAll('mark'), m => [m.textContent, Number(m.dataset.weight)])"
    )
    spans = explanation.spans()
    assert [text for text, _ in marks] == [document[span.start : span.end] for span in spans]
    np.testing.assert_allclose([weight for _, weight in marks], [span.weight for span in spans], atol=0.0051)
    cells = visitor.page.evaluate(
        """Array.from(document.querySelectorAll(".heat tbody td"),
            cell => Number(/(-?[0-9.]+)(, the best.*)?$/.exec(cell.ariaLabel)[1]))"""
    )
    np.testing.assert_allclose(cells, explanation.similarities.ravel(), atol=6e-4)
    best = visitor.page.evaluate(
        """Array.from(document.querySelectorAll(".heat tbody tr"),
            row => Array.from(row.cells).findIndex(cell => cell.matches(".best")) - 1)"""
    )
    assert best == [match.document_index for match in explanation.matches]
    score = float(visitor.page.get_attribute("#explanation .total data", "value"))
    assert abs(score - explanation.score) < TOLERANCE


def test_only_what_changed_is_encoded(visit: Callable[..., Visitor]) -> None:
    visitor = visit(model="tiny")
    visitor.type("light", ["the sea", "the moon", "the sun"])
    assert "the sea" in visitor.page.inner_text("#ranking")
    visitor.type(documents=["the sea", "a harbour", "the sun"])
    rows = {row["text"]: row for row in visitor.rows()}
    assert set(rows) == {"the sea", "a harbour", "the sun"}
    told = visitor.page.inner_text("#timing")
    assert re.search(r"Documents\n.*\n" + f"{rows['a harbour']['tokens']} tokens", told), told
    visitor.type("dark")
    assert "no new ones" in visitor.page.inner_text("#timing")


def test_the_same_documents_are_ranked_anew_for_another_query(visit: Callable[..., Visitor], minilm: ColBERT) -> None:
    """They stay where they are then; other documents, fewer, or the same in another order take their place."""
    visitor = visit(model="minilm")
    for query, documents in (
        (QUERY, DOCUMENTS),
        ("a violin", DOCUMENTS),
        ("a violin", DOCUMENTS[::-1]),
        ("a violin", DOCUMENTS[1:]),
        (QUERY, DOCUMENTS[1:]),
        (QUERY, DOCUMENTS[:3]),
        (QUERY, DOCUMENTS),
    ):
        visitor.type(query, documents)
        scores, tokens = expected(minilm, query, documents, 1)
        found = {row["text"]: row for row in visitor.rows()}
        np.testing.assert_allclose([found[text]["score"] for text in documents], scores, atol=TOLERANCE)
        assert [found[text]["tokens"] for text in documents] == tokens


def test_the_query_takes_time(visit: Callable[..., Visitor]) -> None:
    told = visit(model="minilm").page.inner_text("#timing")
    taken = re.search(r"Query\n([0-9.]+) (ms|s)\n", told)
    assert taken is not None, told
    assert float(taken[1]) > 0


def test_int8_is_a_choice(visit: Callable[..., Visitor], minilm_checkpoint: object) -> None:
    visitor = visit(model="minilm")
    visitor.type(QUERY, DOCUMENTS)
    exact = {row["text"]: row["score"] for row in visitor.rows()}
    visitor.page.click("#model-toggle")
    visitor.page.select_option("#dtype", "int8")
    visitor.wait("document.querySelector('#model-summary').textContent.includes('int8')")
    visitor.wait_for_ranking()
    rounded = {row["text"]: row["score"] for row in visitor.rows()}
    assert rounded != exact
    for text, score in exact.items():
        assert abs(rounded[text] - score) < 0.5


def test_texts_stay_texts(visit: Callable[..., Visitor]) -> None:
    hostile = (
        "<img src=x onerror=alert(1)> <script>document.title='run'</script> </textarea><style>*{display:none}</style>"
    )
    odd = "ships \u202e\u0007 & 'boats' \U0001f6a2"
    visitor = visit(model="tiny")
    visitor.type(f"which <b onmouseover=alert(1)>light</b>? {odd}", [hostile, odd])
    for text in (hostile, "ships \ufffd\u2407 & 'boats' \U0001f6a2"):
        visitor.page.locator("#ranking button", has_text=text[:12]).click()
        visitor.wait("text => document.querySelector('.document').textContent === text", text)
    assert visitor.page.title().startswith("chandelier")
    assert (
        visitor.page.evaluate(
            "document.querySelectorAll('main img, main script, main style, [onerror], [onmouseover]').length"
        )
        == 0
    )
    assert hostile in [row["text"] for row in visitor.rows()]
    assert "\u202e" not in visitor.page.inner_text("main")


def test_what_is_typed_goes_nowhere(visit: Callable[..., Visitor], site: Site) -> None:
    visitor = visit(model="tiny")
    asked = len(site.asked)
    elsewhere: list[str] = []
    visitor.page.on("request", lambda request: elsewhere.append(request.url))
    visitor.type("a secret query", ["a secret document"])
    visitor.page.keyboard.press("Tab")
    visitor.page.wait_for_timeout(300)
    assert (len(site.asked), elsewhere) == (asked, [])


def test_files_and_folders_can_be_chosen(visit: Callable[..., Visitor], goldens: object) -> None:
    visitor = visit()
    assert "as soon as a model is open" in visitor.page.inner_text("#ranking")
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.click("#choose-folder")
    chooser.value.set_files(f"{goldens}/g_bert_sharded/checkpoint")
    visitor.wait_for_model("checkpoint")
    visitor.type("the moon", ["the moon", "the sea"])
    assert visitor.rows()[0]["text"] == "the moon"


def test_a_dropped_folder_opens(visit: Callable[..., Visitor], goldens: object) -> None:
    from pathlib import Path

    visitor = visit(model="tiny")
    visitor.drop(Path(f"{goldens}") / "d_bert_stanford" / "checkpoint")
    visitor.wait_for_model("checkpoint")
    visitor.wait_for_ranking()
    assert len(visitor.rows()) == 8
