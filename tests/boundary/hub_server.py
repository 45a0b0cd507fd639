"""A model hub on the loopback: the part of the protocol that downloads speak, and the ways in which it fails.

The real client talks to it through `HF_ENDPOINT`, so nothing between a hub name and a folder is mocked.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".onnx", ".h5")  # kept as the hub keeps large files: by SHA-256, at another address
CONTENT = r"/.+/(?P<kind>resolve|at)/[^/]+/(?P<name>.+)"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def commit_of(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha1()
    for name, content in sorted(files.items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


@dataclass
class Repository:
    """A repository and what is wrong with it.

    Attributes:
        commits: The files of each commit.
        branches: The commit of each branch and tag.
        token: The token that opens it; "" if it is public.
        gated: Whether files (not the listing) are refused.
        refuse: A status with which everything is answered, and its headers.
        stall: Seconds before everything is answered.
        cut: How often a large file's connection is cut half way.
        choke: Whether large files never give a byte, though the connection is open.
        alter: Whether a large file has another byte than its hash says.
        alter_small: The same for the other files.
        shorten: Whether large files end a byte too early.
    """

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    token: str = ""
    gated: bool = False
    refuse: tuple[int, dict[str, str]] | None = None
    stall: float = 0
    cut: int = 0
    choke: bool = False
    alter: bool = False
    alter_small: bool = False
    shorten: bool = False

    @classmethod
    def of(cls, files: Mapping[str, bytes], **wrong: Any) -> Repository:
        commit = commit_of(files)
        return cls({commit: dict(files)}, {"main": commit}, **wrong)

    def add(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        commit = commit_of(files)
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit


@dataclass
class Hub:
    """The repositories by name, and what was asked."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    tokens: set[str] = field(default_factory=set)

    def fetched(self) -> list[str]:
        """The files whose contents were asked for, in that order."""
        found = (re.fullmatch(CONTENT, path) for method, path, _ in self.requests if method == "GET")
        # Some clients ask for a large file's address twice, others go to it at once: only its blob counts.
        return [m["name"] for m in found if m and m["name"].endswith(LARGE) is (m["kind"] == "at")]

    def asked(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.requests]


@contextmanager
def serve() -> Iterator[Hub]:
    """Runs a hub in a thread."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client may go when it likes
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if not path.startswith("/blobs/"):
            self.hub.tokens.add(self.headers.get("Authorization", ""))
        routes = (
            (r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)/tree/(?P<revision>[^/]+)", self._tree),
            (r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)/revision/(?P<revision>.+)", self._info),
            (r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)", self._info),
            (r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<name>.+)", self._resolve),
            (r"/blobs/(?P<repo>[^/]+(?:/[^/]+)?)/at/(?P<revision>[^/]+)/(?P<name>.+)", self._blob),
        )
        for pattern, answer in routes:
            if match := re.fullmatch(pattern, path):
                parts = match.groupdict()
                found = self._find(parts["repo"], parts.pop("revision", "main"))
                if found is not None:
                    answer(*found, **parts)
                return
        self._refuse(404)

    def _find(self, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.hub.repositories.get(name)
        authorization = self.headers.get("Authorization", "")
        if repository is not None and self.path.startswith("/blobs/"):
            pass  # whoever has this address may use it, and no token is sent to other hosts
        elif authorization not in ("", "Bearer good"):
            self._refuse(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
            return None
        elif repository is None or (repository.token and not authorization):
            self._refuse(404 if authorization else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        else:
            time.sleep(repository.stall)
            if repository.refuse is not None:
                self._refuse(*repository.refuse)
                return None
        commit = repository.branches.get(revision, revision)
        if commit in repository.commits:
            return repository, commit
        self._refuse(404, {"X-Error-Code": "RevisionNotFound"})
        return None

    def _info(self, repository: Repository, commit: str, repo: str) -> None:
        siblings = [{"rfilename": name, **_facts(name, data)} for name, data in repository.commits[commit].items()]
        info = {"_id": "0", "id": repo, "modelId": repo, "sha": commit, "private": False, "siblings": siblings}
        self._send(200, json.dumps({**info, "tags": [], "downloads": 0, "likes": 0}).encode())

    def _tree(self, repository: Repository, commit: str, repo: str) -> None:
        entries = []
        for name, data in repository.commits[commit].items():
            facts = _facts(name, data)
            entry = {"type": "file", "path": name, "size": facts["size"], "oid": facts["blobId"]}
            if "lfs" in facts:
                entry["lfs"] = {"oid": facts["lfs"]["sha256"], "size": facts["size"], "pointerSize": 134}
            entries.append(entry)
        self._send(200, json.dumps(entries).encode())

    def _resolve(self, repository: Repository, commit: str, repo: str, name: str) -> None:
        data = repository.commits[commit].get(name)
        if data is None:
            self._refuse(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        elif repository.gated:
            self._refuse(403, {"X-Error-Code": "GatedRepo"})
        elif name.endswith(LARGE):
            # By another name of this machine: the client takes an address at the same host for the file's own.
            elsewhere = self.hub.address.replace("127.0.0.1", "localhost")
            headers = {
                "Location": f"{elsewhere}/blobs/{repo}/at/{commit}/{name}",
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data)),
            }
            self._send(302, b"", headers)
        else:
            sent = _altered(data) if repository.alter_small and self.command == "GET" else data
            self._send_part(sent, {"X-Repo-Commit": commit, "ETag": f'"{_facts(name, data)["blobId"]}"'})

    def _blob(self, repository: Repository, commit: str, repo: str, name: str) -> None:
        data = repository.commits[commit][name]
        data = _altered(data) if repository.alter else data
        data = data[:-1] if repository.shorten else data
        cut = None
        if self.command == "GET" and repository.choke:
            cut = 0
        elif self.command == "GET" and repository.cut:
            repository.cut -= 1
            cut = len(data) // 2
        self._send_part(data, {"ETag": '"elsewhere"'}, cut)

    def _send_part(self, data: bytes, headers: Mapping[str, str], cut: int | None = None) -> None:
        """Sends the bytes that the request wants, all if it does not say."""
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            self._send(200, data, headers, cut)
            return
        start, end = int(span[1]), min(int(span[2] or len(data)), len(data) - 1)
        whole = {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"}
        self._send(206, data[start : end + 1], whole, cut)

    def _refuse(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps({"error": "refused"}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, cut: int | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True
        except OSError:
            self.close_connection = True  # the client has gone


def _altered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _facts(name: str, data: bytes) -> dict[str, Any]:
    size = len(data)
    facts: dict[str, Any] = {"size": size, "blobId": hashlib.sha1(b"blob %d\0" % size + data).hexdigest()}
    if name.endswith(LARGE):
        facts["blobId"] = hashlib.sha1(b"pointer" + data).hexdigest()
        facts["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 134}
    return facts


def main(checkpoint: Path, *others: Path) -> None:
    """Serves checkpoints, the first also in bad repositories, for the tests in Rust, until stdin is closed."""
    files = files_of(checkpoint)
    junk = {"README.md": b"prose", "pytorch_model.bin": b"twice", "onnx/model.onnx": b"an export"}
    with serve() as hub:
        hub.repositories = {
            "house/plain": Repository.of({**files, **junk}),
            "house/private": Repository.of(files, token="good"),
            "house/gated": Repository.of(files, gated=True),
            "house/altered": Repository.of(files, alter=True),
            "house/spelt": Repository.of(files, alter_small=True),
            "house/broken": Repository.of(files, refuse=(500, {})),
            "house/empty": Repository.of(junk),
            **{f"goldens/{other.parent.name}": Repository.of(files_of(other)) for other in others},
        }
        print(hub.address, flush=True)
        for _ in sys.stdin:
            print(json.dumps(hub.fetched()), flush=True)
            hub.requests.clear()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
