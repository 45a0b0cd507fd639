"""The sides of the PLAID benchmark, and the settings that each is measured at. Standard library only."""

from typing import Any, TypeAlias

TOP = 10
QUERIES = 200
PORTION = 5_000
"""Documents that are encoded, kept in a file and scored at a time."""

SIZES = (5_000, 100_000)
QUICK_SIZES, QUICK_QUERIES = (300, 600), 5

Setting: TypeAlias = dict[str, Any]
"""The options of a store, or of one of its searches."""

NAMES = {
    "local": "LocalStore, float16",
    "plaid4": "PlaidStore, 4 bits",
    "plaid2": "PlaidStore, 2 bits",
    "edge": "Qdrant Edge, Muvera",
    "fast-plaid": "fast-plaid, 4 bits",
}
PLAID = ("plaid4", "plaid2")
TRUE_SCORES = ("local", *PLAID, "edge")
"""The sides whose scores are MaxSim of the stored rows."""

MUVERA = {"ksim": 3}
"""2,560 values, as in `bench_stores.py`."""

CANDIDATES = 100
"""That PlaidStore scores exactly, and that fast-plaid gives."""

WORST_GAP = {"local": 1e-5, "plaid4": 1e-5, "plaid2": 1e-5, "edge": 5e-4}
"""Of a score, for each row of the query: ours sum the same products, Qdrant Edge rounds the query to float16."""


def settings(side: str, documents: int) -> list[Setting]:
    """What a side is measured at: no number twice that is more than there are documents."""
    if side == "local":
        return [{}]
    if side == "edge":
        return [{"depth": depth} for depth in _up_to(documents, 50, 100, 200, 500, 1_000, 2_000)]
    probes, full = ((None, 16), (512, 1_024, 2_048, 4_096, 8_192)) if side in PLAID else ((8, 32), (4_096,))
    numbers = _up_to(documents, *full)
    defaults = [usual(side)] if side in PLAID else []
    return defaults + [{"n_ivf_probe": probe, "n_full_scores": number} for probe in probes for number in numbers]


def usual(side: str) -> Setting:
    """What a side does unless it is told otherwise, or what we begin with; its memory is watched at that."""
    return {"edge": {"depth": 100}, "fast-plaid": {"n_ivf_probe": 8, "n_full_scores": 4_096}}.get(side, {})


def _up_to(documents: int, *numbers: int) -> list[int]:
    return [number for number in numbers if number < documents] + [number for number in numbers if number >= documents][
        :1
    ]


def label(setting: Setting) -> str:
    """A setting in a few characters."""
    words = [f"{name.removeprefix('n_')} {'all' if value is None else f'{value:,}'}" for name, value in setting.items()]
    return ", ".join(words) or "defaults"
