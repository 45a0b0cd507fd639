"""An explanation in plain JSON, for the metadata of a framework's documents."""

from __future__ import annotations

from typing import Any

from chandelier.explanation import Explanation

__all__ = ["explanation_notes"]


def explanation_notes(explanation: Explanation, header: int = 0) -> dict[str, Any]:
    """Which parts of a document matched.

    Args:
        explanation: Of the text that was scored.
        header: How many characters the adapter put before the document's own text (metadata, say). Spans are counted
            from behind it, and those that lie in it are left out.

    Returns:
        `spans`: for each part that was matched `start`, `end` (characters of the document), `text`, `weight` (what it
        adds to the MaxSim), `word_weight` (the part of it that words of the query add) and `query` (the tokens of the
        query that matched it); `seen`: the characters that the model read.

    Examples:
        >>> from chandelier import ColBERT
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint", do_query_expansion=False)
        >>> notes = explanation_notes(model.explain("the moon", "The Moon moves the sea."))
        >>> notes["seen"], [(span["text"], span["query"]) for span in notes["spans"]]
        ([0, 23], [('The', ['the']), ('Moon', ['moon'])])
    """
    start, end = explanation.document_seen
    length = len(explanation.document)
    spans = [
        {
            "start": max(span.start - header, 0),
            "end": span.end - header,
            "text": explanation.document[max(span.start, header) : span.end],
            "weight": span.weight,
            "word_weight": span.word_weight,
            "query": [explanation.query_tokens[index] for index in span.query_tokens],
        }
        for span in explanation.spans()
        if header < span.end <= length
    ]
    return {"seen": [max(start - header, 0), max(end - header, 0)], "spans": spans}
