"""Serve the page of this folder, the built package and a checkpoint, on the loopback and until Ctrl-C.

    make demo-browser                                             # builds what is served, then runs this
    python examples/browser/serve.py --model path/to/checkpoint   # another checkpoint

Any static server does: put the built package beside the page as `chandelier/`. Ranges let a download be resumed.
"""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

PAGE = Path(__file__).parent
ROOT = PAGE.parents[1]
MODELS = "models/"
SERVED = {
    ".html",
    ".css",
    ".js",
    ".svg",
    ".wasm",
    ".json",
    ".txt",
    ".metadata",
    ".safetensors",
    ".model",
    ".bin",
    ".ts",
}
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Handler(SimpleHTTPRequestHandler):
    """Files below a few folders, in whole or in part, each with a version.

    Args:
        mounts: The folders, by the path under which they are served: `""` for the page's own, others end with a slash.
    """

    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def __init__(self, *args: object, mounts: dict[str, Path]) -> None:
        self.mounts = mounts
        super().__init__(*args)  # type: ignore[arg-type]

    def handle(self) -> None:
        """Answers until the connection ends; whoever asked may go away at any time."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Sends a file, or the part that was asked for."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Sends what is known about a file."""
        self._answer(with_body=False)

    def end_headers(self) -> None:
        """Adds what holds for everything that is served."""
        self.send_header("Content-Security-Policy", policy())
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the address should stay in sight."""

    def _answer(self, *, with_body: bool) -> None:
        where = urlsplit(self.path)
        model = next((mount for mount in self.mounts if mount.startswith(MODELS)), None)
        if where.path == "/" and not where.query and model:
            self._refuse(HTTPStatus.FOUND, Location=f"/?model={quote(model)}")
            return
        path = self._find(unquote(where.path))
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            size = path.stat().st_size
            part = asked_part(self.headers.get("Range"), size)
            if part is None:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, **{"Content-Range": f"bytes */{size}"})
                return
            start, end = part.start, part.stop
            whole = "Range" not in self.headers
            self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
            if not whole:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Type", self.guess_type(str(path)))
            self.send_header("Content-Length", str(end - start))
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}-{size:x}"')
            self.end_headers()
            if with_body:
                self.send_body(path, file, part)

    def send_body(self, path: Path, file: BinaryIO, part: range) -> None:
        """Sends a part of a file."""
        file.seek(part.start)
        left = len(part)
        while left and (piece := file.read(min(left, 1 << 20))):
            self.wfile.write(piece)
            left -= len(piece)

    def _find(self, path: str) -> Path | None:
        """The file, if it is one that is meant to be seen."""
        path = path.removeprefix("/") or "index.html"
        mount = max((mount for mount in self.mounts if path.startswith(mount)), key=len)
        folder = self.mounts[mount].resolve()
        if "\0" in path:
            return None
        found = (folder / path.removeprefix(mount).lstrip("/")).resolve()
        is_ours = found.is_relative_to(folder) and found.suffix in SERVED
        return found if is_ours and found.is_file() else None

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def asked_part(header: str | None, size: int) -> range | None:
    """The bytes that a `Range` header asks for, all without one, and None if there are none such."""
    found = RANGE.fullmatch(header or "bytes=0-")
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found.groups()
    if not first:  # so many at the end
        return range(max(0, size - int(last)), size) if int(last) and size else None
    part = range(int(first), min(int(last) + 1, size) if last else size)
    return part if part or (header is None and size == 0) else None


def policy() -> str:
    """The page's own Content-Security-Policy, and what only a header can say."""
    found = re.search(r'Content-Security-Policy" content="([^"]+)"', (PAGE / "index.html").read_text(encoding="utf-8"))
    if found is None:
        sys.exit(f"{PAGE / 'index.html'}: no Content-Security-Policy, wanted one")
    return f"{' '.join(found[1].split())}; frame-ancestors 'none'"


def main() -> None:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the page on the loopback.")
    parser.add_argument("--package", type=Path, default=ROOT / "target/wasm/web", help="what `make wasm` built")
    parser.add_argument("--model", type=Path, help="folder of a checkpoint, which the page loads by itself")
    parser.add_argument("--port", type=int, default=8118, help="0 for any that is free (default: %(default)s)")
    options = parser.parse_args()
    if not (options.package / "chandelier.js").is_file():
        sys.exit(f"{options.package}: no package there; `make wasm` builds it")
    mounts = {"": PAGE, "chandelier/": options.package}
    if options.model:
        if not (options.model / "config.json").is_file():
            sys.exit(f"{options.model}: no config.json there, wanted the folder of a checkpoint")
        mounts[f"{MODELS}{options.model.resolve().name}/"] = options.model
    try:
        server = ThreadingHTTPServer(("127.0.0.1", options.port), partial(Handler, mounts=mounts))
    except OSError as error:
        sys.exit(f"port {options.port}: {error.strerror}; choose another with --port, or PORT=... make demo-browser")
    with server, suppress(KeyboardInterrupt):
        print(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    print()


if __name__ == "__main__":
    main()
