"""A side of bench_stores.py, which starts it: one store, filled, searched, and indexed from texts.

It says what it is, then answers each with one line of JSON:

- ``fill N``: stores N documents whose rows are given; wall and CPU seconds
- ``check [N, filtered]``: the worst difference of a score from the float64 reference, for each row of the query
- ``search [N, filtered, seconds]``: searches again and again; wall and CPU seconds of a call
- ``drop N``: deletes the store again
- ``index``: encodes texts, stores the same texts, and stores them with their rows given, each in a new store
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import corpus
import numpy as np
from stores_cases import FILTER, QUICK, TOP, Data, Sizes, metadata, passes
from worker import answer, timed

import chandelier
from chandelier import ColBERT, Document, LocalStore, Muvera

sys.path.append(str(Path(__file__).resolve().parents[1]))
from weaviate_server import weaviate_program

PACKAGES = {
    "edge": "qdrant-edge-py",
    "local": "qdrant-client",
    "rest": "qdrant-client",
    "grpc": "qdrant-client",
    "weaviate": "weaviate-client",
    "weaviate-muvera": "weaviate-client",
}
NAMES = {
    "float32": "LocalStore",
    "float16": "LocalStore, float16",
    "edge": "Qdrant Edge",
    "local": "Qdrant local mode",
    "rest": "QdrantStore, REST",
    "grpc": "QdrantStore, gRPC",
    "weaviate": "WeaviateStore, all rows",
    "weaviate-muvera": "WeaviateStore, MUVERA",
}
FLOAT32 = ("float32", "local", "weaviate", "weaviate-muvera")


@contextmanager
def new_store(side: str, model: ColBERT, server: dict[str, Any], with_prefetch: bool) -> Iterator[Any]:
    """A store with nothing in it, deleted in the end."""
    options: dict[str, Any] = {"payload_indexes": {"group": "integer"}}
    if with_prefetch:
        options["prefetch"] = Muvera(model.dim, ksim=3)
    with TemporaryDirectory(prefix="bench-stores-") as folder:
        if side in ("float32", "float16"):
            with LocalStore(model, Path(folder, "store"), datatype=side) as store:
                yield store
        elif side == "edge":
            from chandelier.qdrant_edge import QdrantEdgeStore

            with QdrantEdgeStore(Path(folder, "store"), model, **options) as store:
                yield store
        elif side.startswith("weaviate"):
            from weaviate_server import WeaviateServer

            from chandelier.weaviate import WeaviateStore

            with WeaviateServer() as started, started.connect() as client:
                yield WeaviateStore(client, "Bench", model, muvera=side == "weaviate-muvera")
        else:
            from qdrant_client import QdrantClient

            from chandelier.qdrant import QdrantStore

            client = QdrantClient(":memory:")
            if side != "local":
                client = QdrantClient(**server, prefer_grpc=side == "grpc", timeout=120, check_compatibility=False)
            name = f"bench-{uuid.uuid4().hex}"
            try:
                yield QdrantStore(client, name, model, **options)
            finally:
                client.delete_collection(name)
                client.close()


class Side:
    """The store of a side, in several sizes at once."""

    def __init__(self, side: str, model: ColBERT, sizes: Sizes, references: Path, server: dict[str, Any]) -> None:
        self.side, self.model, self.data, self.server = side, model, Data(sizes, model.dim), server
        self.references = references
        self.stores: dict[int, tuple[Any, ExitStack]] = {}
        self.queries = self.data.queries()

    def fill(self, argument: str) -> dict[str, Any]:
        """Stores documents whose rows are there; making those is not timed, but for the reading of a generator."""
        count = int(argument)
        documents = [Document(f"{n}", f"text {n}", metadata(n), rows) for n, rows in self.data.documents(count)]
        closing = ExitStack()
        store = closing.enter_context(new_store(self.side, self.model, self.server, with_prefetch=False))
        self.stores[count] = (store, closing)
        took = timed(partial(store.upsert, documents, raise_on_failure=True))
        if hasattr(store, "wait_until_indexed"):
            store.wait_until_indexed()
        return took

    def drop(self, argument: str) -> dict[str, Any]:
        """Deletes the store."""
        self.stores.pop(int(argument))[1].close()
        return {}

    def check(self, argument: str) -> dict[str, Any]:
        """Holds ids and scores against the reference; a document that is missing shows as a difference too."""
        count, filtered = json.loads(argument)
        kept = np.array([not filtered or passes(number) for number in range(count)])
        with np.load(self.references) as file:
            references = np.where(kept, file["scores"][:, :count], -np.inf)
        gap = 0.0
        for query, reference in zip(self.queries, references, strict=True):
            hits = self.hits(count, filtered, query)
            wanted = np.sort(reference[kept])[::-1][:TOP]
            if len(hits) != len(wanted):
                return {"gap": float("inf")}
            own = reference[[int(hit.id) for hit in hits]]
            scores = np.array([hit.score for hit in hits])
            gap = max(gap, np.abs(scores - own).max(), np.abs(np.sort(own)[::-1] - wanted).max())
        return {"gap": float(gap) / len(self.queries[0])}

    def search(self, argument: str) -> dict[str, Any]:
        """The median call of as many as fit into so many seconds."""
        count, filtered, seconds = json.loads(argument)
        walls, cpus, begun = [], [], time.perf_counter()
        for query in cycle(self.queries):
            took = timed(partial(self.hits, count, filtered, query))
            walls.append(took["wall_s"])
            cpus.append(took["cpu_s"])
            if time.perf_counter() - begun >= seconds:
                return {"wall_s": median(walls), "cpu_s": median(cpus)}
        raise AssertionError("there are queries")

    def hits(self, count: int, filtered: bool, query: Any) -> Any:
        """A search as a user makes it."""
        return self.stores[count][0].search(query, TOP, filter=FILTER if filtered else None)

    def index(self, _: str) -> dict[str, Any]:
        """Encoding alone, and what storing adds to it."""
        texts = corpus.documents(self.data.sizes.texts)
        encoded: list[Any] = []
        found: dict[str, Any] = {"encode": timed(lambda: encoded.append(self.model.encode_documents(texts)))}
        rows = encoded[0]
        for kind, vectors in (("upsert", [None] * len(texts)), ("rows", list(rows))):
            documents = [Document(f"{n}", text, {}, vectors[n]) for n, text in enumerate(texts)]
            with new_store(self.side, self.model, self.server, with_prefetch=True) as store:
                found[kind] = timed(partial(store.upsert, documents, raise_on_failure=True))
                if store.count() != len(texts) or not _holds(store, rows):
                    raise SystemExit(f"{self.side}: does not hold what was stored, so its time says nothing")
        return found


def _holds(store: Any, rows: Any) -> bool:
    """Whether the vectors of some documents are there, in the store's precision."""
    numbers = range(0, len(rows), max(1, len(rows) // 10))
    found = store.get([f"{number}" for number in numbers], with_vectors=True)
    return all(
        np.array_equal(np.asarray(each.vectors, np.float16), rows[number].astype(np.float16))
        for each, number in zip(found, numbers, strict=True)
    )


def main() -> None:
    """Opens the model and answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=NAMES)
    parser.add_argument("model", type=Path)
    parser.add_argument("references", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--url", help="of the server, for the sides that have one")
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    package = PACKAGES.get(args.side)
    hello: dict[str, Any] = {"name": NAMES[args.side]}
    try:
        versions = {} if package is None else {package: importlib.metadata.version(package)}
    except importlib.metadata.PackageNotFoundError:
        answer({**hello, "absent": f"{package} is not installed"}, {})
        return
    if package == "weaviate-client" and weaviate_program() is None:
        answer({**hello, "absent": "no Weaviate is built: make weaviate"}, {})
        return
    model = ColBERT(args.model, threads=args.threads)
    server = {"url": args.url, "grpc_port": args.grpc_port, "api_key": os.environ.get("QDRANT_API_KEY")}
    side = Side(args.side, model, QUICK if args.quick else Sizes(), args.references, server)
    versions = {"chandelier": chandelier.__version__, "numpy": np.__version__, **versions}
    datatype = "float32" if args.side in FLOAT32 else "float16"
    hello |= {"versions": versions, "build": chandelier.build_info(), "datatype": datatype}
    commands = {name: getattr(side, name) for name in ("fill", "drop", "check", "search", "index")}
    answer(hello, commands)


if __name__ == "__main__":
    main()
