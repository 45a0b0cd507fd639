"""chandelier as a benchmark worker: its public Python surface and nothing else, tokenising included."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import corpus
from worker import resident_memory_mb, serve, timed


def main() -> None:
    """Loads the model and answers the commands of worker.py, and ``tokenize``, ``ids PATH`` and ``check PATH``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--documents", type=int, required=True)
    parser.add_argument("--queries", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()

    start = time.perf_counter()
    import numpy as np

    numpy_s, start = time.perf_counter() - start, time.perf_counter()
    import chandelier

    import_s, before_mb = time.perf_counter() - start, resident_memory_mb()
    start = time.perf_counter()
    model = chandelier.ColBERT(args.model, threads=args.threads)
    load_s, load_mb = time.perf_counter() - start, resident_memory_mb() - before_mb
    weights_mb = sum(file.stat().st_size for file in Path(args.model).rglob("*.safetensors")) / 2**20

    documents, queries = corpus.documents(args.documents), corpus.queries(args.queries)

    def tokenize(_: str) -> dict[str, Any]:
        return {
            "documents": timed(lambda: model.tokenize_documents(documents)),
            "queries": timed(lambda: model.tokenize_queries(queries)),
        }

    def save_ids(path: str) -> dict[str, Any]:
        tokens, asked = model.tokenize_documents(documents), model.tokenize_queries(queries)
        if not all(t.attention_mask.all() for t in tokens):
            raise SystemExit("a document has a token that nothing attends to: the peers would do other work")
        attended = [int(t.attention_mask.sum()) for t in asked]
        if not all(t.attention_mask[:n].all() for t, n in zip(asked, attended, strict=True)):
            raise SystemExit("a query's attended tokens are not its first ones: the ids file cannot say that")
        ids = {
            "documents": [t.ids.tolist() for t in tokens],
            "queries": [{"ids": t.ids.tolist(), "attended": n} for t, n in zip(asked, attended, strict=True)],
        }
        Path(path).write_text(json.dumps(ids), encoding="utf-8")
        lengths = {"documents": [len(t.ids) for t in tokens], "queries": [len(t.ids) for t in asked]}
        return {**lengths, "attended": attended}

    def check(path: str) -> dict[str, Any]:
        # The peer returns a row for every token; chandelier only those that a document keeps.
        rows = np.load(path)
        kinds = {
            "documents": (model.tokenize_documents(documents), model.encode_documents(documents)),
            "queries": (model.tokenize_queries(queries), model.encode_queries(queries)),
        }
        gaps: dict[str, Any] = {}
        for name, (tokens, vectors) in kinds.items():
            theirs = rows[name][np.concatenate([t.keep for t in tokens])]
            if theirs.shape != vectors.data.shape:
                raise SystemExit(f"{name}: the peer made rows of shape {theirs.shape}, chandelier {vectors.data.shape}")
            gaps[name] = {"rows": len(theirs), "worst_gap": float(np.abs(theirs - vectors.data).max())}
        return gaps

    build_info = getattr(chandelier, "build_info", None)
    hello = {
        "versions": {"chandelier": chandelier.__version__, "numpy": np.__version__},
        "build": build_info() if build_info else {},
        "numpy_s": numpy_s,
        "import_s": import_s,
        "load_s": load_s,
        "load_mb": load_mb,
        "beyond_weights_mb": load_mb - weights_mb,
    }
    serve(
        hello,
        documents=lambda: model.encode_documents(documents),
        queries=lambda: model.encode_queries(queries),
        one_query=lambda i: model.encode_queries([queries[i]]),
        n_queries=len(queries),
        tokenize=tokenize,
        ids=save_ids,
        check=check,
    )


if __name__ == "__main__":
    main()
