"""ONNX Runtime as a worker of bench_encode.py: a session over token ids, without torch."""

import argparse
from typing import Any

from worker import Start, Work, save_rows, serve


def main() -> None:
    """Opens a graph of onnx_graph.py and answers the commands of worker.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph")
    parser.add_argument("model", help="the checkpoint, for its tokenizer")
    parser.add_argument("work")
    parser.add_argument("--batch", type=int, required=True, help="texts that are padded to one length")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    work = Work(args.work)
    texts, first = work.ids, work.texts["queries"][0]

    start = Start()
    import numpy as np
    import onnxruntime
    import tokenizers

    start.mark("import")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(args.graph, options, providers=["CPUExecutionProvider"])
    tokenizer = tokenizers.Tokenizer.from_file(f"{args.model}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    start.mark("load")

    def feeds(ids: "np.ndarray", mask: "np.ndarray") -> dict[str, Any]:
        return {
            "input_ids": ids.astype(np.int32),
            "token_type_ids": np.zeros(ids.shape, np.int32),
            "attention_mask": mask.astype(np.int32),
        }

    # A query is filled up to its length with masks that nothing attends to.
    wanted = texts["queries"][0]
    encoding = tokenizer.encode(f"[Q] {first}").ids
    expanded = np.full((1, len(wanted["ids"])), tokenizer.token_to_id("[MASK]"))
    expanded[0, : len(encoding)] = encoding
    session.run(None, feeds(expanded, np.arange(expanded.shape[1])[None] < len(encoding)))
    start.mark("first_query")
    if expanded[0].tolist() != wanted["ids"]:
        raise SystemExit(f"the first query's ids are not chandelier's: {expanded[0].tolist()}, {wanted['ids']}")

    from padding import batch, batches, kept_rows

    documents = [(b.texts, feeds(b.ids, b.mask)) for b in batches(texts["documents"], args.batch)]
    queries = [feeds(*batch(texts["queries"], [i])[1:]) for i in range(len(texts["queries"]))]

    def encode_documents() -> list[Any]:
        vectors: list[Any] = [None] * len(texts["documents"])
        for chosen, feed in documents:
            (out,) = session.run(None, feed)
            for i, matrix in zip(chosen, out, strict=True):
                vectors[i] = matrix[: len(texts["documents"][i]["ids"])]
        return vectors

    def rows(folder: str) -> dict[str, Any]:
        asked = [session.run(None, feed)[0][0] for feed in queries]
        found = {"documents": encode_documents(), "queries": asked}
        return save_rows(folder, {kind: kept_rows(texts[kind], vectors) for kind, vectors in found.items()})

    versions = {"onnxruntime": onnxruntime.__version__, "tokenizers": tokenizers.__version__, "numpy": np.__version__}
    serve(
        {"versions": versions, **start.took},
        documents=encode_documents,
        one_query=lambda i: session.run(None, queries[i]),
        n_queries=len(queries),
        rows=rows,
    )


if __name__ == "__main__":
    main()
