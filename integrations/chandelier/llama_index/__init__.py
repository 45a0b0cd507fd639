"""LlamaIndex: retrieve and rerank with ColBERT (extra `llama-index`)."""

from chandelier.extras import require

require("llama_index.core", "llama-index-core", "llama-index")
