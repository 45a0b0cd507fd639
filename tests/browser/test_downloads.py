"""A checkpoint behind an address: in pieces, kept, resumed, and never taken for whole while it is not."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from site_server import PAGE, Site, running
from visitor import FLAGS, Visitor

# Of MiniLM's weights: the openings of two files, 4 MiB a piece of the encoder's, and the rest of the projection's.
OPENINGS, PIECES, PROJECTION = 2, 22, 1


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """A visitor who comes back."""
    context = browser.new_context()
    yield context
    context.close()


def ask(visitor: Visitor, address: str) -> None:
    visitor.page.fill("#url", address)
    visitor.page.press("#url", "Enter")


def test_what_was_downloaded_is_kept(visit: Callable[..., Visitor], site: Site, context: Any) -> None:
    first = visit(model="minilm", context=context)
    assert len(site.weights_asked) == OPENINGS + PIECES + PROJECTION
    rows = first.rows()
    first.page.close()
    site.asked.clear()
    second = visit(model="minilm", context=context)
    assert len(site.weights_asked) == OPENINGS
    assert second.rows() == rows
    second.page.click("#model-toggle")
    assert "91 MB of models are kept" in second.page.inner_text("#kept")
    second.page.click("#forget")
    second.page.wait_for_selector("#kept", state="hidden")
    site.asked.clear()
    second.page.reload()
    second.wait_for_model("minilm")
    assert len(site.weights_asked) == OPENINGS + PIECES + PROJECTION


def test_a_tab_that_was_closed_goes_on_where_it_was(visit: Callable[..., Visitor], site: Site, context: Any) -> None:
    site.seconds = 0.15
    first = visit(context=context)
    ask(first, "models/minilm/")
    first.wait("document.querySelector('#model-progress progress').value > 0.3")
    told = first.page.inner_text("#progress-text")
    assert told.startswith("model.safetensors of minilm:")
    assert told.endswith("of 91 MB")
    first.page.close()
    assert len(site.weights_asked) < OPENINGS + PIECES
    site.seconds = 0
    site.asked.clear()
    second = visit(model="minilm", context=context)
    assert PROJECTION < len(site.weights_asked) - OPENINGS <= PIECES + PROJECTION - 6  # 0.3 of 22 had come
    assert second.rows()[0]["text"].startswith("A lighthouse")


def test_a_download_can_be_cancelled(visit: Callable[..., Visitor], site: Site) -> None:
    visitor = visit()
    site.seconds = 0.3
    ask(visitor, "models/minilm/")
    visitor.wait("document.querySelector('#model-progress progress').value > 0.1")
    visitor.page.click("#cancel")
    visitor.page.wait_for_selector("#model-progress", state="hidden")
    assert visitor.page.locator(".message").count() == 0
    assert visitor.focused() == "model-toggle"
    asked = len(site.weights_asked)
    visitor.page.wait_for_timeout(700)
    assert len(site.weights_asked) <= asked + 1


@pytest.mark.parametrize("damage", ["content.slice(0, 1000)", "content.fill(7, 5, 6)"], ids=["cut", "changed"])
def test_a_damaged_piece_is_fetched_again(visit: Callable[..., Visitor], site: Site, context: Any, damage: str) -> None:
    first = visit(model="minilm", context=context)
    rows = first.rows()
    first.page.evaluate(
        """async damage => {
            const cache = await caches.open("chandelier-pieces-1");
            const [, key] = await cache.keys();
            const found = await cache.match(key);
            const content = new Uint8Array(await found.arrayBuffer());
            await cache.put(key, new Response(damage === "cut" ? content.slice(0, 1000) : content.fill(7, 5, 6),
                { headers: found.headers }));
        }""",
        "cut" if "slice" in damage else "changed",
    )
    site.asked.clear()
    first.page.reload()
    first.wait_for_model("minilm")
    first.wait_for_ranking()
    assert len(site.weights_asked) == OPENINGS + 1
    assert first.rows() == rows


def test_a_file_that_changed_is_fetched_anew(
    visit: Callable[..., Visitor], site: Site, context: Any, minilm_checkpoint: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in minilm_checkpoint.rglob("*"):
        copy = mine / path.relative_to(minilm_checkpoint)
        copy.mkdir() if path.is_dir() else copy.write_bytes(path.read_bytes())
    site.mounts["models/mine/"] = mine
    visit(model="mine", context=context).page.close()
    (mine / "model.safetensors").touch()
    site.asked.clear()
    visit(model="mine", context=context)
    assert len(site.weights_asked) == OPENINGS + PIECES


def test_a_connection_that_breaks_is_tried_again(visit: Callable[..., Visitor], site: Site) -> None:
    site.breaks_after, site.breaks = 3, 2
    visitor = visit(model="minilm")
    assert site.breaks == 0
    assert len(site.weights_asked) == OPENINGS + PIECES + PROJECTION + 2
    assert visitor.rows()[0]["text"].startswith("A lighthouse")


def test_a_server_that_is_gone_is_told_and_what_came_is_kept(visit: Callable[..., Visitor], site: Site) -> None:
    visitor = visit()
    site.breaks_after = 3
    ask(visitor, "models/minilm/")
    said = visitor.message()
    assert "did not arrive" in said
    assert "Load it again to go on" in said
    site.breaks_after = None
    site.asked.clear()
    visitor.page.click("text=Try again")
    visitor.wait_for_model("minilm")
    assert len(site.weights_asked) == OPENINGS + PIECES + PROJECTION - 3


def test_a_server_without_ranges_will_do(visit: Callable[..., Visitor], site: Site) -> None:
    site.has_ranges = False
    visitor = visit(model="minilm")
    assert visitor.rows()[0]["text"].startswith("A lighthouse")
    site.breaks_after = 0
    visitor.page.click("#model-toggle")
    ask(visitor, "models/minilm/")
    assert "did not arrive" in visitor.message()
    assert "minilm stays open" in visitor.message()


def test_a_server_that_asks_who_you_are_is_not_asked_again(visit: Callable[..., Visitor], site: Site) -> None:
    site.refusal = lambda path: 401 if path.endswith("config.json") else None
    visitor = visit()
    ask(visitor, "models/tiny/")
    said = visitor.message()
    assert "asks who you are" in said
    assert "Download the folder yourself" in said
    asked = [path for path, _ in site.asked]
    assert asked.count("/models/tiny/config.json") == 1


def test_a_server_that_is_busy_is_asked_again(visit: Callable[..., Visitor], site: Site) -> None:
    busy = [429, 429]
    site.refusal = lambda path: busy.pop() if busy and path.endswith("tiny/model.safetensors") else None
    visit(model="tiny")
    assert busy == []
    assert site.asked.count(("/models/tiny/model.safetensors", "bytes=0-65535")) == 3


def test_a_server_that_stays_broken_is_told(visit: Callable[..., Visitor], site: Site) -> None:
    site.refusal = lambda path: 503 if path.endswith("tiny/modules.json") else None
    visitor = visit()
    ask(visitor, "models/tiny/")
    said = visitor.message()
    assert "tiny/modules.json did not arrive: the server answered 503" in said
    asked = [path for path, _ in site.asked]
    assert asked.count("/models/tiny/modules.json") == 4
    site.refusal = lambda path: None
    visitor.page.click("text=Try again")
    visitor.wait_for_model("tiny")


def test_a_page_in_place_of_a_missing_file_is_no_file(visit: Callable[..., Visitor], site: Site) -> None:
    site.missing = b"<!doctype html><title>All that is asked for is here</title>"
    visitor = visit(model="tiny")
    visitor.type("the moon", ["the moon", "the sea"])
    assert visitor.rows()[0]["text"] == "the moon"
    visitor.page.click("#model-toggle")
    ask(visitor, "models/nowhere/")
    assert "There is no config.json" in visitor.message()


@pytest.mark.parametrize(
    ("case", "name", "old", "new"),
    [
        ("a_bert_pylate", "modules.json", '"1_Dense"', '"../1_Dense"'),
        ("g_bert_sharded", "model.safetensors.index.json", '"model-00001', '"../model-00001'),
    ],
)
def test_nothing_outside_of_the_folder_is_fetched(
    visit: Callable[..., Visitor], site: Site, goldens: Path, tmp_path: Path, case: str, name: str, old: str, new: str
) -> None:
    mine = Path(shutil.copytree(goldens / case / "checkpoint", tmp_path / "mine"))
    site.mounts["models/mine/"] = mine
    text = (mine / name).read_text()
    assert old in text
    (mine / name).write_text(text.replace(old, new))
    visitor = visit()
    ask(visitor, "models/mine/")
    visitor.message()
    asked = {path for path, _ in site.asked if path.startswith("/models/")}
    assert f"/models/mine/{name}" in asked
    assert [path for path in asked if not path.startswith("/models/mine/")] == []


@pytest.mark.parametrize("has_ranges", [True, False])
def test_what_is_too_large_is_refused_before_it_is_fetched(
    visit: Callable[..., Visitor], site: Site, goldens: Path, tmp_path: Path, has_ranges: bool
) -> None:
    mine = Path(shutil.copytree(goldens / "a_bert_pylate" / "checkpoint", tmp_path / "mine"))
    os.truncate(mine / "model.safetensors", 700_000_000)
    os.truncate(mine / "1_Dense" / "model.safetensors", 600_000_000)
    site.mounts["models/mine/"] = mine
    site.has_ranges = has_ranges
    visitor = visit()
    ask(visitor, "models/mine/")
    said = visitor.message()
    assert "1,300 MB, and a tab can hold 1,200 MB" in said
    assert "Take a smaller one" in said
    assert len(site.weights_asked) == OPENINGS
    os.truncate(mine / "1_Dense" / "model.safetensors", 400_000_000)
    visitor.page.click("text=Try again")
    visitor.wait("document.querySelector('#progress-text').textContent.endsWith('of 1,100 MB')")
    visitor.page.click("#cancel")


def test_another_origin_must_allow_it(
    visit: Callable[..., Visitor], package: Path, goldens: Path, minilm_checkpoint: Path
) -> None:
    with running(Site({"": PAGE, "models/far/": minilm_checkpoint})) as elsewhere:
        visitor = visit()
        ask(visitor, f"{elsewhere.address}models/far/")
        assert "CORS" in visitor.message()
        elsewhere.allowed_origin = "*"
        ask(visitor, f"{elsewhere.address}models/far")
        visitor.wait_for_model("far")


def test_only_a_model_of_its_own_is_loaded_unasked(visit: Callable[..., Visitor], goldens: Path) -> None:
    with running(Site({"": PAGE, "models/far/": goldens / "a_bert_pylate" / "checkpoint"})) as elsewhere:
        elsewhere.allowed_origin = "*"
        visitor = visit()
        visitor.page.goto(f"{visitor.site.address}?model={elsewhere.address}models/far/")
        visitor.wait("document.querySelector('#url').value.endsWith('/far/')")
        visitor.page.wait_for_timeout(300)
        assert elsewhere.asked == []
        visitor.page.press("#url", "Enter")
        visitor.wait_for_model("far")


def test_a_full_storage_is_told_and_the_model_works(visit: Callable[..., Visitor], site: Site) -> None:
    visitor = visit()
    session = visitor.page.context.new_cdp_session(visitor.page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": site.address.rstrip("/"), "quotaSize": 20_000_000})
    ask(visitor, "models/minilm/")
    visitor.wait_for_model("minilm")
    said = visitor.message()
    assert "its storage is full" in said
    assert "free some space" in said
    visitor.wait_for_ranking()
    assert visitor.rows()[0]["text"].startswith("A lighthouse")


def test_a_browser_that_keeps_nothing_works(program: str, browser: Any, site: Site, tmp_path: Path) -> None:
    """Its user has forbidden pages to store data."""
    preferences = tmp_path / "profile" / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    preferences.write_text(json.dumps({"profile": {"default_content_setting_values": {"cookies": 2}}}))
    context = browser.browser_type.launch_persistent_context(
        str(tmp_path / "profile"), executable_path=program, args=FLAGS
    )
    try:
        visitor = Visitor(context.new_page(), site)
        visitor.open("minilm")
        assert "could not keep it" in visitor.message()
        assert visitor.rows()[0]["text"].startswith("A lighthouse")
        assert visitor.complaints == []
    finally:
        context.close()


def test_a_page_that_is_not_secure_works(program: str, browser: Any, site: Site) -> None:
    """Over http from another machine, where browsers have no cache for pages."""
    flags = [*FLAGS, "--host-resolver-rules=MAP chandelier.test 127.0.0.1"]
    with browser.browser_type.launch(executable_path=program, args=flags) as insecure:
        site.address = site.address.replace("127.0.0.1", "chandelier.test")
        visitor = Visitor(insecure.new_page(), site)
        visitor.open("minilm")
        assert "secure pages only" in visitor.message()
        assert visitor.rows()[0]["text"].startswith("A lighthouse")
        assert visitor.complaints == []


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("https://huggingface.co/owner/name", "/owner/name/resolve/main/"),
        ("https://huggingface.co/owner/name/tree/v1.0", "/owner/name/resolve/v1.0/"),
        ("https://huggingface.co/owner/name/blob/main/config.json", "/owner/name/resolve/main/"),
        ("https://huggingface.co/owner/name/resolve/main/?download=true", "/owner/name/resolve/main/"),
        ("https://elsewhere.test/owner/name", "/owner/name/"),
        ("https://elsewhere.test/models/name/model.safetensors", "/models/name/"),
    ],
)
def test_a_copied_address_leads_to_the_files(visit: Callable[..., Visitor], address: str, folder: str) -> None:
    """Nothing answers there in a test: what is seen is what would be asked for."""
    visitor = visit()
    asked: set[str] = set()

    def refuse(route: Any) -> None:
        asked.add(route.request.url)
        route.abort()

    visitor.page.route(re.compile("^https:"), refuse)
    ask(visitor, address)
    wanted = f"https://{address.split('/')[2]}{folder}"
    visitor.page.wait_for_timeout(1500)
    assert f"{wanted}config.json" in asked
    assert all(url.startswith(wanted) for url in asked)
    visitor.page.click("#cancel")
