"""What goes wrong on purpose, and what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MESSAGES = {
    408: "Timeout error: Operation timed out",
    413: "Request Entity Too Large",
    429: "Rate limiting exceeded: Write rate limit exceeded, retry later",
    500: "Service internal error: task panicked",
    502: "Bad Gateway",
    503: "Service temporarily unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        operation: The method of `QdrantClient` whose request it is; "" for any request to `/collections`.
        status: An HTTP status (gRPC: the code for it) that is answered; nothing is applied.
        message: The error's text, where `MESSAGES` has not the right one.
        retry_after: Seconds that a 429 asks to wait; None leaves the header out.
        delay: Seconds before the request is applied. It is applied even if the client has given up by then.
        stall: Seconds between applying and answering.
        drop: The connection is lost: `"before"` the request was read; in the `"middle"`, with the first half of its
            points stored; `"after"` it was applied, before an answer; or with half of its `"answer"` sent.
            In gRPC the call ends as UNAVAILABLE "Stream removed", as calls in flight did when a real server died.
    """

    operation: str = ""
    status: int = 0
    message: str = ""
    retry_after: int | None = None
    delay: float = 0
    stall: float = 0
    drop: Literal["", "before", "middle", "after", "answer"] = ""


@dataclass
class Call:
    """A request as it came.

    Attributes:
        operation: The method of `QdrantClient` that makes such requests.
        collection: The collection's name, or "".
        protocol: "rest" or "grpc".
        size: Bytes of the body or message.
        points: How many points it writes (or reads or deletes by id), or queries it holds; 0 if it was not read.
        wait: Whether the client waits until writes are applied.
        outcome: 200, the status it was refused with, or "dropped"; 0 while it is being answered.
    """

    operation: str
    collection: str
    protocol: Literal["rest", "grpc"]
    size: int
    points: int = 0
    wait: bool = True
    outcome: int | str = 0


class Refusal(Exception):
    """An answer that is an error, by its HTTP status."""

    def __init__(self, status: int, message: str = "", retry_after: int | None = None) -> None:
        self.status = status
        self.message = message or MESSAGES[status]
        self.retry_after = retry_after
        super().__init__(status, self.message)


class ConnectionDropped(Exception):
    """The connection goes away; `partly` with half of the answer sent."""

    def __init__(self, partly: object = None) -> None:
        self.partly = partly
        super().__init__()
