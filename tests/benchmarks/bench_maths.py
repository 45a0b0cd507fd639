"""MaxSim, MUVERA and token pooling beside the packages that compute the same, in one alternating run.

    python tests/benchmarks/bench_maths.py [--only maxsim ...] [--peak "COMMAND"] [--json]

Every side is a process of its own, so that imports, thread pools and memory do not mix, and is asked in turn. Nothing
here passes or fails by a time. It fails for a debug build, and if a result is not the float64 reference's.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import BUILD, HERE, Worker, cores, environment, machine, peak, refuse_debug, spread, three
from maths_cases import QUICK, Group, Sizes, groups

REQUIREMENTS = HERE / "maths-requirements.txt"
PYLATE_PYTHON = "BENCH_PYLATE_PYTHON"
PEERS = ("maxsim-cpu", "numpy", "fastembed", "muvera-python", "scipy")
# Of the largest value: sums of float32 products differ by 1e-6, a wrong row or a lost factor by far more.
WORST_GAP = 1e-5
NAME = 54  # characters of a row's name in the table


def sides(args: argparse.Namespace, files: Path) -> dict[str, list[str | Path]]:
    """The command of each side's worker, chandelier's first."""
    rest: list[str | Path] = [files, *(["--quick"] if args.quick else [])]
    found: dict[str, list[str | Path]] = {"chandelier": [sys.executable, HERE / "run_maths.py", "chandelier", *rest]}
    for peer in PEERS:
        found[peer] = [args.peer_python, HERE / "peers_maths.py", peer, *rest]
    if PYLATE_PYTHON in os.environ:
        found["pylate"] = [os.environ[PYLATE_PYTHON], HERE / "peers_maths.py", "pylate", *rest]
    return found


def measure(args: argparse.Namespace, commands: dict[str, list[str | Path]], wanted: Sequence[str]) -> dict[str, Any]:
    """All figures: of each group a list of rows, each with a list of times, one a round."""
    rows: dict[str, list[dict[str, Any]]] = {group: [] for group in wanted}
    peaks: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers = {side: stack.enter_context(Worker(command, args.threads)) for side, command in commands.items()}
        hellos = {side: worker.hello for side, worker in workers.items()}
        refuse_debug(hellos["chandelier"].get("build", {}))
        for group, found in rows.items():
            for side, worker in workers.items():
                for form in worker.hello.get("forms", {}).get(group, ()):
                    gap = worker.ask(f"check {json.dumps([group, form])}")["gap"]
                    if gap is not None and not gap <= WORST_GAP:
                        raise SystemExit(f"{side}, {form}: {group} is {gap:.1e} off the reference, so no time compares")
                    found.append({"side": side, "form": form, "gap": gap, "wall_s": [], "cpu_s": []})
        for round_ in range(-1, args.rounds):  # the first round warms everything up and is thrown away
            if args.peak and round_ >= 0:
                peaks.append(peak(args.peak, args.threads))
            for group, found in rows.items():
                for row in found if round_ % 2 else found[::-1]:
                    question = json.dumps([group, row["form"], args.seconds])
                    took = workers[row["side"]].ask(f"time {question}")
                    if round_ >= 0:
                        row["wall_s"].append(took["wall_s"])
                        row["cpu_s"].append(took["cpu_s"])
    return {"hello": hellos, "rows": rows, "peaks": peaks}


def measure_memory(commands: dict[str, list[str | Path]], hellos: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    """What scoring a mapped file takes at its peak, each in a fresh process."""
    rows = []
    for side, hello in hellos.items():
        for group in ("mapped_float32", "mapped_float16"):
            for form in hello.get("forms", {}).get(group, ()):
                with Worker(commands[side], threads) as worker:
                    took = worker.ask(f"memory {json.dumps([group, form])}")
                rows.append({"side": side, "form": form, "dtype": group.removeprefix("mapped_"), **took})
    return rows


def table(group: Group, rows: list[dict[str, Any]], peaks: list[dict[str, Any]]) -> str:
    """Medians with the range of the rounds, by the clock and by processor time, and both as multiples of ours."""
    lines = [f"{group.title}, {group.unit}", f"  {'':{NAME}}{'by the clock':>26}{'':>9}{'processor time':>20}{'':>9}"]
    medians = [[statistics.median(row[clock]) * group.per_second for clock in ("wall_s", "cpu_s")] for row in rows]
    for row, median in zip(rows, medians, strict=True):
        # chandelier's first form is the first row, if it has one.
        known = rows[0]["side"] == "chandelier"
        wall, cpu = (f"{m / ours:.2f}x" if known else "" for m, ours in zip(median, medians[0], strict=True))
        name = f"{row['side']}, {row['form']}" + ("" if row["gap"] is not None else " *")
        times = spread([seconds * group.per_second for seconds in row["wall_s"]])
        lines.append(f"  {name:{NAME}}{times:>26}{wall:>9}{three(median[1]):>20}{cpu:>9}")
    if group.products and peaks and rows and rows[0]["side"] == "chandelier":
        flops = 2 * group.products * group.per_second / 1e9
        ideal = [flops / statistics.median(p[rate] for p in peaks) for rate in ("gflop_per_s", "gflop_per_cpu_s")]
        shares = [f"{best / ours:.2f}x" for best, ours in zip(ideal, medians[0], strict=True)]
        times = f"{three(ideal[0])}{'':13}"
        name = "the product alone at the machine's peak"
        lines.append(f"  {name:{NAME}}{times:>26}{shares[0]:>9}{three(ideal[1]):>20}{shares[1]:>9}")
        over = ", ".join(f"{o / i:.2f}" for o, i in zip(medians[0], ideal, strict=True))
        lines.append(f"  chandelier takes {over} times as long as that, by the clock and by processor time")
    return "\n".join(lines)


def memory_table(rows: list[dict[str, Any]], sizes: Sizes) -> str:
    """Peak memory of one query against a mapped file, above what the process had before."""
    megabytes = sizes.documents * sizes.tokens * sizes.dim * 4 / 2**20
    title = f"Memory that one query takes, MB: {sizes.documents} documents in a mapped file"
    lines = [f"{title} of {three(megabytes)} MB (float32) or half of it", f"  {'':{NAME}}{'at its peak':>13}"]
    lines[-1] += f"{'of it the file':>16}{'of its own':>13}"
    for row in rows:
        name = f"{row['side']}, {row['form']}, {row['dtype']}"
        figures = "".join(
            f"{row[figure]:>{w}.1f}" for figure, w in (("peak_mb", 13), ("mapped_mb", 16), ("own_mb", 13))
        )
        lines.append(f"  {name:{NAME}}{figures}")
    return "\n".join(lines)


def report(whole: dict[str, Any], sizes: Sizes) -> str:
    """Everything a reader needs to know what was measured, on what, and what came out."""
    box, hellos = whole["machine"], whole["hello"]
    present = [hello for hello in hellos.values() if "absent" not in hello]
    versions = ", ".join(dict.fromkeys(f"{name} {v}" for hello in present for name, v in hello["versions"].items()))
    build = ", ".join(f"{key}: {value}" for key, value in hellos["chandelier"].get("build", {}).items())
    absent = [f"{side} ({hello['absent']})" for side, hello in hellos.items() if "absent" in hello]
    if "pylate" not in hellos:
        absent.append(f"pylate ({PYLATE_PYTHON} names no Python that has it)")
    peaks = whole["peaks"]
    rates = [spread([p[rate] for p in peaks]) for rate in ("gflop_per_s", "gflop_per_cpu_s")] if peaks else []
    gaps = [row["gap"] or 0.0 for rows in whole["rows"].values() for row in rows]
    lines = [
        f"machine    {box['cpu']}, {box['cores']} cores, {' '.join(box['flags'])}; {box['system']}",
        f"           load before the run: {' '.join(f'{x:.2f}' for x in box['load'])}",
        f"versions   Python {platform.python_version()}, {versions}",
        f"build      {build}",
        f"peak       {peaks[0]['simd']}, Gflop/s: {rates[0]}; of one processor: {rates[1]}"
        if peaks
        else "peak       not measured: give the command of the example `peak` with --peak",
        f"absent     {', '.join(absent) or 'no peer'}",
        f"threads    {whole['threads']} for every side: as many cores, and every pool told so",
        f"rounds     {whole['rounds']}, alternating: median (lowest-highest) of the rounds, and how many times ours",
        "same work  every result was held against a float64 reference first; worst difference, as a share of the "
        f"largest value: {max(gaps, default=0.0):.1e}",
    ]
    known = groups(sizes)
    for group, rows in whole["rows"].items():
        lines += ["", table(known[group], rows, peaks)]
    if whole["memory"]:
        lines += ["", memory_table(whole["memory"], sizes)]
    if any(row["gap"] is None for rows in whole["rows"].values() for row in rows):
        lines += ["", "* held against no reference: other random numbers, or what the reference needs is absent"]
    return "\n".join(lines)


def main() -> None:
    """Prepares what is missing, measures, prints the report and keeps every round in a file."""
    sizes = groups(Sizes())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=cores(), help="of every side; default: every core")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--seconds", type=float, default=0.25, help="of each form in each round; default: 0.25")
    parser.add_argument("--only", nargs="+", choices=sizes, default=list(sizes), metavar="GROUP", help=", ".join(sizes))
    parser.add_argument("--peer-python", type=Path, help="default: an environment of pinned peers, made when missing")
    parser.add_argument("--peak", metavar="COMMAND", help="the example `peak`, built")
    parser.add_argument("--quick", action="store_true", help="tiny inputs, to see that it runs: no figure counts")
    parser.add_argument("--no-memory", action="store_true", help="leave out what starts a process a figure")
    parser.add_argument("--json", action="store_true", help="print every round, for programs, instead of the table")
    args = parser.parse_args()
    if not (args.rounds >= 1 and 1 <= args.threads <= cores()):
        parser.error(f"wanted at least 1 round, and 1 to {cores()} threads")

    box = machine()
    args.peer_python = args.peer_python or environment(BUILD / "maths-venv", REQUIREMENTS)
    files = BUILD / ("maths-quick" if args.quick else "maths")
    references: list[str | Path] = [args.peer_python, HERE / "maths_references.py", files, "--only", *args.only]
    subprocess.run([*references, *(["--quick"] if args.quick else [])], check=True, stdout=sys.stderr)
    commands = sides(args, files)
    whole = {"machine": box, "threads": args.threads, "rounds": args.rounds, **measure(args, commands, args.only)}
    whole["memory"] = [] if args.no_memory else measure_memory(commands, whole["hello"], args.threads)
    text = json.dumps(whole, indent=1)
    (files / "result.json").write_text(text + "\n", encoding="utf-8")
    print(text if args.json else report(whole, QUICK if args.quick else Sizes()))


if __name__ == "__main__":
    main()
