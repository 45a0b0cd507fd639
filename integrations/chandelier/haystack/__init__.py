"""Haystack: rank, retrieve and write with ColBERT as components (extra `haystack`).

Haystack loads pipelines with components of modules that it trusts; importing this one has it trust
`chandelier.haystack`. Where it is not imported before, `Pipeline.loads(text, allowed_modules=["chandelier.haystack"])`
says the same.
"""

from chandelier.extras import require

require("haystack", "haystack-ai", "haystack")

from haystack.core.serialization import allow_deserialization_module

from chandelier.haystack.filters import FilterArgumentError
from chandelier.haystack.ranker import ColBERTRanker
from chandelier.haystack.retriever import ColBERTRetriever
from chandelier.haystack.writer import ColBERTDocumentWriter

allow_deserialization_module("chandelier.haystack")

__all__ = ["ColBERTDocumentWriter", "ColBERTRanker", "ColBERTRetriever", "FilterArgumentError"]
