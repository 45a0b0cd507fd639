"""`examples/browser/serve.py`: ranges, versions, nothing outside of its folders, and a clean end."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_server import PAGE, Site, running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, as far as a server can tell."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes(b"0123456789")
    (tmp_path / "model" / "empty.json").write_bytes(b"")
    (tmp_path / "model" / ".secret").write_text("secret")
    (tmp_path / "secret.json").write_text("secret")
    (tmp_path / "model" / "link.json").symlink_to(tmp_path / "secret.json")
    return tmp_path / "model"


@pytest.fixture
def plain(folder: Path) -> Iterator[Site]:
    with running(Site({"": PAGE, "models/mine/": folder})) as site:
        yield site


def ask(site: Site, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(site.address.removeprefix("http://").rstrip("/"), timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        (None, 200, b"0123456789", None),
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=5-2", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=-", 416, b"", "bytes */10"),
        ("words=1-2", 416, b"", "bytes */10"),
    ],
)
def test_parts_of_files(plain: Site, asked: str | None, status: int, content: bytes, told: str | None) -> None:
    headers = {"Range": asked} if asked else {}
    answer = ask(plain, "/models/mine/config.json", **headers)
    assert (answer[0], answer[2], answer[1].get("Content-Range")) == (status, content, told)
    if status < 400:
        assert answer[1]["Content-Type"] == "application/json"
        assert answer[1]["ETag"]


def test_empty_files_and_heads(plain: Site) -> None:
    assert ask(plain, "/models/mine/empty.json")[::2] == (200, b"")
    assert ask(plain, "/models/mine/empty.json", Range="bytes=0-9")[0] == 416
    status, headers, content = ask(plain, "/models/mine/config.json", "HEAD")
    assert (status, headers["Content-Length"], content) == (200, "10", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/models/mine/../secret.json",
        "/models/mine/%2e%2e/secret.json",
        "/models/mine/..%2fsecret.json",
        "/models/mine//etc/passwd",
        "/models/mine/link.json",
        "/models/mine/.secret",
        "/models/mine/",
        "/models/mine/con%00fig.json",
        "/serve.py",
        "/src/",
        "/..%5c..%5csecret.json",
        "//etc/hostname",
        "/etc/passwd",
    ],
)
def test_nothing_else_is_served(plain: Site, path: str) -> None:
    status, _, content = ask(plain, path)
    assert (status, content) == (404, b"")


def test_the_page_comes_with_its_policy(plain: Site) -> None:
    status, headers, _ = ask(plain, "/")
    assert (status, headers["Location"]) == (302, "/?model=models/mine/")
    status, headers, content = ask(plain, "/?model=models/mine/")
    assert status == 200
    assert b"<title>chandelier" in content
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy


def run(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(PAGE / "serve.py"), "--package", str(folder), "--port", "0", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_prints_its_address_and_ends_with_control_c(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "chandelier.js").write_text("")
    with run(tmp_path, "--model", str(folder)) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=10)
        connection.request("GET", "/models/model/config.json")
        assert connection.getresponse().read() == b"0123456789"
        process.send_signal(signal.SIGINT)  # while a connection is open
        out, err = process.communicate(timeout=10)
        connection.close()
    assert (process.returncode, out.strip(), err) == (0, "", "")


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with run(tmp_path) as process:
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "make wasm" in err
    (tmp_path / "chandelier.js").write_text("")
    with run(tmp_path, "--model", str(tmp_path)) as process:
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "config.json" in err
