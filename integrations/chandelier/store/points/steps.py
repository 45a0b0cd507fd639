"""An operation written once, run by a thread or by an event loop.

An operation is a generator that yields what is to be done and is sent the results; who runs it decides how it waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

__all__ = ["Call", "Pause", "Steps", "Work", "arun", "pause", "run", "unbroken", "work"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """Something that the engine is asked.

    Attributes:
        function: What to call, without arguments.
        once: Whether it is not to be asked again by itself if it fails.
        finishes: Whether it is asked even if somebody wants the operation to stop: it ends what has begun.
    """

    function: Callable[[], Any]
    once: bool = False
    finishes: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """Something that keeps this machine busy, as encoding does."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing, for so many seconds."""

    seconds: float


Steps: TypeAlias = Generator[Call | Work | Pause, Any, T]


def work(function: Callable[[], T]) -> Steps[T]:
    """The result of something that keeps this machine busy."""
    result: T = yield Work(function)
    return result


def pause(seconds: float) -> Steps[None]:
    """Wait."""
    yield Pause(seconds)


def unbroken(steps: Steps[T]) -> Steps[T]:
    """The same, not to be stopped between its first call and its last one: what would lose something half done."""
    try:
        step = next(steps)
        while True:
            try:
                result = yield step
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
            if isinstance(step, Call):
                step = replace(step, finishes=True)
    except StopIteration as end:
        value: T = end.value
        return value


def run(steps: Steps[T], ask: Callable[[Call], Any]) -> T:
    """Run an operation in this thread; what a call raises is raised where it was yielded.

    Args:
        steps: The operation.
        ask: How the engine is asked.
    """

    def perform(step: Call | Work | Pause) -> Any:
        if isinstance(step, Call):
            return ask(step)
        return step.function() if isinstance(step, Work) else time.sleep(step.seconds)

    try:
        step = next(steps)
        while True:
            try:
                result = perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def arun(steps: Steps[T], ask: Callable[[Call], Awaitable[Any]]) -> T:
    """The same in an event loop; work is done in a thread."""

    async def perform(step: Call | Work | Pause) -> Any:
        if isinstance(step, Call):
            return await ask(step)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.function)
        return await asyncio.sleep(step.seconds)

    try:
        step = next(steps)
        while True:
            try:
                result = await perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        value: T = end.value
        return value
