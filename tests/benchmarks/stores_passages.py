"""Real texts, their rows, and the exact best of each question, for the workers of run_candidates.py.

python stores_passages.py FOLDER MODEL [--quick]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from stores_cases import QUICK, TOP, Sizes

from chandelier import ColBERT

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "examples"))
from python_docs import corpus, spread


def main() -> None:
    """Writes `documents.safetensors`, `queries.safetensors`, and `passages.json`: texts, and the best by float64."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    sizes, model = QUICK if args.quick else Sizes(), ColBERT(args.model)
    passages, questions = corpus()
    texts = [passage.text for passage in spread(passages, sizes.passages)]
    documents, queries = model.encode_documents(texts), model.encode_queries(spread(questions, sizes.questions))
    rows = [each.astype(np.float64) for each in documents]
    best = []
    for query in queries:
        scores = [(query.astype(np.float64) @ each.T).max(axis=1).sum() for each in rows]
        best.append([f"{number}" for number in np.argsort(scores)[::-1][:TOP]])
    args.folder.mkdir(parents=True, exist_ok=True)
    documents.save(args.folder / "documents.safetensors")
    queries.save(args.folder / "queries.safetensors")
    (args.folder / "passages.json").write_text(json.dumps({"texts": texts, "best": best}), encoding="utf-8")


if __name__ == "__main__":
    main()
