"""LangChain: retrieve and rerank with ColBERT (extra `langchain`: langchain-core, nothing else)."""

from chandelier.extras import require

require("langchain_core", "langchain-core", "langchain")
