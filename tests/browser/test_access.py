"""With a keyboard, with a screen reader, by day and by night, on a narrow screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from visitor import Visitor

LONG = "https://example.org/" + "a-very-long-address-without-any-space" * 6


def test_everything_is_reached_with_the_keyboard(visit: Callable[..., Visitor]) -> None:
    visitor = visit(model="tiny")
    page = visitor.page
    page.keyboard.press("Tab")
    assert visitor.focused() == "Skip to the query"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert visitor.focused() == "query"
    page.keyboard.press("Control+A")
    page.keyboard.type("the harbour")
    page.keyboard.press("Tab")
    while visitor.focused() != "documents":  # past the samples
        page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("the moon\nthe sea and the moon\na harbour")
    visitor.wait_for_ranking()
    order = []
    for _ in range(20):
        page.keyboard.press("Tab")
        order.append(visitor.focused())
        if page.evaluate("document.activeElement.matches('.heat td')"):
            break
    assert order[0] == "pool-factor"
    excerpts = [f"{place + 1}{row['text']}" for place, row in enumerate(visitor.rows())]
    assert [name for name in order if name in excerpts] == excerpts
    assert page.evaluate("document.activeElement.matches('.heat td')"), order

    place = "(() => { const cell = document.activeElement; return [cell.parentNode.rowIndex, cell.cellIndex]; })()"
    row, column = page.evaluate(place)
    page.keyboard.press("ArrowRight" if column == 1 else "ArrowLeft")
    assert page.evaluate(place) == [row, column + 1 if column == 1 else column - 1]
    page.keyboard.press("Home")
    page.keyboard.press("PageUp")
    first = page.evaluate("document.activeElement.ariaLabel")
    assert page.evaluate(place)[1] == 1
    assert page.inner_text(".readout") == first
    for key in ("ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.ariaLabel") == first
    page.keyboard.press("PageDown")
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.matches('.heat tr:not(.unspoken) td:last-child')")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.matches('.heat td')"), "one stop for the whole map"


def test_a_document_is_chosen_with_the_keyboard_and_keeps_the_focus(visit: Callable[..., Visitor]) -> None:
    visitor = visit(model="tiny")
    visitor.type("the moon", ["the moon", "the sea and the moon"])
    second = visitor.page.locator("#ranking button").nth(1)
    second.focus()
    visitor.page.keyboard.press("Enter")
    visitor.wait("document.querySelectorAll('#ranking button')[1].ariaPressed === 'true'")
    assert visitor.focused().startswith("2")
    visitor.wait("document.querySelector('.document').textContent === 'the sea and the moon'")


def test_changes_are_announced(visit: Callable[..., Visitor]) -> None:
    visitor = visit(model="tiny")
    visitor.type("the moon", ["the moon", "the sea"])
    visitor.wait("document.querySelector('#live').textContent.startsWith('2 documents ranked. Best')")
    assert visitor.page.get_attribute("#live", "role") == "status"
    visitor.page.click("#model-toggle")
    visitor.page.fill("#url", "nowhere:")
    visitor.page.click("#url-form button")
    assert visitor.page.wait_for_selector("#model-messages [role=alert]").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Callable[..., Visitor], scheme: str, goldens: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    # Axe itself does what the page's policy forbids.
    visitor = visit(color_scheme=scheme, bypass_csp=True)

    def check(state: str) -> None:
        visitor.page.wait_for_timeout(400)  # bars and colours come to rest
        found = Axe().run(visitor.page).response
        told = [
            (each["id"], [(node["html"][:120], node["failureSummary"]) for node in each["nodes"][:3]])
            for each in found["violations"]
        ]
        assert told == [], state
        assert "color-contrast" in {each["id"] for each in found["passes"]}

    check("before a model")
    visitor.page.fill("#url", "nowhere:")
    visitor.page.press("#url", "Enter")
    visitor.message()
    check("a message")
    visitor.open("minilm")
    visitor.type("the moon over the sea", ["the moon", "word " * 1000, LONG])
    visitor.message("#results-messages")
    for details in visitor.page.query_selector_all("details"):
        details.evaluate("each => each.open = true")
    visitor.page.check(".heat-section input")
    visitor.page.click("#model-toggle")
    check("everything open")
    visitor.page.set_viewport_size({"width": 320, "height": 640})
    check("narrow")


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_no_screen_is_too_narrow(visit: Callable[..., Visitor], width: int) -> None:
    visitor = visit(model="tiny", viewport={"width": width, "height": 700})
    visitor.type(f"query {LONG}", ["the moon " * 60, LONG, "the sea"])
    visitor.page.click("#model-toggle")
    visitor.page.fill("#url", LONG.replace("https:", "nowhere:"))
    visitor.page.press("#url", "Enter")
    visitor.message()
    for text in ("https", "the moon"):
        visitor.page.locator("#ranking button", has_text=text).first.click()
        visitor.wait("text => document.querySelector('.document').textContent.includes(text)", text)
        visitor.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == width
        wide = visitor.page.evaluate(
            """width => Array.from(document.querySelectorAll("button, input, select, textarea, p, h1, h2, h3, td, th"))
                .filter(each => !each.closest(".heat-scroll, .visually-hidden, .skip"))
                .filter(each => each.getBoundingClientRect().right > width + 1)
                .map(each => each.outerHTML.slice(0, 100))""",
            width,
        )
        assert wide == []


@pytest.mark.parametrize(("wish", "moves"), [("reduce", False), ("no-preference", True)])
def test_who_wants_no_motion_sees_none(visit: Callable[..., Visitor], wish: str, moves: bool) -> None:
    visitor = visit(model="tiny", reduced_motion=wish)
    moving = visitor.page.evaluate(
        """Array.from(document.querySelectorAll("*"))
            .flatMap(each => [getComputedStyle(each), getComputedStyle(each, "::after")])
            .filter(style => style.animationName !== "none" || parseFloat(style.transitionDuration) > 0).length"""
    )
    assert (moving > 0) == moves
