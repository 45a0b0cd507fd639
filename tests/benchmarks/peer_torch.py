"""torch as a worker of bench_encode.py: transformers' model, the projection and the norm, in float32 or bfloat16."""

import argparse
from typing import Any

from worker import Start, Work, save_rows, serve


def main() -> None:
    """Loads a checkpoint and answers the commands of worker.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("work")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    parser.add_argument("--batch", type=int, required=True, help="texts that are padded to one length")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    texts = Work(args.work).ids

    start = Start()
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import load_file

    start.mark("import")
    torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(args.model, dtype=dtype).eval()
    dense = load_file(f"{args.model}/1_Dense/model.safetensors")["linear.weight"].to(dtype)
    start.mark("load")

    from padding import batch, batches, kept_rows

    documents = batches(texts["documents"], args.batch)
    queries = [batch(texts["queries"], [i]) for i in range(len(texts["queries"]))]

    @torch.inference_mode()
    def encode(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        rows = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        projected = torch.nn.functional.linear(rows, dense)
        vectors: np.ndarray = torch.nn.functional.normalize(projected.float(), dim=-1).numpy()
        return vectors

    def encode_documents() -> list[Any]:
        vectors: list[Any] = [None] * len(texts["documents"])
        for chosen, ids, mask in documents:
            for i, matrix in zip(chosen, encode(ids, mask), strict=True):
                vectors[i] = matrix[: len(texts["documents"][i]["ids"])]
        return vectors

    def rows(folder: str) -> dict[str, Any]:
        found = {"documents": encode_documents(), "queries": [encode(q.ids, q.mask)[0] for q in queries]}
        return save_rows(folder, {kind: kept_rows(texts[kind], vectors) for kind, vectors in found.items()})

    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
    serve(
        {"versions": versions, **start.took},
        documents=encode_documents,
        one_query=lambda i: encode(queries[i].ids, queries[i].mask),
        n_queries=len(queries),
        rows=rows,
    )


if __name__ == "__main__":
    main()
