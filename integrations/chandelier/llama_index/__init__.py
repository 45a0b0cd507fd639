"""LlamaIndex: retrieve and rerank with ColBERT (extra `llama-index`)."""

from chandelier.extras import require

require("llama_index.core", "llama-index-core", "llama-index")

from chandelier.llama_index.postprocessor import ColBERTRerank
from chandelier.llama_index.retriever import ColBERTRetriever

__all__ = ["ColBERTRerank", "ColBERTRetriever"]
