"""What each command does, and how it prints it."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandelier.cli.texts import STDIN, CommandError, Item, read_items

if TYPE_CHECKING:
    from chandelier import ColBERT, Ranked


def encode(arguments: argparse.Namespace) -> None:
    """Encodes texts into one safetensors file."""
    output = _output_path(arguments, arguments.output, "-o")
    model = _open_model(arguments)
    texts = [item.text for item in read_items(arguments)]
    factor, protected = arguments.pool_factor, arguments.protected_tokens
    encode_documents = partial(model.encode_documents, pool_factor=factor, protected_tokens=protected)
    encode_texts = model.encode_queries if arguments.queries else encode_documents
    started = time.perf_counter()
    vectors = encode_texts(
        texts,
        prompt_name=arguments.prompt_name,
        batch_tokens=arguments.batch_tokens,
        progress=_is_terminal(sys.stderr),
    )
    seconds = time.perf_counter() - started
    vectors.save(output)
    rows, dim = vectors.data.shape
    if arguments.json:
        summary = {"texts": len(texts), "rows": rows, "dim": dim, "seconds": round(seconds, 3)}
        _print_json({**summary, "output": arguments.output})
    else:
        summary_line = f"texts {len(texts)}, rows {rows}, dim {dim}, {seconds:.2f} s"
        print(f"chandelier: {arguments.output}: {summary_line}", file=sys.stderr)


def rerank(arguments: argparse.Namespace) -> None:
    """Prints the documents, best first."""
    ranking, numbered = _rank(_open_model(arguments), arguments)
    if arguments.json:
        for rank, hit in enumerate(ranking, 1):
            index, item = numbered[hit.index]
            _print_json(_identified(rank, index, hit.score, item))
        return
    ranks = _aligned([str(rank) for rank in range(1, len(ranking) + 1)])
    scores = _aligned([f"{hit.score:.4f}" for hit in ranking])
    width = shutil.get_terminal_size().columns if _is_terminal(sys.stdout) else None
    for rank_cell, score_cell, hit in zip(ranks, scores, ranking, strict=True):
        start = f"{rank_cell}  {score_cell}  "
        text = _one_line(numbered[hit.index][1].text)
        line = start + (text if width is None else _shorten(text, width - len(start)))
        print(line.rstrip())


def explain(arguments: argparse.Namespace) -> None:
    """Shows which words of the best documents matched: on stdout, on a page, or both."""
    from chandelier.explanation.html import page
    from chandelier.explanation.text import render

    output = None if arguments.html is None else _output_path(arguments, arguments.html, "--html")
    model = _open_model(arguments)
    ranking, numbered = _rank(model, arguments)
    prints = arguments.json or output is None
    kept, headings = [], []
    # Where the explanations themselves appear on the terminal, they tell how far the work is.
    for rank, hit in enumerate(_with_bar(ranking, is_hidden=prints and _is_terminal(sys.stdout)), 1):
        index, item = numbered[hit.index]
        explanation = model.explain(
            arguments.query,
            item.text,
            query_prompt_name=arguments.query_prompt_name,
            document_prompt_name=arguments.document_prompt_name,
        )
        heading = f"{rank} · {_one_line(item.file)}:{item.line}"
        if output is not None:
            kept.append(explanation)
            headings.append(heading)
        if arguments.json:
            matches = [asdict(match) for match in explanation.matches]
            spans = [asdict(span) for span in explanation.spans()]
            parts = {"seen": explanation.document_seen, "matches": matches, "spans": spans}
            _print_json({**_identified(rank, index, hit.score, item), **parts})
        elif output is None:
            color = _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
            print("\n" * (rank > 1) + render(explanation, color=color, heading=heading), end="")
    if output is not None and kept:
        _write_whole(output, page(kept, headings))
        print(f"chandelier: {arguments.html}: documents {len(kept)}", file=sys.stderr)


def info(arguments: argparse.Namespace) -> None:
    """Prints what was read from a checkpoint, and where each knob came from."""
    facts = _open_model(arguments).info()
    if arguments.json:
        _print_json(facts)
        return
    rows = list(_fact_rows(facts))
    name_width = max(len(name) for name, _, _ in rows)
    # Values that would push the origins off the screen do not count for the column.
    value_width = max((len(value) for _, value, origin in rows if origin and len(value) <= 40), default=0)
    for name, value, origin in rows:
        print(f"{name:<{name_width}}  {value:<{value_width}}  {origin}".rstrip())


def _open_model(arguments: argparse.Namespace) -> ColBERT:
    from chandelier import ColBERT, from_bert

    if not _is_terminal(sys.stderr):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the hub's client is imported
    open_model = from_bert if arguments.from_bert else ColBERT
    return open_model(
        arguments.model,
        revision=arguments.revision,
        local_files_only=arguments.local_files_only,
        threads=arguments.threads,
    )


def _rank(model: ColBERT, arguments: argparse.Namespace) -> tuple[list[Ranked], list[tuple[int, Item]]]:
    """The best documents, and all that were ranked with their places in the input."""
    # An empty text has vectors too, those of its special tokens, but nobody wants to see it ranked.
    numbered = [(index, item) for index, item in enumerate(read_items(arguments)) if item.text.strip()]
    if not numbered:
        print("chandelier: no document: the input is empty, or each of its texts is", file=sys.stderr)
    ranking = model.rerank(
        arguments.query,
        [item.text for _, item in numbered],
        top_k=arguments.top_k,
        query_prompt_name=arguments.query_prompt_name,
        document_prompt_name=arguments.document_prompt_name,
        progress=_is_terminal(sys.stderr),
    )
    return ranking, numbered


def _identified(rank: int, index: int, score: float, item: Item) -> dict[str, Any]:
    """A ranked document for programs."""
    place = {"file": item.file, "line": item.line}
    return {"rank": rank, "index": index, "score": score, **item.identity, **place, "text": item.text}


def _with_bar(ranking: list[Ranked], *, is_hidden: bool) -> Iterable[Ranked]:
    """The ranking, and a bar on a terminal's stderr once its end is a second away."""
    if is_hidden or not _is_terminal(sys.stderr):
        return ranking
    from tqdm.auto import tqdm

    bar: Iterable[Ranked] = tqdm(ranking, desc="explaining", unit=" documents", delay=1)
    return bar


def _write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all, with the permissions that it had."""
    beside = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        try:
            with open(beside, "x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                shutil.copymode(path, beside)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _output_path(arguments: argparse.Namespace, output: str, option: str) -> Path:
    """Where to write; finds out before the work, not after it, that the result could not be stored.

    Refuses to write over a text file that is read, or into the folder of the model.
    """
    path = Path(os.path.realpath(output))  # a link stays, the file that it names is replaced
    if path.exists() and not path.is_file():
        raise CommandError(f"{output}: not a regular file; name a file to write with {option}")
    if not path.parent.is_dir():
        raise CommandError(f"{output}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"{output}: the folder {path.parent} cannot be written to")
    for name in [arguments.model, *(name for name in arguments.files if name != STDIN)]:
        source = Path(os.path.realpath(name))
        if source == path or source in path.parents:
            raise CommandError(f"{output}: would write over {name}; name another file with {option}")
    return path


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _aligned(cells: list[str]) -> list[str]:
    width = max(map(len, cells), default=0)
    return [cell.rjust(width) for cell in cells]


def _one_line(text: str) -> str:
    """Makes runs of white space and control characters one space: no text can break the line or drive the terminal."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()


def _shorten(text: str, columns: int) -> str:
    """Cuts a text to a width in terminal columns, in which a CJK character takes two and a combining mark none."""
    used = 0
    kept = 0  # how many characters leave a column for the ellipsis
    for position, character in enumerate(text, 1):
        if unicodedata.category(character) not in ("Mn", "Me", "Cf"):
            used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns:
            return text[:kept] + "…"
        if used < columns:
            kept = position
    return text


def _fact_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """`ColBERT.info()` as rows of name, value and origin, in its order."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and set(value) == {"value", "origin"}:
            yield name, _show(value["value"]), str(value["origin"])
        elif name == "dense":
            yield from ((f"dense[{number}]", _show(layer), "") for number, layer in enumerate(value))
        elif name == "warnings":
            yield from (("warning", text, "") for text in value)
        else:
            yield name, _show(value), ""


def _show(value: object) -> str:
    """Writes a value for people: strings are quoted only where their ends or characters would not be seen."""
    if isinstance(value, str):
        plain = value.isprintable() and value == value.strip() != ""
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_show(part)}" for name, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_show, value)) or "none"
    if value is None:
        return "none"
    return json.dumps(value, default=str)
