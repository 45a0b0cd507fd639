"""A side of bench_stores.py, which starts it: a store that finds candidates, and what that costs and loses.

It says what it is, then answers:

- ``fill``: stores the passages, whose rows are given; wall and CPU seconds, of a server too
- ``recall DEPTH``: the share of the exact best that is found, over all questions
- ``search [DEPTH, seconds]``: searches again and again; wall and CPU seconds of a call
- ``memory``: MB that the process which holds the index has grown by
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from stores_cases import DEPTHS, TOP
from worker import answer, resident_memory_mb, timed

import chandelier
from chandelier import ColBERT, Document, LocalStore, MeanVector, MultiVectors, Muvera

sys.path.append(str(Path(__file__).resolve().parents[1]))
from weaviate_server import WeaviateServer, weaviate_program

NAMES = {
    "exact": "LocalStore, all documents",
    "edge-mean": "Qdrant Edge, MeanVector",
    "edge-muvera": "Qdrant Edge, Muvera, 2,560",
    "weaviate": "Weaviate, index of all rows",
    "weaviate-muvera": "Weaviate, MUVERA, 2,560",
    "weaviate-muvera-large": "Weaviate, MUVERA, 10,240",
}
MUVERA: dict[str, Any] = {
    "weaviate": None,
    "weaviate-muvera": True,
    "weaviate-muvera-large": {"ksim": 5, "dprojections": 16, "repetitions": 20},
}


@contextmanager
def opened(side: str, model: ColBERT) -> Iterator[tuple[Any, WeaviateServer | None]]:
    """A store with nothing in it, and the server that it talks to."""
    if side in MUVERA:
        from chandelier.weaviate import WeaviateStore

        with WeaviateServer() as server, server.connect() as client:
            # ef becomes the least depth, since MUVERA does not go below
            yield WeaviateStore(client, "Bench", model, muvera=MUVERA[side], depth=min(DEPTHS)), server
        return
    with TemporaryDirectory(prefix="bench-candidates-") as folder:
        path = Path(folder, "store")
        if side == "exact":
            with LocalStore(model, path) as local:
                yield local, None
        else:
            from chandelier.qdrant_edge import QdrantEdgeStore

            prefetch = MeanVector(model.dim) if side == "edge-mean" else Muvera(model.dim, ksim=3)
            with QdrantEdgeStore(path, model, prefetch=prefetch) as edge:
                yield edge, None


def absent(side: str) -> str | None:
    """Why a side cannot be measured here."""
    if side in MUVERA:
        if importlib.util.find_spec("weaviate") is None:
            return "weaviate-client is not installed"
        return "no Weaviate is built: make weaviate" if weaviate_program() is None else None
    if side.startswith("edge") and importlib.util.find_spec("qdrant_edge") is None:
        return "qdrant-edge-py is not installed"
    return None


class Side:
    """One store over the passages of `stores_passages.py`."""

    def __init__(self, side: str, store: Any, server: WeaviateServer | None, folder: Path) -> None:
        self.side, self.store, self.server = side, store, server
        passages = json.loads((folder / "passages.json").read_text(encoding="utf-8"))
        rows = MultiVectors.load(folder / "documents.safetensors")
        texts = enumerate(passages["texts"])
        self.documents = [Document(f"{number}", text, {"number": number}, rows[number]) for number, text in texts]
        self.queries = list(MultiVectors.load(folder / "queries.safetensors"))
        self.best = [set(best) for best in passages["best"]]
        self.before = self._megabytes()

    def fill(self, _: str) -> dict[str, Any]:
        """Stores all passages."""
        took = self._timed(partial(self.store.upsert, self.documents, raise_on_failure=True))
        if self.store.count() != len(self.documents):
            raise SystemExit(f"{self.side}: does not hold what was stored, so its time says nothing")
        if hasattr(self.store, "wait_until_indexed"):
            self.store.wait_until_indexed()
        return {**took, "documents": len(self.documents), "questions": len(self.queries)}

    def recall(self, argument: str) -> dict[str, Any]:
        """The share of the exact best, over all questions."""
        found = [{hit.id for hit in self._hits(rows, int(argument))} for rows in self.queries]
        shares = [len(ids & best) / len(best) for ids, best in zip(found, self.best, strict=True)]
        return {"recall": sum(shares) / len(shares)}

    def search(self, argument: str) -> dict[str, Any]:
        """The median time of as many calls as fit into so many seconds, and the mean of their processor time."""
        depth, seconds = json.loads(argument)
        walls, cpu, begun = [], 0.0, time.perf_counter()
        for rows in cycle(self.queries):
            took = self._timed(partial(self._hits, rows, depth))
            walls.append(took["wall_s"])
            cpu += took["cpu_s"]
            # a server counts its time in hundredths of a second, so a mean over many calls is what it can tell
            if time.perf_counter() - begun >= seconds:
                return {"wall_s": median(walls), "cpu_s": cpu / len(walls)}
        raise AssertionError("there are queries")

    def memory(self, _: str) -> dict[str, Any]:
        """What the index takes."""
        return {"mb": self._megabytes() - self.before}

    def _hits(self, rows: Any, depth: int) -> Any:
        return self.store.search(rows, TOP, depth=depth)

    def _timed(self, work: Callable[[], object]) -> dict[str, float]:
        """With the server's processor time, which runs on the same cores."""
        before = self._server_seconds()
        took = timed(work)
        return {**took, "cpu_s": took["cpu_s"] + self._server_seconds() - before}

    def _server_seconds(self) -> float:
        if self.server is None:
            return 0.0
        user, system = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _megabytes(self) -> float:
        return resident_memory_mb() if self.server is None else self.server.memory() / 2**20


def main() -> None:
    """Opens the store and answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=NAMES)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--quick", action="store_true", help="nothing: the folder says how much there is")
    args = parser.parse_args()
    if reason := absent(args.side):
        answer({"name": NAMES[args.side], "absent": reason}, {})
        return
    model = ColBERT(args.model, threads=args.threads)
    with opened(args.side, model) as (store, server):
        side = Side(args.side, store, server, args.folder)
        versions = {"chandelier": chandelier.__version__}
        if server is not None:
            versions["weaviate-client"] = importlib.metadata.version("weaviate-client")
            versions["Weaviate"] = store._client.get_meta()["version"]
        elif args.side != "exact":
            versions["qdrant-edge-py"] = importlib.metadata.version("qdrant-edge-py")
        hello = {"name": NAMES[args.side], "versions": versions, "build": chandelier.build_info()}
        answer(hello, {name: getattr(side, name) for name in ("fill", "recall", "search", "memory")})


if __name__ == "__main__":
    main()
