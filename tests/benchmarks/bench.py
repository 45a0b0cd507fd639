"""chandelier beside ONNX Runtime, and beside candle's own padded BERT if its command is given, in one alternating run.

    python tests/benchmarks/bench.py [--threads 1 2] [--padded-baseline "COMMAND"]

Speed is only ever compared within one run: machines differ, and the same machine differs from minute to minute. Nothing
here passes or fails by a time. It fails if the build is a debug build or if the peer's rows are not chandelier's rows.

This process stays small and imports nothing but the standard library: it starts the workers and asks them in turn.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import corpus
from harness import BUILD, HERE, ROOT, Worker, checkpoint, cores, environment, machine, refuse_debug, spread

REQUIREMENTS = HERE / "peer-requirements.txt"
# Two correct float32 encoders differ by a few 1e-6; another GELU or a mask gone wrong shows at 1e-4 and above.
WORST_GAP = 1e-4


def prepare() -> tuple[Path, Path]:
    """Makes, once, the peers' environment and the checkpoint; returns the environment's Python and the checkpoint."""
    python = environment(BUILD / "venv", REQUIREMENTS)
    return python, checkpoint(python)


def fused_graph(python: Path, model: Path) -> tuple[Path, dict[str, Any]]:
    """Writes the peer's graph, and returns it with what was fused in it."""
    graph = BUILD / "encoder.onnx"
    command: list[str | Path] = [python, HERE / "peer_onnxruntime.py", "build", model, graph]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return graph, json.loads(made.stdout.splitlines()[-1])


def candle_baseline(command: str, model: Path, ids: Path, threads: int) -> dict[str, float]:
    """One round of candle-transformers' padded BERT: ``COMMAND MODEL_DIR IDS_FILE ROUNDS`` prints one JSON line."""
    env = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    whole = [*shlex.split(command), str(model), str(ids), "1"]
    made = subprocess.run(whole, check=True, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    found: dict[str, float] = json.loads(made.stdout.splitlines()[-1])
    return found


def measure(args: argparse.Namespace, threads: int, python: Path, model: Path, graph: Path) -> dict[str, Any]:
    """All figures for one number of threads: a list per figure and side, one entry a round."""
    ids, rows = BUILD / "ids.json", BUILD / "rows.npz"
    counts = ["--documents", str(args.documents), "--queries", str(args.queries), "--threads", str(threads)]
    ours: list[str | Path] = [sys.executable, HERE / "run_chandelier.py", model, *counts]
    peer: list[str | Path] = [python, HERE / "peer_onnxruntime.py", "serve", graph, ids, "--threads", str(threads)]
    sides = {"chandelier": ours, "onnxruntime": peer}
    found: dict[str, dict[str, list[float]]] = {"chandelier": {}, "onnxruntime": {}, "candle": {}}

    def note(side: str, figure: str, *values: float) -> None:
        found[side].setdefault(figure, []).extend(values)

    with Worker(ours, threads) as chandelier:
        refuse_debug(chandelier.hello["build"])
        tokens = chandelier.ask(f"ids {ids}")
        with Worker(peer, threads) as onnxruntime:
            onnxruntime.ask(f"rows {rows}")
            gaps = chandelier.ask(f"check {rows}")
            rows.unlink()
            if not all(gap["worst_gap"] <= WORST_GAP for gap in gaps.values()):
                raise SystemExit(f"the peer's rows are not chandelier's, so their times do not compare: {gaps}")
            workers = {"chandelier": chandelier, "onnxruntime": onnxruntime}
            for round_ in range(-1, args.rounds):  # the first round warms both up and is thrown away
                order = list(workers) if round_ % 2 else list(workers)[::-1]
                for kind, n in (("documents", args.documents), ("queries", args.queries)):
                    for side in order:
                        took = workers[side].ask(kind)
                        if round_ >= 0:
                            note(side, f"{kind}_per_s", n / took["wall_s"])
                            note(side, f"{kind}_cpu_s", took["cpu_s"])
                for side in order:
                    took = workers[side].ask("one_query")
                    if round_ >= 0:
                        note(side, "one_query_ms", statistics.median(took["ms"]))
                        note(side, "one_query_p95_ms", quantiles(took["ms"], 20)[-1])
                if round_ >= 0:
                    took = chandelier.ask("tokenize")
                    for kind, n in (("documents", args.documents), ("queries", args.queries)):
                        tokenize_s = took[kind]["wall_s"]
                        note("chandelier", f"{kind}_tokenize_per_s", n / tokenize_s)
                        rest_s = n / found["chandelier"][f"{kind}_per_s"][-1] - tokenize_s
                        if rest_s > 0:  # on a busy machine the two clocks can contradict each other
                            note("chandelier", f"{kind}_net_per_s", n / rest_s)
                if args.padded_baseline and 0 <= round_ < args.padded_rounds:
                    took = candle_baseline(args.padded_baseline, model, ids, threads)
                    for theirs, figure in (
                        ("docs_per_s", "documents_per_s"),
                        ("queries_per_s", "queries_per_s"),
                        ("one_query_ms", "one_query_ms"),
                    ):
                        note("candle", figure, took[theirs])
            hellos = {side: worker.hello for side, worker in workers.items()}

    for start in range(-1, args.rounds):  # the first start reads the files into the page cache and compiles bytecode
        for side, command in sides.items():
            with Worker(command, threads) as worker:
                worker.ask("documents")
                if start >= 0:
                    note(side, "import_s", worker.hello["import_s"])
                    note(side, "load_s", worker.hello["load_s"])
                    for figure in ("load_mb", "beyond_weights_mb"):
                        if figure in worker.hello:
                            note(side, figure, worker.hello[figure])
                    note(side, "peak_mb", worker.ask("memory")["mb"])
    return {"threads": threads, "tokens": tokens, "gaps": gaps, "hello": hellos, "found": found}


ROWS = (  # figure, its name in the table, whether more is better
    ("documents_per_s", "documents/s", True),
    ("documents_net_per_s", "  less tokenising *", True),
    ("queries_per_s", "queries/s, in batch", True),
    ("queries_net_per_s", "  less tokenising *", True),
    ("one_query_ms", "one query, median ms", False),
    ("one_query_p95_ms", "one query, p95 ms", False),
    ("documents_cpu_s", "CPU s, all documents", False),
    ("import_s", "import, s (without numpy's)", False),
    ("load_s", "load, s", False),
    ("load_mb", "memory taken by load, MB", False),
    ("beyond_weights_mb", "  beyond the weights' files", False),
    ("peak_mb", "peak memory, MB", False),
    ("documents_tokenize_per_s", "tokenising alone, docs/s", True),
)


def table(result: dict[str, Any]) -> str:
    """Medians with the range of the rounds, and how many times better chandelier is (below 1: worse)."""
    found = result["found"]
    sides = [side for side in ("chandelier", "onnxruntime", "candle") if found[side]]
    header = f"{'':28}" + "".join(f"{side:>26}" for side in sides) + "".join(f"{'vs ' + s:>16}" for s in sides[1:])
    lines = [header]
    for figure, name, more in ROWS:
        cells, ratios = [], []
        # The derived figure has no peer of its own name: the peers never tokenise.
        peer_figure = figure.replace("_net", "")
        medians: dict[str, float] = {}
        for side in sides:
            values = found[side].get(figure)
            cells.append(f"{spread(values) if values else '':>26}")
            compared = found[side].get(figure if side == "chandelier" else peer_figure)
            if compared:
                medians[side] = statistics.median(compared)
        for side in sides[1:]:
            known = side in medians and "chandelier" in medians
            better = (medians["chandelier"] / medians[side]) ** (1 if more else -1) if known else 0.0
            ratios.append(f"{f'{better:.2f}x' if known else '':>16}")
        lines.append(f"{name:28}" + "".join(cells) + "".join(ratios))
    return "\n".join(lines)


def quantiles(values: list[float] | list[int], n: int) -> list[float]:
    """The n - 1 cuts that part the values into n equal groups, never outside them."""
    return statistics.quantiles(values, n=n, method="inclusive")


def lengths(tokens: list[int]) -> str:
    """Mean and distribution of token counts."""
    cuts, longest = quantiles(tokens, 20), max(tokens)
    shares = ", ".join(f"p{p} {cuts[p // 5 - 1]:.0f}" for p in (10, 25, 50, 75, 90))
    ends = f"shortest {min(tokens)}, {shares}, longest {longest} (x{tokens.count(longest)})"
    return f"mean {statistics.mean(tokens):.1f}, {ends}"


def report(report_: dict[str, Any]) -> str:
    """Everything a reader needs to know what was measured, on what, and what came out."""
    box, first, texts = report_["machine"], report_["results"][0], report_["texts"]
    hello, tokens = first["hello"], first["tokens"]
    versions = ", ".join(f"{name} {version}" for side in hello.values() for name, version in side["versions"].items())
    build = ", ".join(f"{key}: {value}" for key, value in hello["chandelier"]["build"].items())
    gaps = ", ".join(f"{name} {gap['worst_gap']:.1e} over {gap['rows']} rows" for name, gap in first["gaps"].items())
    load = " ".join(f"{x:.2f}" for x in box["load"])
    lines = [
        f"machine    {box['cpu']}, {box['cores']} cores, {' '.join(box['flags'])}; {box['system']}",
        f"           load before the run: {load}",
        f"versions   Python {platform.python_version()}, {versions} (numpy named once a process)",
        f"build      {build or 'chandelier.build_info() does not exist'}",
        f"peer       onnxruntime, float32; fused: {counts(report_['graph']['fused'])}",
        f"           all operators that run: {counts(report_['graph']['operators'])}",
        f"documents  {len(tokens['documents'])}; tokens: {lengths(tokens['documents'])}; texts {texts['documents']}",
        f"queries    {len(tokens['queries'])}; rows: mean {statistics.mean(tokens['queries']):.1f}, attended to: "
        f"{lengths(tokens['attended'])}; texts {texts['queries']}",
        f"same work  worst difference between the peer's rows and chandelier's: {gaps}",
    ]
    for result in report_["results"]:
        title = f"{result['threads']} thread(s), float32, {report_['rounds']} alternating rounds"
        lines += ["", f"{title}: median (lowest-highest)", table(result)]
    lines += [
        "",
        "* chandelier's own figures include tokenising, the peers' never do. This line subtracts the time of",
        "  tokenize_* alone, which also makes Python objects that encoding does not: read it as an upper bound.",
    ]
    return "\n".join(lines)


def counts(of: dict[str, int]) -> str:
    """Operators and how often each occurs."""
    return ", ".join(f"{n} {name}" for name, n in of.items())


def main() -> None:
    """Prepares what is missing, measures each number of threads, prints the report and keeps every round in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[cores()], help="default: every core")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--documents", type=int, default=600, help="default: 600")
    parser.add_argument("--queries", type=int, default=200, help="default: 200")
    parser.add_argument("--padded-baseline", metavar="COMMAND", help="see the README beside this file")
    parser.add_argument("--padded-rounds", type=int, default=3, help="rounds that also run it; default: 3")
    args = parser.parse_args()

    box = machine()
    python, model = prepare()
    graph, fused = fused_graph(python, model)
    texts = {
        "documents": corpus.digest(corpus.documents(args.documents)),
        "queries": corpus.digest(corpus.queries(args.queries)),
    }
    results = [measure(args, threads, python, model, graph) for threads in args.threads]
    whole = {"machine": box, "graph": fused, "texts": texts, "rounds": args.rounds, "results": results}
    (BUILD / "result.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(report(whole))
    if not args.padded_baseline:
        print("\ncandle's padded BERT was not measured: give its command with --padded-baseline (see the README)")


if __name__ == "__main__":
    main()
