"""LangChain: retrieve and rerank with ColBERT (extra `langchain`: langchain-core, nothing else).

`ColBERTRetriever` and `ColBERTVectorStore` stand over any store of chandelier, `ColBERTRerank` orders what any
retriever finds, and `TwoStageRetriever` joins the two. `chandelier.langchain.qdrant` serves langchain-qdrant.
"""

from chandelier.extras import require

require("langchain_core", "langchain-core", "langchain")

from chandelier.langchain.embeddings import ColBERTEmbeddings
from chandelier.langchain.reranker import ColBERTRerank
from chandelier.langchain.retriever import ColBERTRetriever
from chandelier.langchain.two_stage import TwoStageRetriever
from chandelier.langchain.vectorstore import ColBERTVectorStore

__all__ = ["ColBERTEmbeddings", "ColBERTRerank", "ColBERTRetriever", "ColBERTVectorStore", "TwoStageRetriever"]
