"""MaxSim of every query with every document in float64, for the workers of bench_stores.py to be held against.

python stores_references.py FILE MODEL [--quick]
"""

import argparse
from pathlib import Path

import numpy as np
from stores_cases import QUICK, Data, Sizes

from chandelier import ColBERT


def main() -> None:
    """Writes `scores` (queries, documents)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    data = Data(QUICK if args.quick else Sizes(), ColBERT(args.model).dim)
    queries = np.concatenate(data.queries()).astype(np.float64)
    scores = [
        (queries @ rows.astype(np.float64).T).max(axis=1).reshape(data.sizes.queries, -1).sum(axis=1)
        for _, rows in data.documents(max(data.sizes.stored))
    ]
    args.file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.file, scores=np.array(scores).T)


if __name__ == "__main__":
    main()
