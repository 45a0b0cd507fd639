"""The page as `examples/browser/serve.py` serves it, with everything that can go wrong on the way to it."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

PAGE = Path(__file__).parents[2] / "examples" / "browser"

_spec = importlib.util.spec_from_file_location("serve", PAGE / "serve.py")
assert _spec is not None
assert _spec.loader is not None
serve = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(serve)


class Site:
    """A server on the loopback, and what it is to do wrong.

    Attributes:
        mounts: The folders that it serves, as `serve.Handler` takes them.
        asked: The path and the `Range` of every request.
        seconds: How long each part of a file takes.
        breaks_after: So many parts of weights are sent; then it hangs up in the middle of each.
        breaks: How often it does that.
        has_ranges: Whether it sends parts of files.
        refusal: The status with which it refuses a path; None for those that it serves.
        reply: Answers a request in a way of its own, given the handler; says whether it did.
        missing: What it sends, with status 200, for files that are not there; None for a status of 404.
        allowed_origin: Which other pages may read it.
    """

    def __init__(self, mounts: dict[str, Path]) -> None:
        self.mounts = mounts
        self.asked: list[tuple[str, str | None]] = []
        self.seconds = 0.0
        self.breaks_after: int | None = None
        self.breaks = 1000
        self.has_ranges = True
        self.refusal: Callable[[str], int | None] = lambda path: None
        self.reply: Callable[[Any], bool] = lambda handler: False
        self.missing: bytes | None = None
        self.allowed_origin: str | None = None
        self.address = ""

    @property
    def weights_asked(self) -> list[str | None]:
        """The ranges of weights that were asked for."""
        return [part for path, part in self.asked if path.endswith("model.safetensors")]


class _Handler(serve.Handler):  # type: ignore[name-defined, misc]
    def __init__(self, *args: Any, site: Site) -> None:
        self.site = site
        super().__init__(*args, mounts=site.mounts)

    def do_GET(self) -> None:
        self.site.asked.append((self.path, self.headers.get("Range")))
        if not self.site.has_ranges:
            del self.headers["Range"]
        status = self.site.refusal(self.path)
        if self.site.reply(self):
            return
        if status is None:
            super().do_GET()
        else:
            self._refuse(HTTPStatus(status))

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        if status != HTTPStatus.NOT_FOUND or self.site.missing is None:
            super()._refuse(status, **headers)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.site.missing)))
        self.end_headers()
        self.wfile.write(self.site.missing)

    def end_headers(self) -> None:
        if self.site.allowed_origin:
            self.send_header("Access-Control-Allow-Origin", self.site.allowed_origin)
            self.send_header("Access-Control-Expose-Headers", "Content-Range, ETag")
        super().end_headers()

    def send_body(self, path: Path, file: BinaryIO, part: range) -> None:
        if len(part) > 1 << 16 and path.suffix == ".safetensors":
            time.sleep(self.site.seconds)
            if self.site.breaks_after is not None:
                self.site.breaks_after -= 1
                if self.site.breaks_after < 0 < self.site.breaks:
                    self.site.breaks -= 1
                    super().send_body(path, file, part[: len(part) // 2])
                    self.close_connection = True
                    return
        super().send_body(path, file, part)


@contextmanager
def running(site: Site) -> Iterator[Site]:
    """Serves until the end of the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, site=site)) as server:
        server.daemon_threads = True
        site.address = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
