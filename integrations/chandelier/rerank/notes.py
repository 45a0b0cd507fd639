"""What a rerank notes in the metadata of a framework's documents: `truncated`, and `explanation` in plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandelier.explanation import Explanation

__all__ = ["explanation_notes", "without_notes"]


def explanation_notes(explanation: Explanation, header: int = 0, length: int | None = None) -> dict[str, Any]:
    """Which parts of a document matched.

    Args:
        explanation: Of the text that was scored.
        header: How many characters the adapter put before the document's own text (metadata, say). Spans are counted
            from behind it, and those that lie in it are left out.
        length: How many characters the document's own text has, where the adapter put something behind it too.

    Returns:
        `spans`: for each part that was matched `start`, `end` (characters of the document), `text`, `weight` (what it
        adds to the MaxSim), `word_weight` (the part of it that words of the query add) and `query` (the tokens of the
        query that matched it, special and expansion tokens left out); `seen`: the characters that the model read.

    Examples:
        >>> from chandelier import ColBERT
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint", do_query_expansion=False)
        >>> notes = explanation_notes(model.explain("the moon", "The Moon moves the sea."))
        >>> notes["seen"], [(span["text"], span["query"]) for span in notes["spans"]]
        ([0, 23], [('The', ['the']), ('Moon', ['moon'])])
    """
    own = range(header, len(explanation.document) if length is None else header + length)
    start, end = (min(max(place, own.start), own.stop) - header for place in explanation.document_seen)
    spans = [
        {
            "start": max(span.start, own.start) - header,
            "end": min(span.end, own.stop) - header,
            "text": explanation.document[max(span.start, own.start) : min(span.end, own.stop)],
            "weight": span.weight,
            "word_weight": span.word_weight,
            "query": [explanation.query_tokens[i] for i in span.query_tokens if explanation.query_spans[i] is not None],
        }
        for span in explanation.spans()
        if span.start < own.stop and own.start < span.end
    ]
    return {"seen": [start, end], "spans": spans}


def without_notes(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without what an earlier rerank noted; what somebody else keeps under the same names stays.

    Examples:
        >>> without_notes({"page": 3, "truncated": True, "explanation": {"seen": [0, 8], "spans": []}})
        {'page': 3}
        >>> without_notes({"truncated": "in 1998", "explanation": "see page 4"})
        {'truncated': 'in 1998', 'explanation': 'see page 4'}
    """
    return {key: value for key, value in metadata.items() if not _is_note(key, value)}


def _is_note(key: str, value: object) -> bool:
    if key == "explanation":
        return isinstance(value, dict) and value.keys() == {"seen", "spans"}
    return key == "truncated" and value is True
