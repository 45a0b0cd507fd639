"""The page of an explanation in a real browser: quiet, self-contained, harmless, readable by day and by night."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chandelier import ColBERT, Explanation

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder on the path
from browser import Browser, find_browser

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on the PATH to look at the page with")

QUERY = 'which <b onmouseover="alert(1)">light</b> keeps ships & boats?'
HOSTILE = (
    "A lighthouse <script>document.title = 'executed'</script> keeps \"ships\" & 'boats' <img src=x onerror=alert(1)>"
    " </p></section></main><style>* { display: none }</style> off the \x00\x07\x1b[31m rocks \u202eekil."
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    browser = Browser(PROGRAM)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def explanation(tiny: ColBERT) -> Explanation:
    return tiny.explain(QUERY, HOSTILE + " fog horn" * 200)


@pytest.fixture
def shown(browser: Browser, explanation: Explanation, tmp_path: Path) -> Browser:
    page = tmp_path / "page.html"
    page.write_text(explanation.to_html(), encoding="utf-8")
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.open(page)
    return browser


def test_the_page_is_quiet_and_asks_for_nothing(shown: Browser) -> None:
    shown.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    shown.evaluate("document.querySelector('.cells img').decode().then(() => 'decoded')")
    methods = {event["method"] for event in shown.events}
    assert not methods & {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}, shown.events
    requests = [e["params"]["request"]["url"] for e in shown.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1, "the page itself"
    assert shown.evaluate("document.querySelector('.cells img').naturalWidth") > 100


def test_hostile_text_is_text(shown: Browser, explanation: Explanation) -> None:
    assert shown.evaluate("document.title").endswith("· chandelier")
    assert shown.evaluate("document.querySelectorAll('script, [onerror], [onmouseover]').length") == 0
    document = shown.evaluate("document.querySelector('.document').textContent")
    seen = explanation.document[: explanation.document_seen[1]]
    tamed = re.sub(r"[\x00\x07\x1b]", lambda found: chr(0x2400 + ord(found[0])), seen).replace("\u202e", "\ufffd")
    assert document.startswith(tamed)
    assert shown.evaluate("document.querySelector('h2').textContent") == QUERY
    assert shown.evaluate("document.querySelector('.document').getBoundingClientRect().height") > 20


CONTRAST = """
(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((value, i) => a * value + (1 - a) * below[i]);
  const light = rgb => rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const card = document.querySelector('.chandelier-explanation');
  const paper = parse(getComputedStyle(card).backgroundColor);
  const ratio = element => {
    const style = getComputedStyle(element);
    const ground = over(parse(style.backgroundColor), paper);
    const ink = over([...parse(style.color).slice(0, 3), Number(style.opacity)], ground);
    const [dark, bright] = [light(ink), light(ground)].sort((a, b) => a - b);
    return (bright + .05) / (dark + .05);
  };
  const named = ['h2', '.score', 'mark', '.spoken li', '.unspoken li', '.unseen', '.note', 'summary', 'td', 'thead th'];
  return Object.fromEntries(named.map(name => [name, Math.min(...[...card.querySelectorAll(name)].map(ratio))]));
})()
"""


def test_colours_follow_the_screen_and_can_be_read(shown: Browser) -> None:
    papers = {}
    for scheme in ("light", "dark"):
        shown.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for name, ratio in shown.evaluate(CONTRAST).items():
            assert ratio >= 4.5, f"{scheme}: {name} has a contrast of {ratio:.2f}"
        papers[scheme] = shown.evaluate(
            "[document.body, document.querySelector('section')].map(each => getComputedStyle(each).backgroundColor)"
        )
    assert papers["light"][0] != papers["dark"][0]
    assert papers["light"][1] != papers["dark"][1]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(shown: Browser, width: int) -> None:
    shown.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 1000)
    shown.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    if width < 1000:
        assert shown.evaluate("(heat => heat.scrollWidth > heat.clientWidth)(document.querySelector('.heat'))")


def test_two_in_one_page_leave_it_and_each_other_alone(browser: Browser, tiny: ColBERT, tmp_path: Path) -> None:
    """As in a notebook: styles of the page and of the explanations do not meet."""
    parts = [tiny.explain("the moon", text)._repr_html_() for text in ("The Moon moves the sea.", "Bread and salt.")]
    page = tmp_path / "notebook.html"
    strange = "li { font-size: 40px } table, td { background: red; border: 9px solid } p, h2 { color: red }"
    body = f"<style>{strange}</style><ul><li id=own>own</li></ul><mark id=mark>own</mark>{''.join(parts)}"
    page.write_text(f"<!doctype html><meta charset=utf-8>{body}", encoding="utf-8")
    browser.open(page)
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert browser.evaluate(style.format("#own", "fontSize")) == "40px"
    assert browser.evaluate(style.format("#mark", "backgroundColor")) == "rgb(255, 255, 0)"
    assert browser.evaluate("document.querySelectorAll('section').length") == 2
    assert float(browser.evaluate(style.format(".spoken li", "fontSize")).removesuffix("px")) < 20
    for name in (".document", "h2", "section td", "section table"):
        colours = browser.evaluate(f"[{style.format(name, 'color')}, {style.format(name, 'backgroundColor')}]")
        assert "rgb(255, 0, 0)" not in colours, name
