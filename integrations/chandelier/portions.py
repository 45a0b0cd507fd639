"""Streams of texts: what is encoded at once, and what a text must be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from chandelier.exceptions import ArgumentError

__all__ = ["PORTION_BYTES", "TextStream", "checked_text", "portions", "text_bytes"]

PORTION_BYTES = 32 << 20
"""What is encoded at once: enough to keep two cores busy, and little beside the model."""

Item = TypeVar("Item")


class TextStream:
    """The texts of any iterable, up to the first that is none; iterate once.

    Attributes:
        failure: What ended the stream before its end: an error of the iterable, or what is wrong with the next text.
    """

    def __init__(self, name: str, texts: Iterable[str]) -> None:
        if isinstance(texts, (str, bytes, bytearray, dict)) or not isinstance(texts, Iterable):
            hint = "; put a single text in a list" if isinstance(texts, (str, bytes, bytearray)) else ""
            got = type(texts).__name__
            raise ArgumentError(f"{name}: got {got}, wanted an iterable of str{hint}", argument=name)
        self._name = name
        self._texts = texts
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for index, text in enumerate(self._texts):
                yield checked_text(f"{self._name}[{index}]", text)
        except Exception as failure:  # told when the texts before it are encoded
            self.failure = failure


def portions(
    items: Iterable[Item], size: Callable[[Item], int], most: int, room: int = PORTION_BYTES
) -> Iterator[list[Item]]:
    """Lists of items, in order: so many that encoding them pays, and no more than there is room for.

    Args:
        items: Taken one after the other, each portion when it is asked for.
        size: The bytes of an item, of its rows too.
        most: Items of a portion.
        room: Bytes of a portion, which its last item may exceed.
    """
    portion: list[Item] = []
    total = 0
    for item in items:
        portion.append(item)
        total += size(item)
        if len(portion) == most or total > room:
            yield portion
            portion, total = [], 0
    if portion:
        yield portion


def text_bytes(text: str, dim: int, document_length: int) -> int:
    """Bytes of a text and of as many rows as there may be of it."""
    return len(text) + 4 * dim * min(document_length, len(text) + 8)


def checked_text(name: str, value: object) -> str:
    """A str that UTF-8 can hold; `texts[3]` is one of the argument `texts`."""
    argument = name.partition("[")[0]
    if not isinstance(value, str):
        hint = ": str(id)" if name == "id" else ""
        raise ArgumentError(f"{name}: got {type(value).__name__}, wanted a str{hint}", argument=argument)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        got = f"a lone surrogate at character {error.start}"
        raise ArgumentError(f"{name}: got {got}, wanted text that UTF-8 can hold", argument=argument) from None
    return str.__str__(value)
