"""What the commands without a store do: ``encode``, ``rerank``, ``explain`` and ``info``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from chandelier.cli.output import (
    is_terminal,
    one_line,
    output_path,
    print_json,
    print_lines,
    ranked,
    show,
    shows_color,
    write_whole,
)
from chandelier.cli.texts import Item, read_items

if TYPE_CHECKING:
    from chandelier import ColBERT, Ranked
    from chandelier.explanation import Explanation


def encode(arguments: argparse.Namespace) -> None:
    """Encodes texts into one safetensors file."""
    output = output_path(arguments, arguments.output, "-o")
    model = open_model(arguments)
    texts = [item.text for item in read_items(arguments)]
    factor, protected = arguments.pool_factor, arguments.protected_tokens
    encode_documents = partial(model.encode_documents, pool_factor=factor, protected_tokens=protected)
    encode_texts = model.encode_queries if arguments.queries else encode_documents
    started = time.perf_counter()
    vectors = encode_texts(
        texts,
        prompt_name=arguments.prompt_name,
        batch_tokens=arguments.batch_tokens,
        progress=is_terminal(sys.stderr),
    )
    seconds = time.perf_counter() - started
    vectors.save(output)
    rows, dim = vectors.data.shape
    if arguments.json:
        summary = {"texts": len(texts), "rows": rows, "dim": dim, "seconds": round(seconds, 3)}
        print_json({**summary, "output": arguments.output})
    else:
        summary_line = f"texts {len(texts)}, rows {rows}, dim {dim}, {seconds:.2f} s"
        print(f"chandelier: {arguments.output}: {summary_line}", file=sys.stderr)


def rerank(arguments: argparse.Namespace) -> None:
    """Prints the documents, best first."""
    ranking, numbered = _rank(open_model(arguments), arguments)
    if arguments.json:
        for rank, hit in enumerate(ranking, 1):
            index, item = numbered[hit.index]
            print_json(_identified(rank, index, hit.score, item))
        return
    starts = ranked([hit.score for hit in ranking])
    print_lines(zip(starts, (numbered[hit.index][1].text for hit in ranking), strict=True))


def explain(arguments: argparse.Namespace) -> None:
    """Shows which words of the best documents matched: on stdout, on a page, or both."""
    from chandelier.explanation.html import page
    from chandelier.explanation.text import render

    output = None if arguments.html is None else output_path(arguments, arguments.html, "--html")
    model = open_model(arguments)
    ranking, numbered = _rank(model, arguments)
    prints = arguments.json or output is None
    kept, headings = [], []
    # Where the explanations themselves appear on the terminal, they tell how far the work is.
    for rank, hit in enumerate(_with_bar(ranking, is_hidden=prints and is_terminal(sys.stdout)), 1):
        index, item = numbered[hit.index]
        explanation = model.explain(
            arguments.query,
            item.text,
            query_prompt_name=arguments.query_prompt_name,
            document_prompt_name=arguments.document_prompt_name,
        )
        heading = f"{rank} · {one_line(item.file)}:{item.line}"
        if output is not None:
            kept.append(explanation)
            headings.append(heading)
        if arguments.json:
            print_json({**_identified(rank, index, hit.score, item), **explanation_parts(explanation)})
        elif output is None:
            print("\n" * (rank > 1) + render(explanation, color=shows_color(), heading=heading), end="")
    if output is not None and kept:
        write_whole(output, page(kept, headings))
        print(f"chandelier: {arguments.html}: documents {len(kept)}", file=sys.stderr)


def info(arguments: argparse.Namespace) -> None:
    """Prints what was read from a checkpoint, and where each knob came from."""
    facts = open_model(arguments).info()
    if arguments.json:
        print_json(facts)
        return
    rows = list(_fact_rows(facts))
    name_width = max(len(name) for name, _, _ in rows)
    # Values that would push the origins off the screen do not count for the column.
    value_width = max((len(value) for _, value, origin in rows if origin and len(value) <= 40), default=0)
    for name, value, origin in rows:
        print(f"{name:<{name_width}}  {value:<{value_width}}  {origin}".rstrip())


def open_model(arguments: argparse.Namespace) -> ColBERT:
    """The model of a command."""
    from chandelier import ColBERT, from_bert

    if not is_terminal(sys.stderr):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the hub's client is imported
    return (from_bert if arguments.from_bert else ColBERT)(
        arguments.model,
        dtype=arguments.dtype,
        revision=arguments.revision,
        local_files_only=arguments.local_files_only,
        threads=arguments.threads,
    )


def explanation_parts(explanation: Explanation) -> dict[str, Any]:
    """An explanation for programs."""
    matches = [asdict(match) for match in explanation.matches]
    spans = [asdict(span) for span in explanation.spans()]
    return {"seen": explanation.document_seen, "matches": matches, "spans": spans}


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
        progress=is_terminal(sys.stderr),
    )
    return ranking, numbered


def _identified(rank: int, index: int, score: float, item: Item) -> dict[str, Any]:
    """A ranked document for programs."""
    place = {"file": item.file, "line": item.line}
    return {"rank": rank, "index": index, "score": score, **item.identity, **place, "text": item.text}


def _with_bar(ranking: list[Ranked], *, is_hidden: bool) -> Iterable[Ranked]:
    """The ranking, and a bar on a terminal's stderr once its end is a second away."""
    if is_hidden or not is_terminal(sys.stderr):
        return ranking
    from tqdm.auto import tqdm

    bar: Iterable[Ranked] = tqdm(ranking, desc="explaining", unit=" documents", delay=1)
    return bar


def _fact_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """`ColBERT.info()` as rows of name, value and origin, in its order."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and set(value) == {"value", "origin"}:
            yield name, show(value["value"]), str(value["origin"])
        elif name == "dense":
            yield from ((f"dense[{number}]", show(layer), "") for number, layer in enumerate(value))
        elif name == "warnings":
            yield from (("warning", text, "") for text in value)
        else:
            yield name, show(value), ""
