"""Recall against depth on the texts of examples/python_docs.py: `python stores_recall.py MODEL [--quick]`."""

import argparse
import sys
from pathlib import Path

from stores_cases import DEPTHS, QUICK, TOP, Sizes

from chandelier import ColBERT, MeanVector, Muvera, recall_probe

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "examples"))
from python_docs import corpus, spread


def main() -> None:
    """Prints the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    sizes, model = QUICK if args.quick else Sizes(), ColBERT(args.model)
    documents, questions = corpus()
    texts = [document.text for document in spread(documents, sizes.passages)]
    found = model.encode_documents(texts), model.encode_queries(spread(questions, sizes.questions))
    encoders = (MeanVector(model.dim), Muvera(model.dim, ksim=3), Muvera(model.dim))
    print(recall_probe(found[1], found[0], encoders, k=TOP, depths=DEPTHS))


if __name__ == "__main__":
    main()
