"""The peers of the maths benchmark, each a worker of its own: what its own users would call, in its fastest form.

Inputs lie ready in the form that the peer likes best before the clock starts.
"""

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from maths_cases import MUVERA, POOL_FACTOR, POOLED_TOKENS, PROTECTED_TOKENS, TOP, Data, Mapped, joined, split
from maths_worker import Form, Forms, serve

BLOCK = 16  # documents whose products stay in the cache: the fastest of 1, 4, 16, 64 and 256


def numpy_side(data: Data, files: Path) -> tuple[dict[str, Any], Forms]:
    """A matrix product and `maximum.reduceat` over the documents' first rows."""
    import numpy as np

    count, tokens, dim = data.documents.shape
    query, flat, starts = data.query, data.documents.reshape(-1, dim), np.arange(count) * tokens
    transposed = np.ascontiguousarray(query.T)
    half = flat.astype(np.float16)

    def maxsim(rows: Any, starts: Any, query: Any = query) -> Any:
        return np.maximum.reduceat(query @ rows.T, starts, axis=1).sum(axis=0)

    def in_blocks(rows: Any, offsets: Any, right: Any = transposed) -> Any:
        scores = np.empty(len(offsets) - 1, np.float32)
        for first in range(0, len(scores), BLOCK):
            ends = offsets[first : first + BLOCK + 1]
            products = rows[ends[0] : ends[-1]].astype(np.float32, copy=False) @ right
            scores[first : first + BLOCK] = np.maximum.reduceat(products, ends[:-1] - ends[0], axis=0).sum(axis=1)
        return scores

    def of_one_length() -> Any:
        return (flat @ transposed).reshape(count, tokens, -1).max(axis=1).sum(axis=1)

    def best() -> Any:
        scores = in_blocks(flat, offsets)
        found = np.argpartition(-scores, TOP)[:TOP]
        found = found[np.argsort(-scores[found])]
        return found, scores[found]

    mapped = Mapped.open(files)
    offsets, ragged = np.append(starts, len(flat)), data.ragged
    whole, blocks = "matmul + reduceat", f"reduceat, {BLOCK} documents at a time"
    forms: Forms = {
        "maxsim": {
            whole: Form(lambda: maxsim(flat, starts)),
            blocks: Form(lambda: in_blocks(flat, offsets)),
            "matmul + max, only of one length": Form(of_one_length),
        },
        "maxsim_float16": {blocks: Form(lambda: in_blocks(half, offsets))},
        "maxsim_ragged": {
            whole: Form(lambda: maxsim(ragged, data.ragged_offsets[:-1])),
            blocks: Form(lambda: in_blocks(ragged, data.ragged_offsets)),
        },
        "top_k": {f"{blocks}, argpartition": Form(best, tuple)},
        "maxsim_matrix": {
            blocks: Form(lambda: np.stack([in_blocks(flat, offsets, query.T.copy()) for query in data.queries]))
        },
        "mapped_float32": {whole: Form(lambda: maxsim(mapped.float32.reshape(-1, dim), starts))},
        "mapped_float16": {blocks: Form(lambda: in_blocks(mapped.float16.reshape(-1, dim), offsets))},
    }
    return {"versions": {"numpy": np.__version__}}, forms


def maxsim_cpu_side(data: Data, files: Path) -> tuple[dict[str, Any], Forms]:
    """mixedbread's Rust package: a padded array where documents are of one length, else a list."""
    import maxsim_cpu
    import numpy as np
    from maxsim_cpu import maxsim_scores, maxsim_scores_variable

    def best() -> Any:
        scores = maxsim_scores(query, documents)
        found = np.argpartition(-scores, TOP)[:TOP]
        found = found[np.argsort(-scores[found])]
        return found, scores[found]

    query, documents, half = data.query, data.documents, data.documents.astype(np.float16)
    mapped = Mapped.open(files)
    pieces, ragged = list(documents), split(data.ragged, data.ragged_offsets)
    forms: Forms = {
        "maxsim": {
            "3-D array": Form(lambda: maxsim_scores(query, documents)),
            "list of arrays": Form(lambda: maxsim_scores_variable(query, pieces)),
        },
        "maxsim_float16": {"3-D array, converted": Form(lambda: maxsim_scores(query, half.astype(np.float32)))},
        "maxsim_ragged": {"list of arrays": Form(lambda: maxsim_scores_variable(query, ragged))},
        "top_k": {"3-D array, argpartition": Form(best, tuple)},
        "maxsim_matrix": {
            "3-D array, a call a query": Form(lambda: np.stack([maxsim_scores(q, documents) for q in data.queries]))
        },
        "mapped_float32": {"3-D array": Form(lambda: maxsim_scores(query, mapped.float32))},
    }
    return {"versions": {"maxsim-cpu": getattr(maxsim_cpu, "__version__", "0.1.0")}}, forms


def fastembed_side(data: Data, _: Path) -> tuple[dict[str, Any], Forms]:
    """FastEmbed's `Muvera`, a call a text as its documentation shows it."""
    import fastembed
    import numpy as np
    from fastembed.postprocess.muvera import Muvera

    k, dim, repetitions, seed = (MUVERA[name] for name in ("ksim", "dprojections", "repetitions", "seed"))
    muvera = Muvera(data.sizes.dim, k_sim=k, dim_proj=dim, r_reps=repetitions, random_seed=seed)
    documents, queries = data.encoded_documents, data.encoded_queries

    def stacked(encodings: list[Any]) -> tuple[Any, ...]:
        return (np.stack(encodings),)

    forms: Forms = {
        "fde_documents": {"a call a text": Form(lambda: [muvera.process_document(d) for d in documents], stacked)},
        "fde_queries": {"a call a text": Form(lambda: [muvera.process_query(q) for q in queries], stacked)},
    }
    return {"versions": {"fastembed": fastembed.__version__}}, forms


def muvera_python_side(data: Data, _: Path) -> tuple[dict[str, Any], Forms]:
    """muvera-python: as much work and as long encodings, but by other random numbers, so that no reference fits."""
    from muvera import Muvera

    muvera = Muvera(
        dimension=data.sizes.dim,
        num_simhash_projections=MUVERA["ksim"],
        num_repetitions=MUVERA["repetitions"],
        projection_type="ams_sketch",
        projection_dimension=MUVERA["dprojections"],
        seed=MUVERA["seed"],
    )
    documents, queries = list(data.encoded_documents), list(data.encoded_queries)
    unknown: Any = lambda _: ()  # noqa: E731
    forms: Forms = {
        "fde_documents": {"all in one call": Form(lambda: muvera.encode_documents(documents), unknown)},
        "fde_queries": {"all in one call": Form(lambda: muvera.encode_queries(queries), unknown)},
    }
    return {"versions": {"muvera-python": importlib.metadata.version("muvera-python")}}, forms


def scipy_side(data: Data, _: Path) -> tuple[dict[str, Any], Forms]:
    """scipy's linkage and cut as PyLate calls them, with everything around them or, the least it can take, alone."""
    # Products this small are slower with two; OpenBLAS reads it when numpy is imported.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np
    import scipy
    from scipy.cluster.hierarchy import fcluster, linkage

    def distances(rows: Any) -> Any:
        return (1 - rows @ rows.T)[np.triu_indices(len(rows), 1)]

    def labels(condensed: Any, rows: int) -> Any:
        return fcluster(linkage(condensed, method="ward"), t=rows // POOL_FACTOR, criterion="maxclust")

    def means(document: Any, label: Any) -> Any:
        members = np.arange(1, label.max() + 1)[:, None] == label
        sums = members.astype(np.float32) @ document[PROTECTED_TOKENS:]
        return np.concatenate([document[:PROTECTED_TOKENS], sums / members.sum(axis=1, dtype=np.float32)[:, None]])

    def forms_of(documents: Any) -> dict[str, Form]:
        pieces = [document[PROTECTED_TOKENS:] for document in documents]
        condensed, rows = [distances(piece) for piece in pieces], len(pieces[0])

        def everything() -> Any:
            return [means(document, labels(distances(document[PROTECTED_TOKENS:]), rows)) for document in documents]

        def pooled(found: Any) -> tuple[Any, ...]:
            return joined([means(document, label) for document, label in zip(documents, found, strict=True)])

        return {
            "distances, linkage, fcluster, means": Form(everything, joined),
            "linkage + fcluster alone": Form(lambda: [labels(ready, rows) for ready in condensed], pooled),
        }

    forms = {f"pool_{tokens}": forms_of(data.pooled(tokens)) for tokens in POOLED_TOKENS}
    return {"versions": {"scipy": scipy.__version__, "numpy": np.__version__}}, forms


def pylate_side(data: Data, _: Path) -> tuple[dict[str, Any], Forms]:
    """PyLate on torch: `colbert_scores` on padded tensors with a mask, and its pooling."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import numpy as np
    import pylate
    import torch
    from pylate.models import ColBERT
    from pylate.scores import colbert_scores

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    query, queries = torch.from_numpy(data.query)[None], torch.from_numpy(data.queries)
    documents, half = torch.from_numpy(data.documents), torch.from_numpy(data.documents.astype(np.float16))
    ragged = [torch.from_numpy(matrix) for matrix in split(data.ragged, data.ragged_offsets)]
    padded = torch.nn.utils.rnn.pad_sequence(ragged, batch_first=True)

    def one(scores: Any) -> tuple[Any, ...]:
        return (scores.numpy().reshape(-1),)

    def each_query() -> Any:
        return torch.cat([colbert_scores(one[None], documents) for one in queries])

    def best(scores: Any) -> tuple[Any, ...]:
        return scores.indices.numpy().reshape(-1), scores.values.numpy().reshape(-1)

    scores = "colbert_scores"
    forms: Forms = {
        "maxsim": {scores: Form(lambda: colbert_scores(query, documents), one)},
        "maxsim_float16": {f"{scores}, converted": Form(lambda: colbert_scores(query, half.float()), one)},
        # Zero rows and no mask, as its own rerank has it: right here, where no best product is negative.
        "maxsim_ragged": {f"{scores}, padded": Form(lambda: colbert_scores(query, padded), one)},
        "top_k": {f"{scores}, topk": Form(lambda: colbert_scores(query, documents).topk(TOP), best)},
        "maxsim_matrix": {f"{scores}, a call a query": Form(each_query, lambda found: (found.numpy(),))},
    }

    def pool(documents: Any) -> Form:
        tensors = list(torch.from_numpy(documents))
        work: Any = ColBERT.pool_embeddings_hierarchical  # a method that uses nothing of its model
        return Form(
            lambda: work(None, tensors, POOL_FACTOR, PROTECTED_TOKENS),
            lambda found: joined([matrix.numpy() for matrix in found]),
        )

    for tokens in POOLED_TOKENS:
        forms[f"pool_{tokens}"] = {"pool_embeddings_hierarchical": pool(data.pooled(tokens))}
    return {"versions": {"pylate": pylate.__version__, "torch": torch.__version__}}, forms


SIDES = {
    "numpy": numpy_side,
    "maxsim-cpu": maxsim_cpu_side,
    "fastembed": fastembed_side,
    "muvera-python": muvera_python_side,
    "scipy": scipy_side,
    "pylate": pylate_side,
}

if __name__ == "__main__":
    serve(dict(SIDES))
