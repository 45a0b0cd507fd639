"""Servers that compress, refuse or lie: the page opens what they have, or says what they did."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from site_server import PAGE, Site, running
from visitor import Visitor

WEIGHTS = "mine/model.safetensors"


@pytest.fixture
def checkpoint(goldens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(goldens / "a_bert_pylate" / "checkpoint", tmp_path / "mine"))


@pytest.fixture
def elsewhere(checkpoint: Path) -> Iterator[Site]:
    """Another origin, which lets the page read it, but not where a part belongs."""
    with running(Site({"": PAGE, "models/mine/": checkpoint})) as site:
        yield site


@pytest.fixture
def here(site: Site, checkpoint: Path) -> Site:
    """The page's own origin."""
    site.mounts["models/mine/"] = checkpoint
    return site


def ask(visitor: Visitor, site: Site) -> None:
    visitor.page.fill("#url", f"{site.address}models/mine/")
    visitor.page.press("#url", "Enter")


def send(handler: Any, status: int, body: bytes, **headers: str) -> None:
    """A response as the test wants it."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if "Transfer_Encoding" not in headers:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def content(handler: Any) -> bytes | None:
    path = handler._find(handler.path)
    return None if path is None else path.read_bytes()


def compress(handler: Any) -> bool:
    """Parts as they are, whole files compressed, as browsers ask for them: what nginx does, and many another."""
    if "/mine/" not in handler.path:
        return False
    whole = content(handler)
    cors = {"Access_Control_Allow_Origin": "*"}
    if whole is None:
        send(handler, 404, b"", **cors)
    elif "Range" in handler.headers:
        send(handler, 206, whole[: 1 << 16], **cors)
    else:
        assert "gzip" in handler.headers["Accept-Encoding"]
        send(handler, 200, gzip.compress(whole), Content_Encoding="gzip", **cors)
    return True


@pytest.mark.parametrize("origin", ["here", "elsewhere"])
def test_a_server_that_compresses(visit: Callable[..., Visitor], request: pytest.FixtureRequest, origin: str) -> None:
    """Its Content-Length is that of what is compressed; that it is, another origin's page does not see."""
    server: Site = request.getfixturevalue(origin)
    server.reply = compress
    visitor = visit()
    ask(visitor, server)
    visitor.wait_for_model("mine")
    visitor.type("the moon", ["the moon", "the sea"])
    assert visitor.rows()[0]["text"] == "the moon"


@pytest.mark.parametrize("status", [204, 304, 400, 402, 405, 418, 451])
def test_a_refusal_is_no_file(visit: Callable[..., Visitor], here: Site, status: int) -> None:
    here.refusal = lambda path: status if path.endswith("mine/config.json") else None
    visitor = visit()
    ask(visitor, here)
    said = visitor.message()
    assert f"mine/config.json: its server answered {status}." in said
    assert "download the folder yourself" in said
    assert [path for path, _ in here.asked].count("/models/mine/config.json") == 1
    assert all(re.search(r"the server responded with a status of \d+", each) for each in visitor.complaints)
    visitor.complaints.clear()


@pytest.mark.parametrize("status", [403, 404, 410, 416])
def test_what_need_not_be_there_may_be_missing(visit: Callable[..., Visitor], here: Site, status: int) -> None:
    here.refusal = lambda path: status if path.endswith("mine/added_tokens.json") else None
    visitor = visit()
    ask(visitor, here)
    if status == 416:  # an empty file: the core says so
        assert "added_tokens.json" in visitor.message()
    else:
        visitor.wait_for_model("mine")
    visitor.complaints.clear()


@pytest.mark.parametrize(
    ("place", "length"),
    [
        ("bytes 5-10/20", 6),
        ("bytes 0-65535/999999", 65530),
        ("bytes 0-9/20", 15),
        ("bytes 0-29/20", 30),
        ("bytes 0-99999/200000", 100000),
        ("bytes 9-0/20", 1),
    ],
)
def test_another_part_than_the_first_is_refused(
    visit: Callable[..., Visitor], here: Site, place: str, length: int
) -> None:
    def reply(handler: Any) -> bool:
        lies = handler.path.endswith(WEIGHTS)
        if lies:
            send(handler, 206, bytes(length), Content_Range=place)
        return lies

    here.reply = reply
    visitor = visit()
    ask(visitor, here)
    said = visitor.message()
    assert f"{WEIGHTS}: its server sent another part than was asked for." in said
    assert "Download the folder yourself" in said


@pytest.mark.parametrize("name", [WEIGHTS, "mine/config.json"])
def test_a_size_that_no_tab_can_hold_is_refused(visit: Callable[..., Visitor], here: Site, name: str) -> None:
    def reply(handler: Any) -> bool:
        lies = handler.path.endswith(name)
        if lies:
            send(handler, 206, bytes(10), Content_Range="bytes 0-9/999999999999999999")
        return lies

    here.reply = reply
    visitor = visit()
    ask(visitor, here)
    said = visitor.message()
    assert re.search(r"has 1,000,000,000,000 MB, and a tab can hold [\d,]+ MB", said)
    assert "Take a smaller one" in said


def test_a_part_of_a_file_is_not_taken_for_all(visit: Callable[..., Visitor], elsewhere: Site) -> None:
    """A part again, where all was asked for."""

    def reply(handler: Any) -> bool:
        found = content(handler)
        place = {"Content_Range": f"bytes 0-9/{len(found)}"} if found else {}
        send(handler, 206 if found else 404, (found or b"")[:10], Access_Control_Allow_Origin="*", **place)
        return True

    elsewhere.reply = reply
    visitor = visit()
    ask(visitor, elsewhere)
    assert "its server answered 206." in visitor.message()


def test_a_stream_without_an_end_is_ended(visit: Callable[..., Visitor], here: Site) -> None:
    """The page's limit is the real one, so that many bytes do come."""
    sent = 0
    ended = []

    def reply(handler: Any) -> bool:
        nonlocal sent
        if not handler.path.endswith(WEIGHTS):
            return False
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        piece = bytes(1 << 22)
        try:
            while sent < 3e9:
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                sent += len(piece)
        except ConnectionError:
            ended.append(sent)
            raise
        return True

    here.reply = reply
    visitor = visit()
    ask(visitor, here)
    said = visitor.message()
    assert re.search(rf"{WEIGHTS} has more than the [\d,]+ MB that a tab can hold\.", said)
    assert "Take a smaller one" in said
    visitor.wait("document.querySelector('#model-progress').hidden")
    visitor.page.wait_for_timeout(500)
    assert ended
    assert ended[0] < 3e9


def test_an_opening_that_breaks_off_is_asked_for_again(visit: Callable[..., Visitor], here: Site) -> None:
    breaks = [1, 1]

    def reply(handler: Any) -> bool:
        if not (breaks and handler.path.endswith(WEIGHTS)):
            return False
        breaks.pop()
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 0-65535/453464")
        handler.send_header("Content-Length", "65536")
        handler.end_headers()
        handler.wfile.write(bytes(100))
        handler.close_connection = True
        return True

    here.reply = reply
    visitor = visit()
    ask(visitor, here)
    visitor.wait_for_model("mine")
    assert breaks == []
