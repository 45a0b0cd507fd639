"""ColBERT late interaction without PyTorch: exact to PyLate, in one small wheel.

>>> import chandelier
>>> model = chandelier.ColBERT("tests/goldens/a_bert_pylate/checkpoint")
>>> [ranked.index for ranked in model.rerank("where is paris?", ["Bread needs flour.", "Paris is in France."])]
[1, 0]
"""

import typing as _typing

from chandelier import models
from chandelier._core import __version__, build_info
from chandelier.exceptions import (
    ArgumentError,
    ChandelierError,
    DeviceError,
    HubError,
    HubMissingError,
    ModelError,
    PartialUpsertError,
    ShapeError,
    StoreError,
)
from chandelier.maths import maxsim, maxsim_matrix, pool_tokens, top_k
from chandelier.models import ColBERT, Ranked, Tokens, from_bert
from chandelier.multivectors import MultiVectors

if _typing.TYPE_CHECKING:
    from chandelier.explanation import Explanation, Match, Span
    from chandelier.prefetch import MeanVector, Muvera, PrefetchEncoder
    from chandelier.recall import Recall, RecallReport, recall_probe
    from chandelier.store import Document, Hit, LocalStore, Store, UpsertReport

__all__ = [
    "ArgumentError",
    "ChandelierError",
    "ColBERT",
    "DeviceError",
    "Document",
    "Explanation",
    "Hit",
    "HubError",
    "HubMissingError",
    "LocalStore",
    "Match",
    "MeanVector",
    "ModelError",
    "MultiVectors",
    "Muvera",
    "PartialUpsertError",
    "PrefetchEncoder",
    "Ranked",
    "Recall",
    "RecallReport",
    "ShapeError",
    "Span",
    "Store",
    "StoreError",
    "Tokens",
    "UpsertReport",
    "__version__",
    "build_info",
    "from_bert",
    "maxsim",
    "maxsim_matrix",
    "models",
    "pool_tokens",
    "recall_probe",
    "top_k",
]

_LATER = {
    "chandelier.explanation": ("Explanation", "Match", "Span"),
    "chandelier.prefetch": ("MeanVector", "Muvera", "PrefetchEncoder"),
    "chandelier.recall": ("Recall", "RecallReport", "recall_probe"),
    "chandelier.store": ("Document", "Hit", "LocalStore", "Store", "UpsertReport"),
}


def __getattr__(name: str) -> object:
    """What encoding and scoring do not need is imported when it is first asked for."""
    import importlib

    for module, names in _LATER.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
