"""chandelier's maths as a benchmark worker: its public Python surface and nothing else."""

from functools import partial
from pathlib import Path
from typing import Any

from maths_cases import MUVERA, POOL_FACTOR, POOLED_TOKENS, PROTECTED_TOKENS, TOP, Data, Mapped, joined, split
from maths_worker import Form, Forms, serve


def chandelier_side(data: Data, files: Path) -> tuple[dict[str, Any], Forms]:
    """Every group; `MultiVectors` is the form that the others compare with."""
    import numpy as np

    import chandelier
    from chandelier import MultiVectors, maxsim, maxsim_matrix, pool_tokens, top_k

    def vectors(matrices: Any) -> MultiVectors:
        count, tokens, dim = matrices.shape
        return MultiVectors(matrices.reshape(-1, dim), np.arange(count + 1) * tokens)

    query, queries, documents = data.query, vectors(data.queries), vectors(data.documents)
    half, ragged = documents.astype("float16"), MultiVectors(data.ragged, data.ragged_offsets)
    mapped = Mapped.open(files)
    flat, pieces = "MultiVectors", "list of arrays"
    forms: Forms = {
        "maxsim": {
            flat: Form(lambda: maxsim(query, documents)),
            pieces: Form(partial(maxsim, query, list(data.documents))),
        },
        "maxsim_float16": {
            flat: Form(lambda: maxsim(query, half)),
            pieces: Form(partial(maxsim, query, list(half))),
        },
        "maxsim_ragged": {
            flat: Form(lambda: maxsim(query, ragged)),
            pieces: Form(partial(maxsim, query, split(data.ragged, data.ragged_offsets))),
        },
        "top_k": {flat: Form(lambda: top_k(query, documents, TOP), tuple)},
        "maxsim_matrix": {flat: Form(lambda: maxsim_matrix(queries, documents))},
        "mapped_float32": {flat: Form(lambda: maxsim(query, vectors(mapped.float32)))},
        "mapped_float16": {flat: Form(lambda: maxsim(query, vectors(mapped.float16)))},
    }
    muvera = chandelier.Muvera(data.sizes.dim, **MUVERA)
    to_encode, to_search = vectors(data.encoded_documents), vectors(data.encoded_queries)
    forms["fde_documents"] = {flat: Form(lambda: muvera.encode_documents(to_encode))}
    forms["fde_queries"] = {flat: Form(lambda: muvera.encode_queries(to_search))}
    for tokens in POOLED_TOKENS:
        pool = partial(pool_tokens, vectors(data.pooled(tokens)), POOL_FACTOR, protected_tokens=PROTECTED_TOKENS)
        forms[f"pool_{tokens}"] = {flat: Form(pool, joined)}
    versions = {"chandelier": chandelier.__version__, "numpy": np.__version__}
    return {"versions": versions, "build": chandelier.build_info()}, forms


if __name__ == "__main__":
    serve({"chandelier": chandelier_side})
