"""The errors of chandelier.

Every one is a `ChandelierError`; a missing file is the builtin `FileNotFoundError`, and a model that the hub does not
have is both. Messages name the thing, what came,
what was wanted and the way out; the fields carry the names for a program to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chandelier.store.documents import UpsertReport

__all__ = [
    "ArgumentError",
    "ChandelierError",
    "DeviceError",
    "HubError",
    "HubMissingError",
    "ModelError",
    "PartialUpsertError",
    "ShapeError",
    "StoreError",
]


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


class HubError(ChandelierError):
    """A model that the hub has and did not give, or could not be asked for.

    Access that was not granted, a token that is not valid, a connection that failed, a file that arrived damaged.

    Attributes:
        repository: The hub name.
        revision: The branch, tag or commit that was asked for.
    """

    def __init__(self, message: str = "", *, repository: str = "", revision: str = "") -> None:
        super().__init__(message)
        self.repository = repository
        self.revision = revision


class HubMissingError(HubError, FileNotFoundError):
    """A model that is not there: no such repository or revision, or offline and not in the cache."""


class StoreError(ChandelierError):
    """A store that cannot be opened, read or written.

    A file that is damaged or no store, another model, a server that does not answer, a disk that is full.

    Attributes:
        store: The file, folder or collection.
        report: What became of the documents that an upsert had taken when it ended; None where there was no upsert.
    """

    def __init__(self, message: str = "", *, store: str = "", report: UpsertReport | None = None) -> None:
        super().__init__(message)
        self.store = store
        self.report = report


class PartialUpsertError(StoreError):
    """An upsert that was told to raise if a document was refused; the others are stored, and `report` says which."""
