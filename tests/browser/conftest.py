"""A real Chromium, and the page in it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import npm_package
import pytest
from missing import missing

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder on the path
from site_server import PAGE, Site, running
from visitor import FLAGS, Visitor


@pytest.fixture(scope="session")
def package() -> Path:
    """The built package."""
    return npm_package.built("web")


@pytest.fixture(scope="session")
def program() -> str:
    """The browser."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or missing("no Chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def browser(program: str) -> Iterator[Any]:
    """Playwright's hand on it. It must end with the file: its event loop would be in the way of other tests'."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def site(package: Path, minilm_checkpoint: Path, goldens: Path) -> Iterator[Site]:
    """The page, MiniLM, and a tiny model with random weights."""
    tiny = goldens / "a_bert_pylate" / "checkpoint"
    mounts = {"": PAGE, "chandelier/": package, "models/minilm/": minilm_checkpoint, "models/tiny/": tiny}
    with running(Site(mounts)) as site:
        yield site


@pytest.fixture
def visit(browser: Any, site: Site) -> Iterator[Callable[..., Visitor]]:
    """Opens the page: ``visit(model="tiny")``. Whatever went wrong in it without being told makes the test fail."""
    visitors: list[Visitor] = []
    contexts: list[Any] = []

    def open_page(model: str | None = None, context: Any = None, **options: Any) -> Visitor:
        if context is None:
            context = browser.new_context(**options)
            contexts.append(context)
        visitor = Visitor(context.new_page(), site)
        visitors.append(visitor)
        visitor.open(model)
        return visitor

    yield open_page
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    for context in contexts:
        context.close()
    assert complaints == []
