"""What a server makes of the vectors of a point: it checks their shapes, and rounds them to the datatype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from qdrant_client import models

from .faults import Refusal

DTYPES = {models.Datatype.FLOAT16: np.float16, models.Datatype.UINT8: np.uint8}


def check_datatype(params: models.VectorParams) -> None:
    """Refuses the datatypes that 1.19 does not have, though the client has names for them."""
    if params.datatype in (models.Datatype.TURBO8, models.Datatype.TURBO16):
        raise Refusal(400, f"Format error in JSON body: unknown variant `{params.datatype.value}`")


def check_shape(vector: Any, where: str, limit: int) -> None:
    """Refuses what is empty, ragged or has `limit` floats or more, with 422: a server tells by the request alone."""
    message = ""
    if isinstance(vector, models.SparseVector):
        return
    if len(vector) == 0:
        message = "dense vector must not be empty"
    elif isinstance(vector[0], list):
        sizes = [len(row) for row in vector]
        if 0 in sizes:
            message = "all vectors must be non-empty"
        elif sum(sizes) >= limit:
            message = f"Total size of all vectors ({sum(sizes)}) must be less than {limit}"
        elif other := next((size for size in sizes if size != sizes[0]), None):
            message = f"all vectors must have the same dimension, found vector with dimension {other}"
    if message:
        raise Refusal(422, f"Validation error in JSON body: [{where}: {message}]")


def as_stored(name: str, vector: Any, configured: Mapping[str, models.VectorParams]) -> Any:
    """The vector as a server keeps it: rounded to the datatype, and a single one in the place of several as one row."""
    params = configured.get(name)
    if params is None or isinstance(vector, models.SparseVector):
        return vector  # the engine knows what to say
    if params.multivector_config is not None and not isinstance(vector[0], list):
        vector = [vector]
    dtype = DTYPES.get(params.datatype, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(vector, np.float32).astype(dtype).astype(np.float32)
