"""The texts of the benchmark: Python's own reference manual and docstrings, cut to mixed lengths, always the same way.

They are plain English with names and code in it, they come with every Python, and nobody has to download them. They
differ a little between Python versions, so the benchmark prints their hash: two runs compare only if it is the same.
"""

import hashlib
import importlib
import inspect
import re
from pydoc_data.topics import topics

# Words of each document, in turn: from one line to what is cut at 180 tokens. Real collections are mixed like this.
WORDS = (6, 12, 20, 30, 45, 60, 25, 80, 15, 110, 35, 170)
QUERY_MODULES = (
    "os",
    "shutil",
    "json",
    "random",
    "statistics",
    "textwrap",
    "inspect",
    "ast",
    "subprocess",
    "threading",
    "tempfile",
    "itertools",
    "functools",
    "datetime",
    "collections",
    "pathlib",
    "zipfile",
    "logging",
    "email.utils",
)


def documents(n: int) -> list[str]:
    """The first n documents: runs of consecutive words of the manual, paragraphs kept in order."""
    prose = re.compile(r"[A-Za-z]{3,} +[a-z]{2,}")
    paragraphs = [p for topic in sorted(topics) for p in topics[topic].split("\n\n") if prose.search(p)]
    words = " ".join(" ".join(p.split()) for p in paragraphs).split(" ")
    texts: list[str] = []
    at = 0
    while len(texts) < n:
        size = WORDS[len(texts) % len(WORDS)]
        if at + size > len(words):
            raise SystemExit(f"this Python's manual gives only {len(texts)} documents, {n} were asked for")
        texts.append(" ".join(words[at : at + size]))
        at += size
    return texts


def queries(n: int) -> list[str]:
    """First sentences of n standard-library docstrings, spread evenly over the modules."""
    found: dict[str, None] = {}
    for name in QUERY_MODULES:
        for _, thing in inspect.getmembers(importlib.import_module(name), callable):
            sentence = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()).split(". ")[0]
            if 4 <= len(sentence.split()) <= 24 and "->" not in sentence:
                found[sentence] = None
    if len(found) < n:
        raise SystemExit(f"this Python's docstrings give only {len(found)} queries, {n} were asked for")
    return list(found)[:: len(found) // n][:n]


def digest(texts: list[str]) -> str:
    """A short hash of the texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
