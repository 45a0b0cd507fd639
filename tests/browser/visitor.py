"""What a visitor does on the page, and what the page complains about."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from site_server import Site

# With which a browser starts in a container, and asks for nothing by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Not every checkpoint has every file, and a server that breaks down is what some tests are about.
EXPECTED = re.compile(
    r"Failed to load resource: (the server responded with a status of (401|404|429|503)|net::ERR_)|CORS policy"
)


class Visitor:
    """A tab with the page.

    Attributes:
        page: Playwright's.
        complaints: What stands in the console, errors that nothing caught, and violations of the security policy.
    """

    def __init__(self, page: Any, site: Site) -> None:
        self.page = page
        self.site = site
        self.complaints: list[str] = []
        page.set_default_timeout(30_000)
        page.on("console", lambda message: self._note(message.text))
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("dialog", lambda dialog: (self._note(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _note(self, text: str) -> None:
        if not EXPECTED.search(text):
            self.complaints.append(text)

    def open(self, model: str | None = None) -> None:
        """Goes to the page; with a model waits until it is open. Under `/` the server would choose one."""
        self.page.goto(self.site.address + (f"?model=models/{model}/" if model else "index.html"))
        if model:
            self.wait_for_model(model)
            self.wait_for_ranking()

    def wait(self, condition: str, argument: object = None) -> None:
        """Until a JavaScript condition holds. The page's policy forbids what Playwright does for that."""
        deadline = time.monotonic() + 30
        while not self.page.evaluate(condition, argument):
            assert time.monotonic() < deadline, f"{condition}: not within 30 s; {self.page.inner_text('main')[:2000]}"
            self.page.wait_for_timeout(25)

    def wait_for_model(self, name: str) -> None:
        self.wait("name => document.querySelector('#model-summary').textContent.startsWith(name + ':')", name)

    def wait_for_ranking(self) -> None:
        """Until what is shown belongs to what was typed: the page waits for a pause of 150 ms."""
        self.page.wait_for_timeout(250)
        self.wait("document.querySelector('#results').ariaBusy === 'false' && !!document.querySelector('#ranking *')")

    def type(self, query: str | None = None, documents: list[str] | None = None) -> None:
        """Fills the fields."""
        if query is not None:
            self.page.fill("#query", query)
        if documents is not None:
            self.paste(documents)
        self.wait_for_ranking()

    def paste(self, documents: list[str]) -> None:
        """Replaces the documents at once; Playwright's own way takes half a minute for 3,000 lines."""
        self.page.locator("#documents").evaluate(
            "(field, text) => { field.value = text; field.dispatchEvent(new InputEvent('input')); }",
            "\n".join(documents),
        )

    def rows(self) -> list[dict[str, Any]]:
        """The ranking: excerpt, both scores, and both numbers of tokens, best first."""
        found: list[dict[str, Any]] = self.page.evaluate(
            """() => Array.from(document.querySelectorAll("#ranking tbody tr"), row => {
                const numbers = Array.from(row.querySelectorAll("td"), cell => [
                    Number(cell.querySelector("data").value), parseInt(cell.querySelector(".tokens").textContent)]);
                return {text: row.querySelector(".excerpt").textContent, score: numbers[0][0], tokens: numbers[0][1],
                    pooled: numbers[1][0], pooledTokens: numbers[1][1]};
            })"""
        )
        return found

    def message(self, place: str = "#model-messages") -> str:
        """The message that is shown there, once it is."""
        return str(self.page.wait_for_selector(f"{place} .message").inner_text())

    def drop(self, *paths: Path) -> None:
        """Drags files or folders from the visitor's disk onto the page."""
        session = self.page.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 200, "data": data})
        session.detach()

    def focused(self) -> str:
        """What has the focus: its id, or its text."""
        return str(
            self.page.evaluate(
                "(document.activeElement.id || document.activeElement.textContent || document.activeElement.ariaLabel)"
            )
        )
