"""Reranking as frameworks want it: scores that can be compared, long documents, a cache, explanations.

>>> from chandelier.rerank import Reranker
>>> reranker = Reranker("tests/goldens/a_bert_pylate/checkpoint", long_documents="window")
>>> [each.index for each in reranker.rerank("where is paris?", ["Bread needs flour.", "Paris is in France."])]
[1, 0]
"""

from chandelier.rerank.notes import explanation_notes, without_notes
from chandelier.rerank.reranker import CACHE_BYTES, OPTIONS, Reranked, Reranker

__all__ = ["CACHE_BYTES", "OPTIONS", "Reranked", "Reranker", "explanation_notes", "without_notes"]
