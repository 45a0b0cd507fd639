"""The way into every store: a stream of documents is checked, encoded a portion at a time, and accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from chandelier.exceptions import ArgumentError, PartialUpsertError, ShapeError
from chandelier.multivectors import FloatArray
from chandelier.portions import portions, text_bytes
from chandelier.store.documents import Document, UpsertReport, checked_metadata
from chandelier.store.encoding import Encoding

__all__ = ["Entry", "Intake"]

PORTION_DOCUMENTS = 512
"""Most documents that are encoded, and stored, at once."""

Checked: TypeAlias = tuple[Document, FloatArray | None, dict[str, Any]]
"""A document, its rows if they were given, and a copy of its metadata."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as a store writes it: checked, encoded, all in plain Python values.

    Attributes:
        rows: `(tokens, dim)`; none if a skiplist left none.
        is_truncated: Whether the model read less than the whole text.
    """

    id: str
    text: str
    metadata: dict[str, Any]
    rows: FloatArray
    is_truncated: bool = False


class Intake:
    """One upsert: iterate for portions of entries, say what became of each, read the report.

    Args:
        documents: What the caller gave.
        encoding: How texts become rows.
        progress: Show a bar.
    """

    def __init__(self, documents: Iterable[Document], encoding: Encoding, progress: bool) -> None:
        if isinstance(documents, (Document, str, bytes, dict)) or not isinstance(documents, Iterable):
            got = type(documents).__name__
            raise ArgumentError(f"documents: got {got}, wanted an iterable of Document", argument="documents")
        self._documents = documents
        self._encoding = encoding
        self._progress = progress
        self._seen: dict[str, bool] = {}  # by id, whether it came again
        self._stored: dict[str, tuple[bool, bool]] = {}  # by id, whether it has rows, whether it was truncated
        self._failed: dict[str, str] = {}
        self._places: dict[str, int] = {}  # where the stored ids came first

    def __iter__(self) -> Iterator[list[Entry]]:
        with ExitStack() as stack:
            bar = None
            if self._progress:
                from tqdm.auto import tqdm  # 30 ms that only a bar is worth

                total = len(self._documents) if isinstance(self._documents, Sized) else None
                bar = stack.enter_context(tqdm(total=total, desc="storing", unit=" documents"))
            for portion in portions(self._checked(), self._size, PORTION_DOCUMENTS):
                last = {checked[0].id: checked for checked in portion}
                yield self._encoded(list(last.values()))
                if bar is not None:
                    bar.update(len(portion))

    def stored(self, entries: Iterable[Entry]) -> None:
        """Takes down that these are stored."""
        for entry in entries:
            self._stored[entry.id] = (len(entry.rows) > 0, entry.is_truncated)

    def refused(self, id: str, reason: str) -> None:
        """Takes down that a document is not."""
        self._failed[id] = reason

    @property
    def report(self) -> UpsertReport:
        """What is known so far."""
        return UpsertReport(
            stored=sorted(self._stored, key=self._places.__getitem__),
            failed=dict(self._failed),
            duplicates=[id for id, again in self._seen.items() if again],
            without_rows=[id for id, (has_rows, _) in self._stored.items() if not has_rows],
            truncated=[id for id, (_, is_truncated) in self._stored.items() if is_truncated],
        )

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Whatever ends the upsert, an error of the caller's stream too, says in `report` what was stored before."""
        try:
            yield
        except BaseException as error:
            with suppress(Exception):  # an exception without room for it
                report = self.report
                known = {*report.stored, *report.failed}
                report.unknown = [id for id in self._seen if id not in known]
                error.report = report  # type: ignore[attr-defined]
            raise

    def finish(self, store: str, raise_on_failure: bool) -> UpsertReport:
        """The report, or the error that the caller asked for."""
        report = self.report
        if report.failed and raise_on_failure:
            raise PartialUpsertError(f"{store}: {report}", store=store, report=report)
        return report

    def _checked(self) -> Iterator[Checked]:
        """The documents that can be stored, in order."""
        for index, document in enumerate(self._documents):
            if not isinstance(document, Document):
                if index == 0:
                    got = type(document).__name__
                    wanted = "wanted a Document: Document(id, text, metadata)"
                    raise ArgumentError(f"documents[0]: got {got}, {wanted}", argument="documents")
                self.refused(f"documents[{index}]", f"got {type(document).__name__}, wanted a Document")
                continue
            self._places.setdefault(document.id, index)
            self._seen[document.id] = document.id in self._seen
            try:
                metadata = checked_metadata(document.metadata)
                # A copy: the caller may fill one buffer again for every document.
                rows = None if document.vectors is None else self._encoding.rows("vectors", document.vectors).copy()
            except (ArgumentError, ShapeError) as error:
                self.refused(document.id, str(error))
                continue
            yield document, rows, metadata

    def _size(self, checked: Checked) -> int:
        document, rows, _ = checked
        if rows is not None:
            return len(document.text) + rows.nbytes
        return text_bytes(document.text, self._encoding.dim, self._encoding.document_length)

    def _encoded(self, portion: list[Checked]) -> list[Entry]:
        texts = [document.text for document, rows, _ in portion if rows is None]
        encoded = (
            zip(self._encoding.documents(texts), self._encoding.truncated(texts), strict=True) if texts else iter(())
        )
        return [
            Entry(document.id, document.text, metadata, *(next(encoded) if rows is None else (rows, False)))
            for document, rows, metadata in portion
        ]
