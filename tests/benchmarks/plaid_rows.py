"""Real texts, their rows, and MaxSim of every pair, for the workers of run_plaid.py; what is there is not made again.

python plaid_rows.py FOLDER MODEL --documents N [--quick]

Documents are descriptions of Debian's packages, first those that are like no other, then the others; queries are the
short descriptions of the first. Where more are wanted than there are, sentences are put together anew.
"""

import argparse
import hashlib
import json
import random
import re
import sys
from pathlib import Path

import corpus
import numpy as np
import quality_sets
from plaid_cases import PORTION, QUERIES, QUICK_QUERIES

from chandelier import ColBERT, MultiVectors, maxsim_matrix

DTYPE = "int8"
"""Encoding is no part of what is measured; this is the fastest, and its rows are rows of real texts too."""

SENTENCE = re.compile(r"(?<=[.!?]) ")
FEWEST_WORDS = 4
CHECKED = 10
"""Queries whose best document's score is computed again."""


def debian(count: int, folder: Path) -> tuple[list[str], list[str], int]:
    """Queries, documents, and how many of the latter are descriptions as they are."""
    found = quality_sets.descriptions(quality_sets.translations(folder))
    pairs = quality_sets.unlike(found)
    real = list(dict.fromkeys(long for long in [*(pair[1] for pair in pairs), *(pair[1] for _, pair in found)]))
    made = resampled(real, count - len(real))
    return [short for short, _ in pairs[:QUERIES]], [*real, *made][:count], min(count, len(real))


def resampled(texts: list[str], count: int) -> list[str]:
    """Sentences of all texts, put together until they are as long as one of them, always the same."""
    draw = random.Random(0)
    sentences = [each for text in texts for each in SENTENCE.split(text) if len(each.split()) >= FEWEST_WORDS]
    lengths = [len(text.split()) for text in texts]
    made = []
    for _ in range(count):
        wanted, parts, words = draw.choice(lengths), [], 0
        while words < wanted:
            parts.append(draw.choice(sentences))
            words += len(parts[-1].split())
        made.append(" ".join(parts))
    return made


def scored(queries: MultiVectors, documents: MultiVectors) -> np.ndarray:
    """MaxSim `(queries, documents)` float32 of the rows as they are kept; some are held against float64."""
    scores = maxsim_matrix(queries, documents.astype(np.float32))
    for number in range(0, len(queries), max(1, len(queries) // CHECKED)):
        best = int(scores[number].argmax())
        true = (queries[number].astype(np.float64) @ documents[best].astype(np.float64).T).max(axis=1).sum()
        if not abs(scores[number, best] - true) <= 1e-5 * len(queries[number]):
            raise SystemExit(f"MaxSim of query {number} and document {best} is off float64's: no recall would count")
    return scores


def main() -> None:
    """Writes portions of documents and scores, and `N.json`, which names them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--documents", type=int, required=True)
    parser.add_argument("--quick", action="store_true", help="texts of Python's manual: nothing is fetched")
    args = parser.parse_args()
    if args.quick:
        asked, texts, real = corpus.queries(QUICK_QUERIES), corpus.documents(args.documents), args.documents
    else:
        asked, texts, real = debian(args.documents, args.folder.parent / "quality")
    model = ColBERT(args.model, dtype=DTYPE)
    args.folder.mkdir(parents=True, exist_ok=True)

    def named(kind: str, *texts: str) -> Path:
        content = "\0".join([model.fingerprint, DTYPE, *texts])
        return args.folder / f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors"

    file = named("queries", *asked)
    if not file.exists():
        model.encode_queries(asked).save(file)
    queries, listed = MultiVectors.load(file), []
    for start in range(0, len(texts), PORTION):
        portion = texts[start : start + PORTION]
        rows, scores = named("documents", *portion), named("scores", *asked, *portion).with_suffix(".npy")
        if not rows.exists():
            print(f"bench: encoding documents from {start:,} of {len(texts):,}", file=sys.stderr)
            model.encode_documents(portion).astype(np.float16).save(rows)
        if not scores.exists():
            part = scores.with_suffix(".part.npy")
            np.save(part, scored(queries, MultiVectors.load(rows)))
            part.rename(scores)
        listed.append({"rows": rows.name, "scores": scores.name})
    tokens = sum(len(MultiVectors.load(args.folder / part["rows"], mmap=True).data) for part in listed)
    digest = hashlib.sha256("\0".join([*asked, *texts]).encode()).hexdigest()[:12]
    facts = {"documents": len(texts), "real": real, "tokens": tokens, "asked": len(asked), "digest": digest}
    text = json.dumps({**facts, "dtype": DTYPE, "queries": file.name, "portions": listed}, indent=1)
    (args.folder / f"{args.documents}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
