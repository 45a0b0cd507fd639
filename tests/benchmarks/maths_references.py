"""Writes what every side's results are held against, in float64 and the plainest way, and the files to be mapped.

    python maths_references.py FOLDER [--only maxsim ...] [--quick]

Pooling wants scipy, MUVERA FastEmbed (which is what it has to equal): without them their groups have no reference.
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from maths_cases import (
    MUVERA,
    POOL_FACTOR,
    POOLED_TOKENS,
    PROTECTED_TOKENS,
    QUICK,
    TOP,
    Data,
    Mapped,
    Sizes,
    joined,
    split,
)

Arrays = tuple[Any, ...]


def maxsim(query: Any, documents: Iterable[Any]) -> Any:
    """Sum over the query's rows of the largest product with a document's row, for every document."""
    query = query.astype(np.float64)
    return np.array([(query @ document.astype(np.float64).T).max(axis=1).sum() for document in documents])


def pooled(tokens: int, data: Data) -> Arrays:
    """PyLate's token pooling: Ward linkage of cosine distances, cut, means in the order of the clusters' numbers."""
    from scipy.cluster.hierarchy import fcluster, linkage

    results = []
    for document in data.pooled(tokens):
        protected, rows = np.split(document.astype(np.float64), [PROTECTED_TOKENS])
        distances = (1 - rows @ rows.T)[np.triu_indices(len(rows), 1)]
        labels = fcluster(linkage(distances, "ward"), len(rows) // POOL_FACTOR, "maxclust")
        means = [rows[labels == label].mean(axis=0) for label in np.unique(labels)]
        results.append(np.concatenate([protected, means]))
    return joined(results)


def encoded(data: Data, method: str, texts: Iterable[Any]) -> Any:
    """FastEmbed's fixed-dimensional encodings of rows given in float64."""
    from fastembed.postprocess.muvera import Muvera

    names = {"ksim": "k_sim", "dprojections": "dim_proj", "repetitions": "r_reps", "seed": "random_seed"}
    muvera = Muvera(data.sizes.dim, **{names[name]: value for name, value in MUVERA.items()})
    return np.stack([getattr(muvera, method)(text.astype(np.float64)) for text in texts])


def matrix(data: Data) -> Any:
    """`maxsim` of every query."""
    return np.stack([maxsim(query, data.documents) for query in data.queries])


def best(data: Data) -> Arrays:
    """The documents of the highest scores, and their scores."""
    scores = maxsim(data.query, data.documents)
    found = np.argsort(-scores, kind="stable")[:TOP]
    return found, scores[found]


REFERENCES: dict[str, Callable[[Data], Arrays]] = {
    "maxsim": lambda data: (maxsim(data.query, data.documents),),
    "maxsim_float16": lambda data: (maxsim(data.query, data.documents.astype(np.float16)),),
    "maxsim_ragged": lambda data: (maxsim(data.query, split(data.ragged, data.ragged_offsets)),),
    "top_k": best,
    "maxsim_matrix": lambda data: (matrix(data),),
    "fde_documents": lambda data: (encoded(data, "process_document", data.encoded_documents),),
    "fde_queries": lambda data: (encoded(data, "process_query", data.encoded_queries),),
    **{f"pool_{tokens}": partial(pooled, tokens) for tokens in POOLED_TOKENS},
}


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=REFERENCES, default=list(REFERENCES))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    data = Data(QUICK if args.quick else Sizes())
    args.folder.mkdir(parents=True, exist_ok=True)
    Mapped.write(args.folder, data)
    arrays: dict[str, Any] = {}
    for group in args.only:
        try:
            arrays |= {f"{group}.{i}": array for i, array in enumerate(REFERENCES[group](data))}
        except ImportError as missing:
            print(f"{group}: no reference, {missing}")
    np.savez(args.folder / "references.npz", **arrays)


if __name__ == "__main__":
    main()
