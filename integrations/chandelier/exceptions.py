"""The errors of chandelier.

Every one is a `ChandelierError`; a missing file is the builtin `FileNotFoundError`. Messages name the thing, what came,
what was wanted and the way out; the fields carry the names for a program to read.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ArgumentError", "ChandelierError", "DeviceError", "ModelError", "ShapeError"]


class ChandelierError(Exception):
    """The base of all errors of chandelier."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the fields."""
        return type(self), self.args, self.__dict__


class ModelError(ChandelierError):
    """A checkpoint that cannot be used as it is.

    Attributes:
        file: The file at fault.
        key: The key or tensor inside it; empty if the whole file is at fault.
    """

    def __init__(self, message: str = "", *, file: str = "", key: str = "") -> None:
        super().__init__(message)
        self.file = file
        self.key = key


class ArgumentError(ChandelierError, ValueError):
    """An argument outside what the function takes.

    Attributes:
        argument: The argument's name.
    """

    def __init__(self, message: str = "", *, argument: str = "") -> None:
        super().__init__(message)
        self.argument = argument


class ShapeError(ChandelierError, ValueError):
    """Arrays whose sizes do not fit together."""


class DeviceError(ChandelierError):
    """A device that is unknown or that this build cannot reach."""
