"""PyLate as a worker of bench_encode.py: its own ColBERT on torch, float32, tokenising included."""

import argparse
from typing import Any

from worker import Start, Work, save_rows, serve


def main() -> None:
    """Loads a checkpoint and answers the commands of worker.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("work")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    texts = Work(args.work).texts
    documents, queries = texts["documents"], texts["queries"]

    start = Start()
    import numpy as np
    import pylate
    import torch
    from pylate import models

    start.mark("import")
    torch.set_num_threads(args.threads)
    model = models.ColBERT(args.model, device="cpu")
    start.mark("load")

    def encode(asked: list[str], is_query: bool) -> list[Any]:
        vectors: list[Any] = model.encode(asked, batch_size=32, is_query=is_query, show_progress_bar=False)
        return vectors

    encode(queries[:1], is_query=True)
    start.mark("first_query")

    def rows(folder: str) -> dict[str, Any]:
        found = {"documents": encode(documents, is_query=False), "queries": encode(queries, is_query=True)}
        return save_rows(folder, {kind: np.concatenate(vectors) for kind, vectors in found.items()})

    serve(
        {"versions": {"pylate": pylate.__version__, "torch": torch.__version__, "numpy": np.__version__}, **start.took},
        documents=lambda: encode(documents, is_query=False),
        one_query=lambda i: encode([queries[i]], is_query=True),
        n_queries=len(queries),
        rows=rows,
    )


if __name__ == "__main__":
    main()
