"""What the commands on stores do: ``index`` and ``search``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandelier.cli.commands import explanation_parts, open_model
from chandelier.cli.output import (
    describe,
    is_terminal,
    one_line,
    output_path,
    print_json,
    print_lines,
    ranked,
    shows_color,
    width,
)
from chandelier.cli.qdrant import qdrant_store
from chandelier.cli.texts import STDIN, CommandError, Line, json_type, missing, read_lines
from chandelier.cli.weaviate import weaviate_store

if TYPE_CHECKING:
    from chandelier.plaid import PlaidStore
    from chandelier.store import Document, Hit, Store, UpsertReport

REFUSALS_SHOWN = 20
TABLES = (".csv", ".tsv", ".json", ".parquet", ".xlsx", ".pdf", ".html", ".docx")
ID_COLUMNS = 40
"""Longer ids do not count for the column: they would push the texts off the screen."""


def index(arguments: argparse.Namespace) -> None:
    """Stores texts, and says what became of them."""
    from chandelier.exceptions import StoreError

    documents = _Documents(arguments)
    target = arguments.store or arguments.plaid or f"collection {arguments.collection}"
    pooling = {"pool_factor": arguments.pool_factor, "protected_tokens": arguments.protected_tokens}
    with _open_store(arguments, to_search=False, **pooling) as store:
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            report = store.upsert(documents, progress=is_terminal(sys.stderr))
        except StoreError as error:
            if error.report is None:
                raise
            report, failure = error.report, error
        segments = None
        if arguments.plaid is not None and failure is None:
            try:
                store.optimize(progress=is_terminal(sys.stderr))
                segments = store.segments
            except StoreError as error:
                failure = error
        seconds = time.perf_counter() - started
    report.failed = {**documents.skipped, **report.failed}
    if arguments.json:
        print_json(asdict(report))
    failure = failure or documents.end
    if failure is not None:
        raise CommandError(f"{describe(failure)}; {_counts(report)} before it")
    if report.failed:
        if not arguments.json:
            _show_refusals(report)
        raise CommandError(f"{target}: {_counts(report)}")
    if not arguments.json:
        index = "" if segments is None else f", {segments} segment{'s' * (segments != 1)}"
        print(f"chandelier: {target}: {_counts(report)}{index}, {seconds:.2f} s", file=sys.stderr)


def search(arguments: argparse.Namespace) -> None:
    """Prints the best documents of a store."""
    with _open_store(arguments, to_search=True) as store:
        hits = store.search(
            arguments.query,
            arguments.top_k,
            filter=arguments.filter,
            depth=arguments.depth,
            explain=arguments.explain,
        )
    if not hits:
        what = "passes the filter" if arguments.filter else "is stored"
        print(f"chandelier: nothing found: no document {what}", file=sys.stderr)
    if arguments.json:
        for rank, hit in enumerate(hits, 1):
            parts = {} if hit.explanation is None else explanation_parts(hit.explanation)
            found = {"rank": rank, "id": hit.id, "score": hit.score, "text": hit.text, "metadata": hit.metadata}
            print_json({**found, **parts})
    elif arguments.explain:
        _print_explanations(hits)
    else:
        starts = ranked([hit.score for hit in hits])
        cells = _left_aligned([one_line(hit.id) for hit in hits])
        texts = (hit.text for hit in hits)
        print_lines((start + cell, text) for start, cell, text in zip(starts, cells, texts, strict=True))


class _Documents:
    """The documents of the command's files, one in memory at a time: iterate once.

    Attributes:
        skipped: What is wrong with the lines that were skipped, by their places.
        end: What ended the stream before its end; what came before can be stored nevertheless.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self.skipped: dict[str, str] = {}
        self.end: Exception | None = None
        for path in arguments.files or [STDIN]:
            if path != STDIN:
                os.stat(path)  # a name that is mistyped shows before hours of work, not after them
                if os.path.isdir(path):
                    raise CommandError(f"{path}: is a folder; name its files: {path.rstrip('/')}/*.txt --format whole")
                if arguments.format is None and path.lower().endswith(TABLES):
                    wanted = "wanted text or JSONL; convert it, or say --format text to take its lines as they are"
                    raise CommandError(f"{path}: got {os.path.splitext(path)[1]}, {wanted}")
            elif arguments.format not in (None, "jsonl"):
                raise CommandError("texts from standard input have no file to name them by; give a FILE, or JSONL")

    def __iter__(self) -> Iterator[Document]:
        if self._arguments.format == "whole":
            yield from self._whole()
            return
        try:
            for line in read_lines(self._arguments):
                try:
                    document = self._document(line)
                except CommandError as error:
                    if not self._arguments.skip_bad:
                        raise
                    self.skipped[line.place] = str(error).removeprefix(f"{line.place}: ")
                    continue
                if document is not None:
                    yield document
        except (CommandError, OSError) as error:
            self.end = error

    def _whole(self) -> Iterator[Document]:
        """Each file as one document."""
        from chandelier.store import Document

        for path in self._arguments.files:
            try:
                yield Document(path, Path(path).read_text(encoding="utf-8-sig"), {"file": path})
            except (OSError, ValueError) as error:  # among them what is not UTF-8, and names that are not
                reason = describe(error) if isinstance(error, OSError) else f"{path}: {error}"
                if not self._arguments.skip_bad:
                    self.end = CommandError(reason)
                    return
                self.skipped[path] = reason.removeprefix(f"{path}: ")

    def _document(self, line: Line) -> Document | None:
        """The document of a line; None if there is none."""
        from chandelier.exceptions import ArgumentError
        from chandelier.store import Document

        parsed = line.parsed(self._arguments.field)
        if parsed is None:
            return None
        text, fields = parsed
        try:
            if line.is_jsonl:
                own = (self._arguments.field, self._arguments.id_field)
                metadata = {name: value for name, value in fields.items() if name not in own}
                return Document(self._id(fields, line.place), text, metadata)
            place = {"file": line.file, "line": line.number}
            return Document(line.place, text, place) if text.strip() else None
        except ArgumentError as error:
            raise CommandError(f"{line.place}: {error}") from None

    def _id(self, fields: dict[str, Any], place: str) -> str:
        name = self._arguments.id_field
        if name not in fields:
            raise CommandError(f"{place}: {missing(name, fields)}; name the field of the id with --id-field")
        id = fields[name]
        if isinstance(id, str):
            return id
        if isinstance(id, int) and not isinstance(id, bool):
            return str(id)
        raise CommandError(f"{place}: field {name!r} is {json_type(id)}, not a string or a whole number")


class _Stderr(logging.Handler):
    """Log records in the words of the command line."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"chandelier: {one_line(record.getMessage())}", file=sys.stderr)


def _counts(report: UpsertReport) -> str:
    refused = f", refused {len(report.failed):,}" if report.failed else ""
    return f"{replace(report, failed={}, unknown=[])}{refused}"


def _show_refusals(report: UpsertReport) -> None:
    for id, reason in list(report.failed.items())[:REFUSALS_SHOWN]:
        print(f"chandelier: refused: {one_line(id)}: {one_line(reason)}", file=sys.stderr)
    if (more := len(report.failed) - REFUSALS_SHOWN) > 0:
        print(f"chandelier: refused: {more:,} more, which --json names", file=sys.stderr)


def _print_explanations(hits: list[Hit]) -> None:
    from chandelier.explanation.text import render

    for rank, hit in enumerate(hits, 1):
        assert hit.explanation is not None
        heading = f"{rank} · {one_line(hit.id)}"
        print("\n" * (rank > 1) + render(hit.explanation, color=shows_color(), heading=heading), end="")


def _left_aligned(cells: list[str]) -> list[str]:
    most = max((width(cell) for cell in cells if width(cell) <= ID_COLUMNS), default=0)
    return [cell + " " * (max(0, most - width(cell)) + 2) for cell in cells]


def _open_store(arguments: argparse.Namespace, *, to_search: bool, **options: Any) -> AbstractContextManager[Any]:
    """The store that a command names; one that is searched must be there."""
    if arguments.qdrant is not None:
        return qdrant_store(arguments, to_search, options)
    if arguments.weaviate is not None:
        return weaviate_store(arguments, to_search, options)
    if arguments.plaid is not None:
        return _plaid_store(arguments, to_search, options)
    return _local_store(arguments, to_search, options)


@contextmanager
def _local_store(arguments: argparse.Namespace, to_search: bool, options: dict[str, Any]) -> Iterator[Store]:
    path = arguments.store
    if not to_search:
        output_path(arguments, path, "--store")
    elif not os.path.exists(path) or os.path.getsize(path) == 0:
        raise _no_store(path)
    model = open_model(arguments)
    from chandelier.store import LocalStore

    _show_log()
    with LocalStore(model, path, **options) as store:
        yield store


@contextmanager
def _plaid_store(arguments: argparse.Namespace, to_search: bool, options: dict[str, Any]) -> Iterator[PlaidStore]:
    from chandelier.plaid.store import DOCUMENTS, PlaidStore

    folder = arguments.plaid
    if to_search and not os.path.exists(os.path.join(folder, DOCUMENTS)):
        raise _no_store(folder)
    model = open_model(arguments)
    _show_log()
    with PlaidStore(folder, model, **options) as store:
        yield store


def _no_store(path: str) -> CommandError:
    return CommandError(f"{path}: no such store; chandelier index makes one")


def _show_log() -> None:
    """How much memory a search takes, say."""
    log = logging.getLogger("chandelier")
    if not log.handlers:
        log.addHandler(_Stderr())
