"""What can go wrong between the client and a server: what to try again, how long to wait, what to say."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import httpx
from weaviate.exceptions import (
    UnexpectedStatusCodeError,
    WeaviateBaseError,
    WeaviateClosedClientError,
    WeaviateConnectionError,
    WeaviateInsertManyAllFailedError,
    WeaviateTimeoutError,
)

from chandelier.exceptions import StoreError
from chandelier.store.points.engine import Refusal
from chandelier.store.points.retries import backoff

__all__ = [
    "ERRORS",
    "AllRefused",
    "Late",
    "Lost",
    "Patience",
    "Undeleted",
    "is_passing",
    "is_there_already",
    "translated",
    "wait_before",
]

ERRORS = (
    WeaviateBaseError,
    httpx.HTTPError,
    grpc.RpcError,
    OSError,
    ValueError,
    RuntimeError,
    AssertionError,
)
"""What the client raises; a client that is closed, and pydantic, raise builtin errors."""

FIRST_WAIT, LONGEST_WAIT = 0.25, 5.0
"""Seconds before a request is asked again."""

PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED)
REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
SERVER_STATE = re.compile(
    "leader not found|not ready|shutting down|shut down|shutdown in progress|already closed|context canceled"
    "|no (?:read|write) replica found|non-existing index"
)
"""What a server says that is about to stop, or has just started: its schema knows a collection before it is open."""

TOO_LARGE = re.compile("larger than max|message too large|exceeds maximum", re.IGNORECASE)


class Lost(StoreError):
    """A failure that may pass; what the request has done is not known."""


class Late(StoreError):
    """No answer in time; what the request has done is not known."""


class AllRefused(StoreError):
    """Each object of a batch was refused."""


class Undeleted(StoreError):
    """What was to be deleted is still there."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is asked again.

    Args:
        until: The moment of `time.monotonic` after which it is not, if its failure may pass.
    """

    until: float

    def wait(self, error: Exception, tried: int) -> float | None:
        """Seconds until the request is to be tried again; None if it is not."""
        wait = wait_before(tried)
        is_lost = isinstance(translated(error, ""), Lost)
        return wait if is_lost and time.monotonic() + wait <= self.until else None


def wait_before(tried: int) -> float:
    """Seconds until a request is asked again."""
    return backoff(tried, first=FIRST_WAIT, longest=LONGEST_WAIT)


def is_passing(message: str) -> bool:
    """Whether a server says that of a moment, not of what was sent."""
    return bool(SERVER_STATE.search(message))


def is_there_already(error: StoreError) -> bool:
    """Whether somebody else made what was to be made."""
    return "already exists" in str(error) or "already in use" in str(error)


def translated(error: Exception, store: str) -> StoreError:
    """Our error for one of the client's: `Lost` if it may pass, `Late`, `Refusal` if it is for what was sent."""
    said = _said(error)
    if isinstance(error, WeaviateClosedClientError):
        return StoreError(f"{store}: the client is not connected; call client.connect() first", store=store)
    if isinstance(error, RuntimeError) and re.search("loop is closed|different (event )?loop", said):
        way_out = "make a client and a store in the one that runs"
        return StoreError(f"{store}: the client belongs to another event loop; {way_out}", store=store)
    if _is_timeout(error):
        hint = "is the server running? If it is, give the store, or the client, a larger timeout"
        return Late(f"{store}: no answer in time; {hint}", store=store)
    if TOO_LARGE.search(said):
        return Refusal(f"{store}: {said}", store=store)
    if _may_pass(error, said):
        return Lost(f"{store}: {said}; is the server running?", store=store)
    if isinstance(error, WeaviateInsertManyAllFailedError):
        return AllRefused(said.partition("set of all errors: ")[2] or said, store=store)
    kind = Refusal if _code(error) in REFUSED else StoreError
    return kind(f"{store}: {said}", store=store)


def _may_pass(error: Exception, said: str) -> bool:
    status = error.status_code if isinstance(error, UnexpectedStatusCodeError) else 0
    return (
        _code(error) in PASSING
        or status in (429, 502, 503, 504)
        or any(isinstance(each, (httpx.TransportError, WeaviateConnectionError, OSError)) for each in _chain(error))
        or is_passing(said)
    )


def _is_timeout(error: Exception) -> bool:
    late = (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout, WeaviateTimeoutError)
    return _code(error) == grpc.StatusCode.DEADLINE_EXCEEDED or any(isinstance(each, late) for each in _chain(error))


def _code(error: Exception) -> grpc.StatusCode | None:
    """Of the gRPC error below, which the client keeps as the context of its own."""
    for each in _chain(error):
        if isinstance(each, grpc.RpcError) and callable(getattr(each, "code", None)):
            code: grpc.StatusCode = each.code()
            return code
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _said(error: BaseException) -> str:
    """One line; of a gRPC error its details, without the pages that Python's gRPC prints around them.

    Why there is no connection the client leaves to the error below its own.
    """
    for each in _chain(error):
        if isinstance(each, httpx.TransportError):
            return _one_line(each)
        if isinstance(each, grpc.RpcError) and callable(getattr(each, "details", None)):
            name = getattr(_code(each), "name", "gRPC error")
            return _one_line(f"{name}: {each.details()}")
    return _one_line(error)


def _one_line(text: object) -> str:
    line = " ".join(str(text).split()) or type(text).__name__
    return line if len(line) <= 500 else line[:500] + "..."
