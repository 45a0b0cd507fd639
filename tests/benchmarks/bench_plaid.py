"""PlaidStore beside a scan of all documents, Qdrant Edge with MUVERA, and fast-plaid: building, room, time and recall.

    python tests/benchmarks/bench_plaid.py [--only local plaid4 ...] [--sizes 5000,100000] [--json]

Every side is a process of its own and is asked in turn. Nothing here passes or fails by a time. It fails for a debug
build, if a score is not MaxSim of the rows that were stored, or if a store does not hold what it was given.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench_stores import in_turn
from harness import BUILD, HERE, ROOT, Worker, checkpoint, cores, machine, refuse_debug
from plaid_cases import NAMES, QUICK_SIZES, SIZES, WORST_GAP, settings, usual
from plaid_plot import drawn
from plaid_report import report
from plaid_watch import Limit, Watch

FAST_PLAID = ROOT / ".venv" / "fast-plaid" / "bin" / "python"
NO_FAST_PLAID = "make test-fast-plaid made no environment, and BENCH_FAST_PLAID_PYTHON names no Python"
WARM_UP = 5  # queries


class Sides:
    """Starts the sides over one collection, each in a folder of its own."""

    def __init__(self, args: argparse.Namespace, model: Path, listed: Path, stores: Path) -> None:
        self.args, self.model, self.listed, self.stores = args, model, listed, stores

    def start(self, side: str) -> Worker:
        """A process that has nothing open yet."""
        python: list[str | Path] = [self.args.python]
        if side == "fast-plaid":  # its environment has no chandelier, but what chandelier needs
            python = ["env", f"PYTHONPATH={ROOT / 'integrations'}", fast_plaid()]
        options = [side, self.model, self.listed, self.stores / side, "--threads", str(self.args.threads)]
        return Worker([*python, HERE / "run_plaid.py", *options], self.args.threads)

    def build(self, side: str) -> dict[str, Any]:
        """What building takes: the answer, the peak of its memory, or how long it was given."""
        (self.stores / side).mkdir(parents=True)
        with self.start(side) as worker:
            hello = worker.hello
            if "absent" in hello:
                return {"hello": hello, "absent": hello["absent"]}
            refuse_debug(hello["build"])
            with Watch(hello["pid"]) as watch, Limit(worker.process, self.args.limit) as limit:
                try:
                    took = worker.ask("build")
                except SystemExit:
                    if not limit.reached:
                        raise
                    return {"hello": hello, "absent": f"was not built in {self.args.limit:,.0f} s"}
        return {"hello": hello, "build": {**took, "own_mb": watch.own_mb}}


def fast_plaid() -> Path:
    """The Python that has fast-plaid, if there is one."""
    return Path(os.environ.get("BENCH_FAST_PLAID_PYTHON", FAST_PLAID))


def measure(sides: Sides, facts: dict[str, Any]) -> dict[str, Any]:
    """All sides over one collection: built one after the other, asked in turn."""
    rows: dict[str, dict[str, Any]] = {}
    for side in sides.args.only:
        row = rows[side] = {"side": side, "name": NAMES[side], "settings": []}
        if side == "fast-plaid" and not fast_plaid().exists():
            row["absent"] = NO_FAST_PLAID
        else:
            print(f"bench: building {NAMES[side]} of {facts['documents']:,} documents", file=sys.stderr)
            row |= sides.build(side)
    present = [side for side, row in rows.items() if "absent" not in row]
    with ExitStack() as stack:
        workers = {}
        for side in present:
            worker = workers[side] = stack.enter_context(sides.start(side))
            with Watch(worker.hello["pid"]) as watch:
                worker.ask(f"ask {json.dumps([usual(side), 0, facts['asked']])}")
            rows[side] |= {"own_mb": watch.own_mb, "mapped_mb": watch.mapped_mb}
            chosen = settings(side, facts["documents"])
            rows[side]["settings"] = [{"setting": setting, "ms": [], "cpu_ms": 0.0} for setting in chosen]
        ask_all(workers, rows, facts, sides.args.rounds)
        for side, worker in workers.items():
            for found in rows[side]["settings"]:
                found |= worker.ask(f"judge {json.dumps(found['setting'])}")
                if not found["gap"] <= WORST_GAP.get(side, 0.0):
                    raise SystemExit(f"{NAMES[side]}: a score is {found['gap']:.1e} off MaxSim, so no time compares")
    if "local" in present and not rows["local"]["settings"][0]["recall"] > 0.999:
        raise SystemExit("LocalStore does not find what MaxSim of all rows finds, so no recall counts")
    return {**facts, "sides": list(rows.values())}


def ask_all(workers: dict[str, Worker], rows: dict[str, Any], facts: dict[str, Any], rounds: int) -> None:
    """Asks each query once of every side and setting, a part of them a round; a first round is thrown away."""
    count = -(-facts["asked"] // rounds)
    for round_, side in in_turn(list(workers), rounds):
        for found in rows[side]["settings"]:
            part = [0, WARM_UP] if round_ < 0 else [round_ * count, count]
            took = workers[side].ask(f"ask {json.dumps([found['setting'], *part])}")
            if round_ >= 0:
                found["ms"].append([round(ms, 3) for ms in took["ms"]])
                found["cpu_ms"] += took["cpu_ms"] / facts["asked"]


def sizes(text: str) -> list[int]:
    """Rising numbers of documents, as an option gives them."""
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < QUICK_SIZES[0]:
        raise argparse.ArgumentTypeError(f"got {found[0]}, wanted at least {QUICK_SIZES[0]}: fewer get no index")
    return found


def main() -> None:
    """Measures, prints the report, draws it, and keeps every query's time in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=cores(), help="of every side; default: every core")
    parser.add_argument("--rounds", type=int, default=5, help="over which the queries are spread; default: 5")
    parser.add_argument("--sizes", type=sizes, help="numbers of documents, with commas; default: 5000,100000")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="SIDE", help=", ".join(NAMES))
    parser.add_argument("--skip", nargs="+", choices=NAMES, default=[], metavar="SIDE", help="all sides but these")
    parser.add_argument("--limit", type=float, default=600, help="seconds that a build may take; default: 600")
    parser.add_argument("--plot", type=Path, help="where to draw it; default: target/bench/plaid/plaid.svg")
    parser.add_argument("--model", type=Path, help="folder of a ColBERT; default: MiniLM with a projection to 128")
    parser.add_argument("--python", default=sys.executable, help="of every side; default: this one")
    parser.add_argument("--quick", action="store_true", help="tiny inputs, to see that it runs: no figure counts")
    parser.add_argument("--json", action="store_true", help="print every query's time, for programs, not the table")
    args = parser.parse_args()
    if not (args.rounds >= 1 and 1 <= args.threads <= cores()):
        parser.error(f"wanted at least 1 round, and 1 to {cores()} threads")
    args.only = [side for side in args.only if side not in args.skip]

    box, model = machine(), args.model or checkpoint(args.python)
    files = BUILD / "plaid" / ("quick" if args.quick else "full")
    stores = files / "stores"
    whole: dict[str, Any] = {"machine": box, "threads": args.threads, "rounds": args.rounds, "collections": []}
    for count in args.sizes or (QUICK_SIZES if args.quick else SIZES):
        prepare = [args.python, HERE / "plaid_rows.py", files, model, "--documents", str(count)]
        subprocess.run([*prepare, *(["--quick"] if args.quick else [])], check=True)
        shutil.rmtree(stores, ignore_errors=True)
        try:
            facts = json.loads((files / f"{count}.json").read_text(encoding="utf-8"))
            whole["collections"].append(measure(Sides(args, model, files / f"{count}.json", stores), facts))
        finally:
            shutil.rmtree(stores, ignore_errors=True)
    text = json.dumps(whole)
    (files / "result.json").write_text(text + "\n", encoding="utf-8")
    (args.plot or files.parent / "plaid.svg").write_text(drawn(whole), encoding="utf-8")
    print(text if args.json else report(whole))


if __name__ == "__main__":
    main()
