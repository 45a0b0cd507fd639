"""ColBERT late interaction without PyTorch: exact to PyLate, in one small wheel.

>>> import chandelier
>>> model = chandelier.ColBERT("tests/goldens/a_bert_pylate/checkpoint")
>>> [ranked.index for ranked in model.rerank("where is paris?", ["Bread needs flour.", "Paris is in France."])]
[1, 0]
"""

from chandelier import models
from chandelier._core import __version__, build_info
from chandelier.exceptions import (
    ArgumentError,
    ChandelierError,
    DeviceError,
    HubError,
    HubMissingError,
    ModelError,
    ShapeError,
)
from chandelier.explanation import Explanation, Match, Span
from chandelier.maths import maxsim, maxsim_matrix, pool_tokens, top_k
from chandelier.models import ColBERT, Ranked, Tokens, from_bert
from chandelier.multivectors import MultiVectors
from chandelier.prefetch import MeanVector, Muvera, PrefetchEncoder
from chandelier.recall import Recall, RecallReport, recall_probe

__all__ = [
    "ArgumentError",
    "ChandelierError",
    "ColBERT",
    "DeviceError",
    "Explanation",
    "HubError",
    "HubMissingError",
    "Match",
    "MeanVector",
    "ModelError",
    "MultiVectors",
    "Muvera",
    "PrefetchEncoder",
    "Ranked",
    "Recall",
    "RecallReport",
    "ShapeError",
    "Span",
    "Tokens",
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
