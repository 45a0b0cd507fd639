"""One reranker as a benchmark worker: opens its model, ranks a first short list, then answers the parent.

    python tests/benchmarks/hosts_worker.py SIDE MODELS TEXTS --threads 2     # by the Python of the side's environment

Every side is used as its documents show it, with nothing of it replaced. The line protocol is that of worker.py:

- ``rank``: the first query over all passages once; wall and CPU seconds
- ``scores``: all queries; of each the passages best first with their scores, and what a score is multiplied by to be a
  sum over the query's rows (None where it is something else)
- ``reference``: MaxSim of all, by PyLate's own rows and scores, one passage at a time
- ``memory``: peak resident memory so far, in MB
"""

import argparse
import contextlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from worker import answer, peak_memory_mb, timed

FIRST = 10  # passages of the list that a cold start ends with
Ranked = list[tuple[int, float]]


class Side:
    """A reranker: what is common to all of them is that a query and host documents go in.

    Args:
        models: The folder that hosts_models.py wrote.
        threads: How many it may use.
    """

    packages: tuple[str, ...] = ()

    def __init__(self, models: Path, threads: int) -> None:
        raise NotImplementedError

    def prepare(self, texts: list[str]) -> Any:
        """The passages as the host has them; not timed."""
        return texts

    def rank(self, query: str, documents: Any) -> Any:
        """The host's own list of all passages, best first; this is timed."""
        raise NotImplementedError

    def read(self, ranked: Any) -> Ranked:
        """Place and score of each."""
        raise NotImplementedError

    def factor(self, query: str) -> float | None:
        """What its score is multiplied by to be a sum over the query's rows, None for another kind of score."""
        return 1.0


class Chandelier(Side):
    """`chandelier.rerank.Reranker`, and what the adapters share; without the cache, so that every call encodes."""

    packages = ("chandelier", "numpy")

    def __init__(self, models: Path, threads: int) -> None:
        self.options: dict[str, Any] = {
            "model": str(models / "colbert"),
            "cache_bytes": 0,
            "model_kwargs": {"threads": threads},
        }
        self.open()

    def open(self) -> None:
        from chandelier.rerank import Reranker

        self.reranker: Any = Reranker(**self.options)

    def rank(self, query: str, documents: Any) -> Any:
        return self.reranker.rerank(query, documents)

    def read(self, ranked: Any) -> Ranked:
        if any(each.truncated for each in ranked):
            raise SystemExit("a passage is longer than the model reads, so the peers would do other work")
        return [(each.index, each.score) for each in ranked]

    def factor(self, query: str) -> float:
        from chandelier.shared import shared_model

        model = shared_model(self.options["model"], **self.options["model_kwargs"])
        return float(len(model.encode_queries([query])[0]))


class ChandelierLangChain(Chandelier):
    """`chandelier.langchain.ColBERTRerank`."""

    packages = ("chandelier", "langchain-core")

    def open(self) -> None:
        from chandelier.langchain import ColBERTRerank

        self.reranker = ColBERTRerank(**self.options, top_n=None)

    def prepare(self, texts: list[str]) -> Any:
        from langchain_core.documents import Document

        return [Document(text, id=str(index)) for index, text in enumerate(texts)]

    def rank(self, query: str, documents: Any) -> Any:
        return self.reranker.compress_documents(documents, query)

    def read(self, ranked: Any) -> Ranked:
        return [(int(each.id), each.metadata["relevance_score"]) for each in ranked]


class ChandelierLlamaIndex(Chandelier):
    """`chandelier.llama_index.ColBERTRerank`."""

    packages = ("chandelier", "llama-index-core")

    def open(self) -> None:
        from chandelier.llama_index import ColBERTRerank

        self.reranker = ColBERTRerank(**self.options, top_n=None)

    def prepare(self, texts: list[str]) -> Any:
        return nodes(texts)

    def rank(self, query: str, documents: Any) -> Any:
        return self.reranker.postprocess_nodes(documents, query_str=query)

    def read(self, ranked: Any) -> Ranked:
        return [(int(each.node.node_id), each.score) for each in ranked]


class ChandelierHaystack(Chandelier):
    """`chandelier.haystack.ColBERTRanker`."""

    packages = ("chandelier", "haystack-ai")

    def open(self) -> None:
        from chandelier.haystack import ColBERTRanker

        self.reranker = ColBERTRanker(**self.options, top_k=None)

    def prepare(self, texts: list[str]) -> Any:
        return haystack_documents(texts)

    def rank(self, query: str, documents: Any) -> Any:
        return self.reranker.run(query=query, documents=documents)["documents"]

    def read(self, ranked: Any) -> Ranked:
        return [(int(each.id), each.score) for each in ranked]


class LlamaIndexColbertRerank(Side):
    """`ColbertRerank` of llama-index-postprocessor-colbert-rerank: the mean of the best cosines."""

    packages = ("llama-index-postprocessor-colbert-rerank", "llama-index-core", "transformers", "torch")

    def __init__(self, models: Path, threads: int) -> None:
        from llama_index.postprocessor.colbert_rerank import ColbertRerank

        folder = str(models / "colbert")
        self.reranker: Any = ColbertRerank(top_n=1_000_000, model=folder, tokenizer=folder)

    def prepare(self, texts: list[str]) -> Any:
        return nodes(texts)

    def rank(self, query: str, documents: Any) -> Any:
        return self.reranker.postprocess_nodes(documents, query_str=query)

    def read(self, ranked: Any) -> Ranked:
        return [(int(each.node.node_id), each.score) for each in ranked]

    def factor(self, query: str) -> float:
        return float(len(self.reranker._tokenizer(query)["input_ids"]))


class Rerankers(Side):
    """`rerankers.Reranker(..., model_type="colbert")`: divides by the tokens that are no [MASK], marker included."""

    packages: tuple[str, ...] = ("rerankers", "transformers", "torch")
    kind = "colbert"

    def __init__(self, models: Path, threads: int) -> None:
        from rerankers import Reranker

        self.reranker: Any = Reranker(str(models / "colbert"), model_type=self.kind, device="cpu", verbose=0)
        if self.reranker is None:
            raise ImportError("Reranker() gave None")

    def rank(self, query: str, documents: Any) -> Any:
        return self.reranker.rank(query=query, docs=documents)

    def read(self, ranked: Any) -> Ranked:
        return [(each.document.doc_id, each.score) for each in ranked.results]

    def factor(self, query: str) -> float:
        return float(len(self.reranker.tokenizer(query)["input_ids"]) + 1)


class RerankersPyLate(Rerankers):
    """`model_type="pylate"`: divides by the query's rows. Without `doc_ids` it raises TypeError."""

    packages = ("rerankers", "pylate", "transformers", "torch")
    kind = "pylate"

    def rank(self, query: str, documents: Any) -> Any:
        return self.reranker.rank(query=query, docs=documents, doc_ids=list(range(len(documents))))

    def factor(self, query: str) -> float:
        return float(len(self.reranker.model.encode([query], is_query=True)[0]))


class FastEmbed(Side):
    """`FastembedLateInteractionRanker` of fastembed-haystack, its registered colbertv2.0 given as a folder."""

    packages = ("fastembed-haystack", "fastembed", "onnxruntime", "haystack-ai")

    def __init__(self, models: Path, threads: int) -> None:
        from haystack_integrations.components.rankers.fastembed import FastembedLateInteractionRanker

        self.reranker: Any = FastembedLateInteractionRanker(
            "colbert-ir/colbertv2.0",
            top_k=1_000_000,
            threads=threads,
            local_files_only=True,
            model_kwargs={"specific_model_path": str(models / "colbert")},
        )
        self.reranker.warm_up()

    def prepare(self, texts: list[str]) -> Any:
        return haystack_documents(texts)

    def rank(self, query: str, documents: Any) -> Any:
        return self.reranker.run(query=query, documents=documents)["documents"]

    def read(self, ranked: Any) -> Ranked:
        return [(int(each.id), each.score) for each in ranked]


class FlashRank(Side):
    """FlashRank's cross-encoder, its model folder laid out in its `cache_dir` beforehand."""

    packages = ("flashrank", "onnxruntime")

    def __init__(self, models: Path, threads: int) -> None:
        from flashrank import Ranker

        (folder,) = (models / "cross-encoder").iterdir()
        self.reranker: Any = Ranker(model_name=folder.name, cache_dir=str(folder.parent))

    def prepare(self, texts: list[str]) -> Any:
        return [{"id": index, "text": text} for index, text in enumerate(texts)]

    def rank(self, query: str, documents: Any) -> Any:
        from flashrank import RerankRequest

        return self.reranker.rerank(RerankRequest(query=query, passages=documents))

    def read(self, ranked: Any) -> Ranked:
        return [(each["id"], float(each["score"])) for each in ranked]

    def factor(self, query: str) -> None:
        return None


class PyLate(Side):
    """PyLate's `rank.rerank`."""

    packages = ("pylate", "sentence-transformers", "transformers", "torch")

    def __init__(self, models: Path, threads: int) -> None:
        from pylate import models as pylate_models

        self.model: Any = pylate_models.ColBERT(str(models / "colbert"), device="cpu")

    def rank(self, query: str, documents: Any) -> Any:
        from pylate import rank

        rows = self.model.encode(documents, is_query=False)
        asked = self.model.encode([query], is_query=True)
        return rank.rerank([list(range(len(documents)))], queries_embeddings=asked, documents_embeddings=[rows])[0]

    def read(self, ranked: Any) -> Ranked:
        return [(each["id"], each["score"]) for each in ranked]

    def reference(self, queries: list[str], texts: list[str]) -> list[list[float]]:
        """MaxSim of each query and passage: PyLate's rows and its own scores, one passage at a time, so unpadded."""
        import torch
        from pylate import scores

        rows = [torch.as_tensor(each) for each in self.model.encode(texts, is_query=False)]
        asked = torch.stack([torch.as_tensor(each) for each in self.model.encode(queries, is_query=True)])
        columns = [scores.colbert_scores(asked, each[None])[:, 0] for each in rows]
        found: list[list[float]] = torch.stack(columns, dim=1).tolist()
        return found


def nodes(texts: list[str]) -> Any:
    """LlamaIndex's nodes, new ones, since a peer writes its scores into them."""
    from llama_index.core.schema import NodeWithScore, TextNode

    return [NodeWithScore(node=TextNode(text=text, id_=str(index))) for index, text in enumerate(texts)]


def haystack_documents(texts: list[str]) -> Any:
    """Haystack's documents."""
    from haystack import Document

    return [Document(id=str(index), content=text) for index, text in enumerate(texts)]


SIDES: dict[str, type[Side]] = {
    "chandelier": Chandelier,
    "chandelier-langchain": ChandelierLangChain,
    "chandelier-llama-index": ChandelierLlamaIndex,
    "chandelier-haystack": ChandelierHaystack,
    "colbert-rerank": LlamaIndexColbertRerank,
    "rerankers": Rerankers,
    "rerankers-newest": Rerankers,
    "rerankers-pylate": RerankersPyLate,
    "fastembed": FastEmbed,
    "flashrank": FlashRank,
    "pylate": PyLate,
}


def main() -> None:
    """Opens the side, ranks a first list, says hello, answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("models", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    texts = json.loads(args.texts.read_text(encoding="utf-8"))
    documents, queries = texts["documents"], texts["queries"]

    # What a side prints goes to the log; the protocol keeps standard output to itself.
    with contextlib.redirect_stdout(sys.stderr):
        start = time.perf_counter()
        try:
            side = SIDES[args.side](args.models, args.threads)
            load_s, start = time.perf_counter() - start, time.perf_counter()
            side.read(side.rank(queries[0], side.prepare(documents[:FIRST])))
        except Exception as error:  # whatever a peer raises is what its users see
            hello: dict[str, Any] = {"failed": f"{type(error).__name__}: {error}"}
        else:
            hello = {"load_s": load_s, "first_s": time.perf_counter() - start}
    hello["versions"] = {name: version(name) for name in SIDES[args.side].packages}

    def rank(_: str) -> dict[str, Any]:
        prepared = side.prepare(documents)
        with contextlib.redirect_stdout(sys.stderr):
            return timed(lambda: side.rank(queries[0], prepared))

    def scores(_: str) -> dict[str, Any]:
        with contextlib.redirect_stdout(sys.stderr):
            found = [side.read(side.rank(query, side.prepare(documents))) for query in queries]
            return {"ranked": found, "factors": [side.factor(query) for query in queries]}

    def reference(_: str) -> dict[str, Any]:
        assert isinstance(side, PyLate)
        with contextlib.redirect_stdout(sys.stderr):
            return {"maxsim": side.reference(queries, documents)}

    commands = {"rank": rank, "scores": scores, "reference": reference, "memory": lambda _: {"mb": peak_memory_mb()}}
    answer(hello, commands)


if __name__ == "__main__":
    main()
