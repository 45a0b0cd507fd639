"""Rerankers as frameworks use them, chandelier beside its peers: install, cold start, speed, right or wrong scores.

    python tests/benchmarks/bench_hosts.py [--quick] [--only fastembed ...] [--wheel PATH]

Every side has an environment of its own and opens the same ColBERT from a folder; nothing of a peer is replaced. A side
that cannot be set up or opened is left out of the figures, with the reason. Nothing here passes or fails by a time; it
fails if a score of chandelier's is not the reference's.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import corpus
from harness import BUILD, HERE, ROOT, Worker, cores, environment, machine, spread, three
from hosts_environments import Environments

FOLDER = BUILD / "hosts"
SAME = 1e-3  # of a sum over 32 rows: two float32 encoders differ by 1e-5, the smallest mistake seen here by 0.1
OFFLINE = {
    "HF_HUB_OFFLINE": "1",  # no side waits for a hub that it does not need
    "HAYSTACK_TELEMETRY_ENABLED": "False",
}


@dataclass(frozen=True)
class Row:
    """A reranker: its side in hosts_worker.py, its name in the table, and what a user gives to pip."""

    side: str
    name: str
    install: tuple[str, ...]


ROWS = (
    Row("chandelier", "chandelier.rerank", ("chandelier",)),
    Row("chandelier-langchain", "chandelier.langchain", ("chandelier[langchain]",)),
    Row("chandelier-llama-index", "chandelier.llama_index", ("chandelier[llama-index]",)),
    Row("colbert-rerank", "LlamaIndex ColbertRerank", ("llama-index-postprocessor-colbert-rerank==0.6.0",)),
    Row("chandelier-haystack", "chandelier.haystack", ("chandelier[haystack]",)),
    Row("fastembed", "FastembedLateInteractionRanker (Haystack)", ("fastembed-haystack==3.0.0",)),
    Row("rerankers", "rerankers ColBERT, transformers 4", ("rerankers[transformers]==0.10.0", "transformers<5")),
    Row("rerankers-newest", "rerankers ColBERT, transformers 5", ("rerankers[transformers]==0.10.0",)),
    Row("rerankers-pylate", "rerankers PyLateRanker", ("rerankers[pylate]==0.10.0",)),
    Row("flashrank", "FlashRank (cross-encoder)", ("flashrank==0.2.10",)),
    Row("pylate", "PyLate rank.rerank", ("pylate==1.6.0",)),
)


def models() -> Path:
    """Writes, once, what the rerankers open."""
    out, script = FOLDER / "models", HERE / "hosts_models.py"
    stamp, wanted = FOLDER / "models.txt", script.read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        python = environment(BUILD / "venv", HERE / "peer-requirements.txt")
        subprocess.run([python, script, out], check=True, stdout=sys.stderr)
        stamp.write_text(wanted, encoding="utf-8")
    return out


def sizes(environments: Environments, row: Row) -> dict[str, Any]:
    """What a side's install downloads and leaves on the disk, and the commands that say so."""
    script: list[str | Path] = [sys.executable, HERE / "hosts_sizes.py"]
    wanted = row.install
    if row.side.startswith("chandelier"):
        wanted = (environments.from_wheel(row.side.partition("-")[2]),)
    sites = environments.sites(row.side)
    commands: dict[str, list[str | Path]] = {
        "download": [*script, "download", environments.uv, environments.of(row.side), *wanted],
        "disk": [*script, "disk", *row.install, "--site", *sites],
    }
    found = {}
    for figure, command in commands.items():
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        found[figure] = json.loads(made.stdout)
    return found


def start(environments: Environments, row: Row, args: argparse.Namespace) -> tuple[Worker, float]:
    """A worker that has ranked its first list, and the seconds since its process was started."""
    python = environments.of(row.side)
    script: list[str | Path] = [python, HERE / "hosts_worker.py", row.side, FOLDER / "models", FOLDER / "texts.json"]
    begun = time.perf_counter()
    worker = Worker([*script, "--threads", str(args.threads)], args.threads, errors=FOLDER / f"{row.side}.log")
    return worker, time.perf_counter() - begun


def measure(environments: Environments, rows: Sequence[Row], args: argparse.Namespace) -> dict[str, Any]:
    """All sides in turn, a fresh process each time; the first round is thrown away, and is where scores are read."""
    found: dict[str, dict[str, Any]] = {row.side: {"figures": {}} for row in rows}
    for round_ in range(-1, args.rounds):
        for row in rows if round_ % 2 else rows[::-1]:
            side = found[row.side]
            if "failed" in side:
                continue
            try:
                worker, cold_s = start(environments, row, args)
            except SystemExit as error:
                side["failed"] = f"{error}; see {row.side}.log"
                continue
            with worker:
                side["versions"] = worker.hello["versions"]
                if "failed" in worker.hello:
                    side["failed"] = worker.hello["failed"]
                    continue
                if round_ < 0:
                    side["scores"] = worker.ask("scores")
                    if row.side == "pylate":
                        side["reference"] = worker.ask("reference")["maxsim"]
                    continue
                worker.ask("rank")  # a first call over all of them grows what it needs
                took = worker.ask("rank")
                figures = {
                    "cold_s": cold_s,
                    "documents_per_s": args.documents / took["wall_s"],
                    "cpu_ms": 1e3 * took["cpu_s"] / args.documents,
                    "peak_mb": worker.ask("memory")["mb"],
                }
                for figure, value in figures.items():
                    side["figures"].setdefault(figure, []).append(value)
        print(f"bench: round {round_ + 2} of {args.rounds + 1}", file=sys.stderr)
    return found


def judged(side: str, scores: dict[str, Any], reference: list[list[float]]) -> dict[str, Any]:
    """How far scores are from the reference, which share of pairs is in another order, how many of the best 10 are."""
    gaps, turned, pairs, best = [], 0, 0, []
    for ranked, factor, truth in zip(scores["ranked"], scores["factors"], reference, strict=True):
        if sorted(index for index, _ in ranked) != list(range(len(truth))):
            raise SystemExit(f"{side}: of {len(truth)} passages it gave {sorted(index for index, _ in ranked)}")
        if factor is not None:
            gaps.append(max(abs(score * factor - truth[index]) for index, score in ranked))
        order = [index for index, _ in ranked]
        for place, one in enumerate(order):
            for other in order[place + 1 :]:
                if abs(truth[one] - truth[other]) > SAME:  # closer ones may fall either way
                    pairs += 1
                    turned += truth[one] < truth[other]
        wanted = sorted(range(len(truth)), key=lambda index: -truth[index])[:10]
        best.append(len(set(wanted) & set(order[:10])))
    return {"gap": max(gaps, default=None), "turned": turned / pairs, "best": statistics.mean(best)}


def is_right(side: dict[str, Any]) -> bool:
    """Whether a side ran, and gave the reference's scores if there is one."""
    verdict = side.get("judged", {"gap": 0.0, "turned": 0.0})
    return "failed" not in side and verdict["gap"] <= SAME and verdict["turned"] == 0


HEADER = (
    "reranker",
    "download, MB (packages)",
    "on disk, MB",
    "cold start, s",
    "passages/s",
    "CPU ms a passage",
    "peak memory, MB",
    "scores off by",
    "pairs in the wrong order",
    "of the best 10",
)


def cells(row: Row, side: dict[str, Any]) -> list[str]:
    """A line of the table."""
    size = side.get("sizes")
    megabytes = ["", ""]
    if size:
        download, disk = size["download"], size["disk"]
        megabytes = [f"{three(download['bytes'] / 1e6)} ({download['packages']})", three(disk["bytes"] / 1e6)]
    if "failed" in side:
        return [row.name, *megabytes, "does not run: see below", *[""] * (len(HEADER) - 4)]
    taken = [side["figures"][name] for name in ("cold_s", "documents_per_s", "cpu_ms", "peak_mb")]
    figures = [spread(values) if len(values) > 1 else three(values[0]) for values in taken]
    verdict = side.get("judged")
    if verdict is None or verdict["gap"] is None:
        return [row.name, *megabytes, *figures, "another model" if verdict else "no reference", "", ""]
    scores = [f"{verdict['gap']:.1g}", f"{100 * verdict['turned']:.2g} %", f"{verdict['best']:.1f}"]
    return [row.name, *megabytes, *figures, *scores]


def report(whole: dict[str, Any], rows: Sequence[Row]) -> str:
    """The table in Markdown, what it was taken on, and what was left out."""
    box, sides = whole["machine"], whole["sides"]
    lines = [
        f"{whole['date']}; {box['cpu']}, {box['cores']} cores, {box['system']}; load before the run: "
        f"{' '.join(f'{x:.2f}' for x in box['load'])}",
        f"Python {platform.python_version()}, {whole['threads']} threads, float32; {whole['documents']} passages "
        f"({whole['digest']}), {whole['queries']} queries; median (lowest-highest), rounds {whole['rounds']}",
        "",
        "| " + " | ".join(HEADER) + " |",
        "| --- |" + " ---: |" * (len(HEADER) - 1),
    ]
    lines += ["| " + " | ".join(cells(row, sides[row.side])) + " |" for row in rows if row.side in sides]
    lines += [""]
    for row in rows:
        side = sides.get(row.side, {})
        if "failed" in side:
            lines.append(f"{row.name}: {side['failed']}")
    lines += [f"{name}: left out, {reason}" for name, reason in whole["absent"].items()]
    lines += ["versions:"]
    for row in rows:
        versions = sides.get(row.side, {}).get("versions", {})
        lines.append(f"  {row.side}: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    return "\n".join(lines)


def newest_wheel() -> Path:
    """chandelier's wheel that was built last."""
    wheels = [*(FOLDER / "wheel").glob("chandelier-*.whl"), *(ROOT / "dist").glob("chandelier-*.whl")]
    if not wheels:
        raise SystemExit("no wheel of chandelier: `make bench-hosts` builds one, or name one with --wheel")
    return max(wheels, key=lambda wheel: wheel.stat().st_mtime)


def main() -> None:
    """Sets up what is missing, measures, prints the table and keeps every round in a file."""
    names = [row.side for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--quick", action="store_true", help="40 passages and one round: to see that it runs")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--documents", type=int, default=200, help="default: 200")
    parser.add_argument("--queries", type=int, default=5, help="whose scores are looked at; default: 5")
    parser.add_argument("--threads", type=int, default=min(2, cores()), help="default: 2")
    parser.add_argument("--wheel", type=Path, help="default: the newest in target/bench/hosts/wheel and dist")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.documents, args.queries = 1, 40, 2
    if sys.version_info < (3, 11):
        raise SystemExit("Python 3.11 or newer wanted: FastEmbed's ranker and tomllib are not for older ones")
    box = machine()
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ.update(OFFLINE)
    environments = Environments(args.wheel or newest_wheel())
    models()
    texts = {"documents": corpus.documents(args.documents), "queries": corpus.queries(args.queries)}
    (FOLDER / "texts.json").write_text(json.dumps(texts), encoding="utf-8")

    rows, absent, found_sizes = [], {}, {}
    for row in ROWS:
        if row.side not in {*args.only, "pylate"}:  # PyLate says which scores are right
            continue
        try:
            environments.of(row.side)
            found_sizes[row.side] = sizes(environments, row)
        except subprocess.CalledProcessError as error:
            absent[row.name] = f"not set up: {(error.stderr or str(error)).strip().splitlines()[-1]}"
        else:
            rows.append(row)

    sides = measure(environments, rows, args)
    reference = sides.get("pylate", {}).get("reference")
    for side, found in sides.items():
        found["sizes"] = found_sizes[side]
        if reference and "scores" in found:
            found["judged"] = judged(side, found["scores"], reference)
    whole = {
        "machine": box,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "digest": corpus.digest(texts["documents"]),
        "sides": sides,
        "absent": absent,
        **{name: getattr(args, name) for name in ("rounds", "documents", "queries", "threads")},
    }
    (FOLDER / "result.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(report(whole, rows))
    if wrong := [row.name for row in rows if row.side.startswith("chandelier") and not is_right(sides[row.side])]:
        raise SystemExit(f"not what it should be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
