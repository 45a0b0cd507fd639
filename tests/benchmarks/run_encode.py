"""chandelier as a worker of bench_encode.py: its public Python surface and nothing else, tokenising included."""

import argparse
import functools
from pathlib import Path
from typing import Any

from worker import Start, Work, save_rows, serve


def main() -> None:
    """Loads the model and answers the commands of worker.py, and ``ids`` and ``check FOLDER``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("work")
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    work = Work(args.work)
    documents, queries = work.texts["documents"], work.texts["queries"]

    start = Start()
    import numpy as np

    import chandelier

    start.mark("import")
    model = chandelier.ColBERT(args.model, dtype=args.dtype, threads=args.threads)
    start.mark("load")
    model.encode_queries(queries[:1])
    start.mark("first_query")

    def save_ids(_: str) -> dict[str, Any]:
        found: dict[str, list[dict[str, Any]]] = {}
        for kind, tokens in (
            ("documents", model.tokenize_documents(documents)),
            ("queries", model.tokenize_queries(queries)),
        ):
            attended = [int(t.attention_mask.sum()) for t in tokens]
            if not all(t.attention_mask[:n].all() for t, n in zip(tokens, attended, strict=True)):
                raise SystemExit(f"{kind}: the attended tokens are not the first ones: the file of ids cannot say that")
            found[kind] = [
                {"ids": t.ids.tolist(), "attended": n, "keep": t.keep.tolist()}
                for t, n in zip(tokens, attended, strict=True)
            ]
        work.save_ids(found)
        return {kind: [len(text["ids"]) for text in texts] for kind, texts in found.items()}

    @functools.cache
    def rows() -> dict[str, Any]:
        return {"documents": model.encode_documents(documents).data, "queries": model.encode_queries(queries).data}

    def check(folder: str) -> dict[str, Any]:
        gap, cosines = 0.0, []
        for kind, ours in rows().items():
            theirs = np.load(Path(folder) / f"{kind}.npy")
            if theirs.shape != ours.shape:
                raise SystemExit(f"{kind}: the side made rows of shape {theirs.shape}, chandelier {ours.shape}")
            gap = max(gap, float(np.abs(theirs - ours).max()))
            cosines.append((theirs * ours).sum(axis=1))
        cosine = np.concatenate(cosines)
        return {"worst_gap": gap, "mean_cosine": float(cosine.mean()), "least_cosine": float(cosine.min())}

    serve(
        {
            "versions": {"chandelier": chandelier.__version__, "numpy": np.__version__},
            "build": chandelier.build_info(),
            **start.took,
        },
        documents=lambda: model.encode_documents(documents),
        one_query=lambda i: model.encode_queries([queries[i]]),
        n_queries=len(queries),
        rows=lambda folder: save_rows(folder, rows()),
        ids=save_ids,
        check=check,
    )


if __name__ == "__main__":
    main()
