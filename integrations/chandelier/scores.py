"""What a score means to a framework: MaxSim, divided by the query's vectors or as it is, and a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from chandelier.exceptions import ArgumentError
from chandelier.portions import checked_text

if TYPE_CHECKING:
    from chandelier.models import ColBERT

__all__ = ["Normalization", "Scoring", "relevance_function", "scored_vectors"]

Normalization: TypeAlias = Literal["query_length", "none"]


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a MaxSim becomes a score, and which scores are enough.

    Args:
        normalization: `"query_length"` divides by the query vectors that are scored (expansion tokens are), so that
            unit rows give -1 to 1; `"none"` leaves the sum. Neither is a probability: what is high depends on the
            model.
        threshold: Scores below it are left out; None for none.

    Raises:
        ArgumentError: If an argument is none of these.

    Examples:
        >>> Scoring("query_length").score(16.0, 32)
        0.5
        >>> Scoring("none", threshold=10.0).passes(16.0)
        True
    """

    normalization: Normalization = "query_length"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.normalization not in ("query_length", "none"):
            got = f"got {self.normalization!r}, wanted 'query_length' or 'none'"
            raise ArgumentError(f"score_normalization: {got}", argument="score_normalization")
        if self.threshold is not None:
            is_number = isinstance(self.threshold, (int, float)) and not isinstance(self.threshold, bool)
            if not is_number or math.isnan(self.threshold):
                got = f"got {self.threshold!r}, wanted a number or None"
                raise ArgumentError(f"score_threshold: {got}", argument="score_threshold")

    def score(self, maxsim: float, query_vectors: int) -> float:
        """The score of a MaxSim over so many vectors of the query."""
        return float(maxsim) / query_vectors if self.normalization == "query_length" else float(maxsim)

    def passes(self, score: float) -> bool:
        """Whether a score reaches the threshold."""
        return self.threshold is None or score >= self.threshold


def scored_vectors(model: ColBERT, query: str) -> int:
    """How many vectors a query becomes."""
    return int(model.tokenize_queries([query])[0].keep.sum())


def checked_question(query: object) -> str:
    """A query that asks something."""
    question = checked_text("query", query)
    if not question.strip():
        raise ArgumentError("query: got an empty text, wanted a question; nothing can match it", argument="query")
    return question


def checked_bool(name: str, value: object) -> bool:
    """True or False, and nothing that only looks like it."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}: got {value!r}, wanted True or False", argument=name)
    return value


def relevance_function(model: ColBERT) -> Callable[[float], float]:
    """What makes a score of this model, divided by the query's vectors, a number from 0 to 1: half of it plus a half.

    Raises:
        ArgumentError: If the model's rows are not of unit length, so that its scores have no bounds.

    Examples:
        >>> from chandelier import ColBERT
        >>> relevance_function(ColBERT("tests/goldens/a_bert_pylate/checkpoint"))(0.5)
        0.75
    """
    if not model.info()["normalize"]:
        message = f"relevance: the rows of {model.name} are not of unit length, so its scores have no bounds"
        raise ArgumentError(f"{message}; use the scores as they are", argument="model")
    return lambda score: min(max((score + 1) / 2, 0.0), 1.0)  # rounding may lead a hair beyond
