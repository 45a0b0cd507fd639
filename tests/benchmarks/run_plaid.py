"""A side of bench_plaid.py, which starts it: a store or an index, built, opened at several settings, and searched.

It says what it is, then answers:

- ``build``: stores all documents, whose rows are given, and indexes them; seconds of each step, bytes on disk
- ``ask [SETTING, FIRST, COUNT]``: searches for so many queries, one at a time; milliseconds of each, and the CPU's
- ``judge SETTING``: recall of what was found for all queries, and how far off MaxSim a score is, a row of the query
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from plaid_cases import CANDIDATES, MUVERA, NAMES, PLAID, TOP, TRUE_SCORES, Setting
from worker import answer, timed

import chandelier
from chandelier import ColBERT, Document, LocalStore, MultiVectors, Muvera

PACKAGES = {"edge": ("qdrant_edge", "qdrant-edge-py"), "fast-plaid": ("fast_plaid", "fast-plaid")}
Found: TypeAlias = list[tuple[int, float]]
"""Numbers of documents and their scores, best first."""

Took: TypeAlias = dict[str, float]
Matrix: TypeAlias = np.ndarray[Any, Any]


class Engine(Protocol):
    """What is measured."""

    def build(self, documents: list[Matrix]) -> dict[str, Took]:
        """The time of each step. Raises SystemExit if it does not hold what it was given."""

    def find(self, setting: Setting, query: Any) -> Found:
        """The best."""

    def ready(self, query: Matrix) -> Any:
        """A query, as it likes it best."""

    def close(self) -> None:
        """Gives everything back."""


class Stored:
    """A store of chandelier's. One is open for each setting, over the same folder; Qdrant Edge allows one, for all."""

    def __init__(self, side: str, folder: Path, model: ColBERT) -> None:
        self.side, self.folder, self.model = side, folder, model
        self.open: dict[str, Any] = {}

    def build(self, documents: list[Matrix]) -> dict[str, Took]:
        listed = (Document(f"{number}", f"document {number}", {}, rows) for number, rows in enumerate(documents))
        with self._store({}) as store:
            took = {"store": timed(partial(store.upsert, listed, raise_on_failure=True))}
            if self.side != "local":
                took["index"] = timed(store.optimize)
            numbers = range(0, len(documents), max(1, len(documents) // 10))
            kept = store.get([f"{number}" for number in numbers], with_vectors=True)
            same = (np.array_equal(each.vectors, documents[int(each.id)]) for each in kept)
            if store.count() != len(documents) or len(kept) != len(numbers) or not all(same):
                raise SystemExit(f"{NAMES[self.side]}: does not hold what was stored, so its time says nothing")
            if self.side in PLAID and not store.segments:
                raise SystemExit(f"{NAMES[self.side]}: built no index, so its time says nothing")
        return took

    def find(self, setting: Setting, query: Any) -> Found:
        options = {"depth": setting["depth"]} if self.side == "edge" else {}
        key = json.dumps(setting if self.side in PLAID else {})
        if key not in self.open:
            self.open[key] = self._store(setting)
        return [(int(hit.id), hit.score) for hit in self.open[key].search(query, TOP, **options)]

    def ready(self, query: Matrix) -> Matrix:
        return query

    def close(self) -> None:
        for store in self.open.values():
            store.close()

    def _store(self, setting: Setting) -> Any:
        if self.side == "local":
            return LocalStore(self.model, self.folder / "store", datatype="float16")
        if self.side == "edge":
            from chandelier.qdrant_edge import QdrantEdgeStore

            return QdrantEdgeStore(self.folder, self.model, prefetch=Muvera(self.model.dim, **MUVERA))
        from chandelier.plaid import PlaidStore

        nbits = int(self.side.removeprefix("plaid"))
        return PlaidStore(self.folder, self.model, nbits=nbits, depth=CANDIDATES, **setting)


class FastPlaid:
    """fast-plaid, on the CPU as everybody here."""

    def __init__(self, folder: Path) -> None:
        from fast_plaid import search

        self.folder = folder
        self.index = search.FastPlaid(index=str(folder), device="cpu")

    def build(self, documents: list[Matrix]) -> dict[str, Took]:
        import torch

        tensors = [torch.from_numpy(rows) for rows in documents]
        took = timed(partial(self.index.create, documents_embeddings=tensors, nbits=4))
        held = json.loads((self.folder / "metadata.json").read_text(encoding="utf-8"))["num_documents"]
        if held != len(documents):
            raise SystemExit(f"fast-plaid: holds {held} documents of {len(documents)}, so its time says nothing")
        return {"index": took}

    def find(self, setting: Setting, query: Any) -> Found:
        return list(self.index.search(query, top_k=CANDIDATES, show_progress=False, **setting)[0][:TOP])

    def ready(self, query: Matrix) -> Any:
        import torch

        return torch.from_numpy(query.copy())[None]

    def close(self) -> None:
        self.index.close()


class Side:
    """An engine, and what it is asked."""

    def __init__(self, side: str, engine: Engine, folder: Path, listed: Path) -> None:
        self.side, self.engine, self.folder = side, engine, folder
        self.files, self.facts = listed.parent, json.loads(listed.read_text(encoding="utf-8"))
        self.rows = list(MultiVectors.load(self.files / self.facts["queries"]))
        self.queries = [engine.ready(rows) for rows in self.rows]
        self.found: dict[str, dict[int, Found]] = {}

    def build(self, _: str) -> dict[str, Any]:
        """Everything, from rows that are mapped."""
        took = self.engine.build(list(self._documents()))
        self.engine.close()  # what is written on closing is on the disk, too
        return {"took": took, "bytes": used(self.folder), "index_bytes": self._index_bytes()}

    def ask(self, argument: str) -> dict[str, Any]:
        """Each query in a call of its own."""
        setting, first, count = json.loads(argument)
        found = self.found.setdefault(json.dumps(setting), {})
        milliseconds, cpu = [], time.process_time()
        for number in range(first, min(first + count, len(self.queries))):
            begun = time.perf_counter()
            found[number] = self.engine.find(setting, self.queries[number])
            milliseconds.append((time.perf_counter() - begun) * 1e3)
        return {"ms": milliseconds, "cpu_ms": (time.process_time() - cpu) * 1e3}

    def judge(self, argument: str) -> dict[str, Any]:
        """Holds what was found against MaxSim of all documents."""
        found = self.found[json.dumps(json.loads(argument))]
        scores = np.concatenate([np.load(self.files / part["scores"]) for part in self.facts["portions"]], axis=1)
        if sorted(found) != list(range(len(scores))):
            raise SystemExit(f"{NAMES[self.side]}: was asked {len(found)} queries of {len(scores)}")
        shares, gap = [], 0.0
        for number, hits in found.items():
            best = np.argpartition(-scores[number], TOP)[:TOP]
            shares.append(len({document for document, _ in hits} & set(best.tolist())) / TOP)
            if self.side in TRUE_SCORES:
                off = max(abs(score - float(scores[number, document])) for document, score in hits)
                gap = max(gap, off / len(self.rows[number]))
        return {"recall": sum(shares) / len(shares), "gap": gap}

    def _documents(self) -> Iterator[Matrix]:
        for part in self.facts["portions"]:
            yield from MultiVectors.load(self.files / part["rows"], mmap=True)

    def _index_bytes(self) -> int | None:
        """Without the documents, where these are apart."""
        if self.side in PLAID:
            return used(self.folder / "segments")
        return used(self.folder) if self.side == "fast-plaid" else None


def used(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=NAMES)
    parser.add_argument("model", type=Path)
    parser.add_argument("listed", type=Path, help="what plaid_rows.py wrote")
    parser.add_argument("folder", type=Path, help="of the store")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    hello: dict[str, Any] = {"name": NAMES[args.side], "build": chandelier.build_info(), "pid": os.getpid()}
    versions = {"chandelier": chandelier.__version__, "numpy": np.__version__}
    if args.side in PACKAGES:
        module, package = PACKAGES[args.side]
        if importlib.util.find_spec(module) is None:
            answer({**hello, "absent": f"{package} is not installed"}, {})
            return
        versions[package] = importlib.metadata.version(package)
    engine: Engine
    if args.side == "fast-plaid":
        engine = FastPlaid(args.folder)
        versions["torch"] = importlib.metadata.version("torch")
    else:
        engine = Stored(args.side, args.folder, ColBERT(args.model, threads=args.threads))
    side = Side(args.side, engine, args.folder, args.listed)
    answer({**hello, "versions": versions}, {"build": side.build, "ask": side.ask, "judge": side.judge})
    engine.close()


if __name__ == "__main__":
    main()
