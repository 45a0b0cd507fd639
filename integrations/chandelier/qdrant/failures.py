"""What can go wrong between the client and a server: what to try again, how long to wait, what to say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from chandelier.exceptions import StoreError
from chandelier.store.points.engine import Refusal, TimedOut
from chandelier.store.points.retries import backoff

__all__ = ["ERRORS", "Patience", "translated"]

ERRORS = (
    ApiException,
    QdrantException,
    grpc.RpcError,
    grpc.aio.BaseError,
    httpx.HTTPError,
    ValueError,
    RuntimeError,
    AssertionError,
)
"""What the client raises; local mode and a closed client raise builtin errors."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before a request is tried again."""

LONGEST_ASKED = 120
"""Seconds that a server may ask to wait; after more, whoever called may know better."""

NO_REFUSAL = re.compile("Cannot invoke RPC on closed channel|Collection .* not found")
"""What a `ValueError` says that is not about what was sent."""

RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED)
REFUSED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is tried again.

    Args:
        retries: How often, after a failure that may pass: no connection, a timeout, 429, 5xx.
    """

    retries: int

    def wait(self, error: Exception, tried: int) -> float | None:
        """Seconds until the request is to be tried again; None if it is not."""
        if tried >= self.retries or not _may_pass(error):
            return None
        # A request that timed out is tried once more as it is, and then in smaller parts.
        if tried and is_timeout(error):
            return None
        asked = error.retry_after_s if isinstance(error, ResourceExhaustedResponse) else 0
        wait = backoff(tried, first=FIRST_WAIT, longest=LONGEST_WAIT)
        return None if asked > LONGEST_ASKED else max(float(asked), wait)


def is_timeout(error: Exception) -> bool:
    """Whether the answer did not come in time."""
    if isinstance(error, ResponseHandlingException):
        source = error.source
        return isinstance(source, httpx.TimeoutException) and not isinstance(source, httpx.ConnectTimeout)
    return isinstance(error, grpc.RpcError) and _code(error) == grpc.StatusCode.DEADLINE_EXCEEDED


def _may_pass(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code == 429 or (error.status_code or 0) >= 500
    if isinstance(error, ResponseHandlingException):
        return isinstance(error.source, httpx.TransportError)
    if isinstance(error, grpc.RpcError):
        return _code(error) in RETRIED or is_timeout(error) or (_is_exhausted(error) and not _is_too_large(error))
    return isinstance(error, ResourceExhaustedResponse)


def translated(error: Exception, store: str) -> StoreError:
    """Our error for one of the client's."""
    if is_timeout(error):
        return TimedOut(f"{store}: no answer in time; give the client a larger timeout", store=store)
    if isinstance(error, UnexpectedResponse):
        kind = Refusal if error.status_code in (400, 413, 422) else StoreError
        return kind(f"{store}: {error.status_code}: {_server_says(error.content)}", store=store)
    if isinstance(error, ResponseHandlingException):
        hint = "; is the server running?" if isinstance(error.source, httpx.ConnectError) else ""
        return StoreError(f"{store}: {_one_line(error.source)}{hint}", store=store)
    if isinstance(error, grpc.RpcError):
        kind = Refusal if _code(error) in REFUSED or _is_too_large(error) else StoreError
        name = getattr(_code(error), "name", "gRPC error")
        return kind(f"{store}: {name}: {_details(error)}", store=store)
    text = _one_line(error)
    if isinstance(error, ResourceExhaustedResponse):
        return StoreError(f"{store}: {text}; the server asks to wait {error.retry_after_s:,} seconds", store=store)
    # Local mode checks a whole batch before it writes, and says what it refuses by a ValueError.
    kind = Refusal if isinstance(error, ValueError) and not NO_REFUSAL.match(text) else StoreError
    return kind(f"{store}: {text}", store=store)


def _server_says(content: bytes) -> str:
    try:
        return str(json.loads(content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace").strip() or "no reason given"


def _code(error: Any) -> Any:
    return error.code() if callable(getattr(error, "code", None)) else None


def _is_exhausted(error: Any) -> bool:
    return bool(_code(error) == grpc.StatusCode.RESOURCE_EXHAUSTED)


def _is_too_large(error: Any) -> bool:
    """Whether a message was larger than the other side takes: gRPC has the same code for it as for a rate limit."""
    return _is_exhausted(error) and "larger than" in _details(error)


def _details(error: Any) -> str:
    details = error.details() if callable(getattr(error, "details", None)) else None
    return str(details or _one_line(error))


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
