"""Published checkpoints against the MaxSim scores that sentence-transformers published for them, most made with PyLate.

The models come from the hub if it can be reached (some gigabytes, once), else from its cache, else a test is skipped.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from functools import cache

import numpy as np
import pytest

from chandelier import ColBERT, HubMissingError

QUERY = "Which planet is known as the Red Planet?"
DOCUMENTS = [
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
]
# From tests/multi_vector_encoder/test_pretrained.py in huggingface/sentence-transformers, the tolerance too.
PUBLISHED = {
    "answerdotai/answerai-colbert-small-v1": [30.56916, 31.48954, 31.30291, 31.30716],
    "colbert-ir/colbertv2.0": [12.79703, 27.19449, 23.8495, 24.56564],
    "lightonai/colbertv2.0": [12.79703, 27.19449, 23.8495, 24.56564],
    "lightonai/GTE-ModernColBERT-v1": [11.25772, 11.51133, 11.34575, 11.4518],
    "lightonai/Reason-ModernColBERT": [9.05118, 10.18419, 9.12381, 9.39101],
    "lightonai/LateOn": [10.79417, 11.11042, 10.97427, 11.08107],
    "lightonai/mLateOn": [11.3486, 11.5170, 11.4391, 11.4867],
    "mixedbread-ai/mxbai-edge-colbert-v0-17m": [11.56932, 11.75844, 11.70989, 11.72288],
    "LiquidAI/LFM2-ColBERT-350M": [30.42596, 30.66987, 30.55955, 30.61758],
    "perplexity-ai/pplx-embed-v1-late-0.6b": [31.56128, 31.80504, 31.67393, 31.74072],
}
TOLERANCE = 1e-3
PATIENCE = 3  # seconds for the hub to answer at all


@cache
def why_unreachable() -> str:
    """The reason why the hub cannot be reached; "" if it can. Asked once, and shortly."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "it is switched off"
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=PATIENCE):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"{constants.ENDPOINT} answers {error.code}"
    except OSError as error:
        return f"{constants.ENDPOINT}: {error}"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_scores(name: str) -> None:
    reason = why_unreachable()
    try:
        model = ColBERT(name, local_files_only=bool(reason))
    except HubMissingError:
        if not reason:
            raise
        pytest.skip(f"{name} is not in the cache, and the hub cannot be reached ({reason})")
    queries, documents = model.encode_queries([QUERY]), model.encode_documents(DOCUMENTS)
    scores = model.similarity(queries, documents)[0]
    np.testing.assert_allclose(scores, PUBLISHED[name], rtol=TOLERANCE, atol=TOLERANCE)


def test_the_oracle_is_whole() -> None:
    assert len(PUBLISHED) == 10
    for scores in PUBLISHED.values():
        assert len(scores) == len(DOCUMENTS)
        assert np.argmax(scores) == 1, "the document about Mars"
