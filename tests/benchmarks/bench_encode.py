"""chandelier's encoder beside ONNX Runtime, PyLate, torch and the machine's own limit, in one alternating run.

    python tests/benchmarks/bench_encode.py [--only minilm query ...] [--rounds 5] [--texts 600] [--json]

Speed is only ever compared within one run: machines differ, and the same machine differs from minute to minute. Goals
are printed, reached or missed, and decide nothing. The run fails if the build is a debug build or if the peers' rows
are not chandelier's rows.

This process stays small and imports nothing but the standard library: it starts the workers and asks them in turn.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import corpus
from encode_cases import CASES, DRAWN, FLOAT32, Case, Setting, Side, case, gflop
from encode_report import closing, heading, outcomes, report
from harness import BUILD, HERE, Worker, checkpoint, cores, environment, machine, peak, refuse_debug
from hosts_environments import Environments
from padding import added

FOLDER = BUILD / "encode"
QUERIES = 100
# Which part of the texts a case gets, so that the whole run stays short of a quarter of an hour.
PARTS = {"bert": 6, "modernbert": 25, "threads": 3}
# Two correct float32 encoders differ by a few 1e-6; another GELU or a mask gone wrong shows at 1e-4 and above.
WORST_GAP = 1e-4
# A mask gone wrong shows here, too; how much a dtype may lose is for bench-quality to say.
LEAST_MEAN_COSINE = 0.95


def once(script: Path, out: Path, *command: str | Path) -> str:
    """Runs what writes a folder unless the same script was run likewise before; returns what it printed."""
    stamp, wanted = out.with_suffix(".txt"), "\n".join([script.read_text(encoding="utf-8"), *map(str, command)])
    printed = out.with_suffix(".out")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"bench: {script.name} writes {out.name}", file=sys.stderr)
        made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        printed.write_text(made.stdout, encoding="utf-8")
        stamp.write_text(wanted, encoding="utf-8")
    return printed.read_text(encoding="utf-8")


def prepare(args: argparse.Namespace, work: Path, flags: list[str]) -> tuple[Setting, dict[str, Any]]:
    """Makes, once, environments, checkpoints and graphs; returns where they are, and what the graphs run."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    needs = set().union(*(CASES[name] for name in args.only))
    models = {"minilm": args.model or checkpoint(sys.executable)}
    graphs, onnx, operators = FOLDER / "graphs", None, {}
    if "onnx" in needs:
        script, onnx = HERE / "onnx_graph.py", environment(BUILD / "venv", HERE / "peer-requirements.txt")
        operators = json.loads(once(script, graphs, onnx, script, models["minilm"], graphs).splitlines()[-1])
    if "drawn" in needs:
        script, out = HERE / "encode_models.py", FOLDER / "models"
        once(script, out, sys.executable, script, models["minilm"], out)
        models |= {name: out / name for name in DRAWN}
    torch = Environments().of("pylate") if "torch" in needs else None
    return Setting(work, models, graphs, onnx, torch, args.threads, flags), operators


def check(work: Path, side: Side, reference: Worker, worker: Worker) -> dict[str, float]:
    """How far a side's rows are from chandelier's in float32; ends the run if too far for their times to compare."""
    worker.ask(f"rows {work}")
    gap: dict[str, float] = reference.ask(f"check {work}")
    same = gap["worst_gap"] <= WORST_GAP if side.dtype == FLOAT32 else gap["mean_cosine"] >= LEAST_MEAN_COSINE
    if not same:
        raise SystemExit(f"{side.name}: its rows are not chandelier's, so their times do not compare: {gap}")
    return gap


class Rounds:
    """The figures of one case: of each side a list a figure, one entry a round.

    Args:
        of: The case.
        peak_command: The example `peak`, if it was built.
        gflop: Of all documents.
    """

    def __init__(self, of: Case, peak_command: str | None, gflop: float) -> None:
        self.found: dict[str, dict[str, list[float]]] = {side.name: {} for side in of.sides}
        self.peaks: dict[int, list[dict[str, Any]]] = {side.threads: [] for side in of.sides}
        self._case, self._command, self._gflop = of, peak_command, gflop

    def measure_peaks(self) -> None:
        """What the machine can do at most, in this round."""
        if self._command:
            for threads, found in self.peaks.items():
                found.append(peak(self._command, threads))

    def note(self, side: Side, **figures: float) -> None:
        """Adds figures of this round."""
        for figure, value in figures.items():
            self.found[side.name].setdefault(figure, []).append(value)

    def documents(self, side: Side, took: dict[str, float]) -> None:
        """All documents in one call."""
        per_s, per_cpu_s = (self._case.documents / took[clock] for clock in ("wall_s", "cpu_s"))
        self.note(side, speed=per_s, speed_cpu=per_cpu_s)
        if not self._command:
            return
        limit, percent = self.peaks[side.threads][-1], 100 * self._gflop / self._case.documents
        self.note(side, of_peak=percent * per_s / limit["gflop_per_s"])
        self.note(side, of_peak_cpu=percent * per_cpu_s / limit["gflop_per_cpu_s"])

    def one_query(self, side: Side, took: dict[str, Any]) -> None:
        """A call a query."""
        self.note(side, query=statistics.median(took["ms"]), query_cpu=took["cpu_ms"] / len(took["ms"]))


def measure(of: Case, work: Path, rounds: int, peak_command: str | None) -> dict[str, Any]:
    """All figures of a case."""
    texts = {"documents": corpus.documents(of.documents), "queries": corpus.queries(QUERIES)}
    (work / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    with Worker(of.sides[0].command, of.sides[0].threads) as reference:
        refuse_debug(reference.hello["build"])
        lengths = reference.ask("ids")["documents"]
        figures = Rounds(of, peak_command, gflop(of.model, lengths))
        if of.kind == "start":
            found = measure_starts(of, rounds, figures)
        else:
            found = measure_turns(of, work, rounds, figures, reference)
    counts = {"documents": of.documents, "tokens": statistics.mean(lengths), "texts": corpus.digest(texts["documents"])}
    padding = {side.name: added(lengths, side.batch) for side in of.sides if side.batch and of.kind == "documents"}
    return {**counts, **found, "padding": padding, "found": figures.found, "peaks": figures.peaks}


def measure_turns(of: Case, work: Path, rounds: int, figures: Rounds, reference: Worker) -> dict[str, Any]:
    """All sides alive together and asked in turn, once every row was looked at, which has warmed them up."""
    workers, gaps = {of.sides[0].name: reference}, {}
    with ExitStack() as stack:
        for side in of.sides[1:]:
            workers[side.name] = stack.enter_context(Worker(side.command, side.threads))
            gaps[side.name] = check(work, side, reference, workers[side.name])
        note = figures.documents if of.kind == "documents" else figures.one_query
        for round_ in range(rounds):
            figures.measure_peaks()
            for side in of.sides if round_ % 2 else of.sides[::-1]:
                note(side, workers[side.name].ask(of.kind))
    return {"hello": {name: worker.hello for name, worker in workers.items()}, "gaps": gaps}


def measure_starts(of: Case, rounds: int, figures: Rounds) -> dict[str, Any]:
    """A fresh process a side and round; the first, which reads files into the page cache, gives the memory."""
    hellos = {}
    for round_ in range(-1, rounds):
        for side in of.sides if round_ % 2 else of.sides[::-1]:
            with Worker(side.command, side.threads) as worker:
                hello = hellos[side.name] = worker.hello
                if round_ < 0:
                    worker.ask("documents")
                    figures.note(side, memory=worker.ask("memory")["mb"])
                    continue
                steps = {step: hello[f"{step}_ms"] for step in ("import", "load", "first_query")}
                figures.note(side, start=hello["start_ms"], start_cpu=hello["start_cpu_ms"], **steps)
    return {"hello": hellos, "gaps": {}}


def main() -> None:
    """Prepares what is missing, measures each case, prints the report and keeps every round in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--threads", type=int, default=cores(), help="of every side; default: every core")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--texts", type=int, default=600, help="of MiniLM; larger models get fewer; default: 600")
    parser.add_argument("--model", type=Path, help="a ColBERT on BERT to take for MiniLM, to try things out")
    parser.add_argument("--peak", metavar="COMMAND", help="the example `peak`, built; without it no share of the peak")
    parser.add_argument("--json", action="store_true", help="print every round, for programs, instead of the tables")
    args = parser.parse_args()
    if not (args.rounds >= 1 and 1 <= args.threads <= cores() and args.texts >= 1):
        parser.error(f"wanted at least 1 round and 1 text, and 1 to {cores()} threads")

    with tempfile.TemporaryDirectory() as work:
        run(args, Path(work))


def run(args: argparse.Namespace, work: Path) -> None:
    """The whole run, its texts and ids in a folder of its own."""
    box = machine()
    setting, operators = prepare(args, work, box["flags"])
    whole: dict[str, Any] = {"machine": box, "python": platform.python_version(), "operators": operators}
    whole |= {"threads": args.threads, "rounds": args.rounds, "cases": {}}
    came = []
    if not args.json:
        print(heading(whole))
    for name in args.only:
        print(f"bench: {name}", file=sys.stderr)
        of = case(name, setting, max(1, args.texts // PARTS.get(name, 1)))
        whole["cases"][name] = measure(of, work, args.rounds, args.peak)
        (FOLDER / "result.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        if not args.json:
            came += outcomes(of, whole["cases"][name])
            print(report(of, whole["cases"][name]), flush=True)
    print(json.dumps(whole, indent=1) if args.json else closing(whole, came))


if __name__ == "__main__":
    main()
