"""The way into every store: a stream of documents is checked, encoded a portion at a time, and accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from chandelier.exceptions import ArgumentError, PartialUpsertError, ShapeError
from chandelier.multivectors import FloatArray
from chandelier.store.documents import Document, UpsertReport, checked_metadata
from chandelier.store.encoding import Encoding

__all__ = ["Entry", "Intake"]

PORTION_DOCUMENTS = 512
PORTION_BYTES = 32 << 20
"""What is encoded at once: enough to keep all cores busy, and little beside the model."""


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
            for portion in self._portions():
                yield self._encoded(portion)
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

    def _portions(self) -> Iterator[list[tuple[Document, FloatArray | None, dict[str, Any]]]]:
        """Checked documents, each with its rows if they were given, so many that encoding pays."""
        portion: dict[str, tuple[Document, FloatArray | None, dict[str, Any]]] = {}
        taken = size = 0
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
            portion[document.id] = (document, rows, metadata)  # the last of the same id
            taken += 1
            size += self._size(document, rows)
            if taken == PORTION_DOCUMENTS or size > PORTION_BYTES:
                yield list(portion.values())
                portion, taken, size = {}, 0, 0
        if portion:
            yield list(portion.values())

    def _size(self, document: Document, rows: FloatArray | None) -> int:
        """Bytes of its text and its rows, or of as many rows as there may be."""
        length = len(document.text)
        if rows is not None:
            return length + rows.nbytes
        return length + 4 * self._encoding.dim * min(self._encoding.document_length, length + 8)

    def _encoded(self, portion: list[tuple[Document, FloatArray | None, dict[str, Any]]]) -> list[Entry]:
        texts = [document.text for document, rows, _ in portion if rows is None]
        encoded = (
            zip(self._encoding.documents(texts), self._encoding.truncated(texts), strict=True) if texts else iter(())
        )
        return [
            Entry(document.id, document.text, metadata, *(next(encoded) if rows is None else (rows, False)))
            for document, rows, metadata in portion
        ]
