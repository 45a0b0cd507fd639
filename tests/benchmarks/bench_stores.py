"""Stores beside each other and beside the bare client: storing, sending, searching, and what a prefetch loses.

    python tests/benchmarks/bench_stores.py [--only search ...] [--json]

Every side is a process of its own and is asked in turn. Nothing here passes or fails by a time. It fails for a debug
build, if a score is not the float64 reference's, or if a store does not hold what it was given.
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

from harness import BUILD, HERE, Worker, checkpoint, cores, machine, refuse_debug, spread, three
from stores_cases import DEPTHS, QUICK, WORST_GAP, Sizes

EMBEDDED, REMOTE, STARTED = ("float32", "float16", "edge", "local"), ("rest", "grpc"), ("weaviate", "weaviate-muvera")
CANDIDATES = ("exact", "edge-mean", "edge-muvera", "weaviate", "weaviate-muvera", "weaviate-muvera-large")
UPLOADS = ("store-rest", "client-rest", "store-grpc", "client-grpc")
FIGURES = ("index", "upload", "search", "recall", "candidates")
NAME = 38  # characters of a row's name in the table
Rows = list[dict[str, Any]]


def in_turn(workers: Sequence[Any], rounds: int) -> Any:
    """Each worker once a round, the order turned round every time; the first round is -1 and thrown away."""
    for round_ in range(-1, rounds):
        for worker in workers if round_ % 2 else workers[::-1]:
            yield round_, worker


def measure_index(workers: dict[str, Worker], rounds: int) -> Rows:
    """Encoding and storing of the same texts."""
    rows = {side: {"name": worker.hello["name"], "rounds": []} for side, worker in workers.items()}
    for round_, side in in_turn(list(workers), rounds):
        took = workers[side].ask("index")
        if round_ >= 0:
            rows[side]["rounds"].append(took)
    return list(rows.values())


def measure_search(workers: dict[str, Worker], sizes: Sizes, rounds: int, seconds: float) -> Rows:
    """A query, of all documents and of those that pass a filter."""
    rows = []
    for count in sizes.stored:
        filled = {side: worker.ask(f"fill {count}") for side, worker in workers.items()}
        for filtered in (False, True):
            found = {}
            for side, worker in workers.items():
                gap = worker.ask(f"check {json.dumps([count, filtered])}")["gap"]
                if not gap <= WORST_GAP[worker.hello["datatype"]]:
                    name = worker.hello["name"]
                    raise SystemExit(f"{name}, {count} documents: {gap:.1e} off the reference, so no time compares")
                found[side] = {
                    "name": worker.hello["name"],
                    "gap": gap,
                    "fill": filled[side],
                    "wall_s": [],
                    "cpu_s": [],
                }
            for round_, side in in_turn(list(workers), rounds):
                took = workers[side].ask(f"search {json.dumps([count, filtered, seconds])}")
                if round_ >= 0:
                    found[side]["wall_s"].append(took["wall_s"])
                    found[side]["cpu_s"].append(took["cpu_s"])
            rows.append({"documents": count, "filtered": filtered, "sides": list(found.values())})
        for worker in workers.values():
            worker.ask(f"drop {count}")
    return rows


def measure_upload(workers: dict[str, Worker], rounds: int) -> Rows:
    """Processor time of the sending process; the server is another one."""
    rows = {side: {"name": worker.hello["name"], "cpu_s": []} for side, worker in workers.items()}
    for round_, side in in_turn(list(workers), rounds):
        took = workers[side].ask("upload")
        if round_ >= 0:
            rows[side]["cpu_s"].append(took["cpu_s"])
        elif not workers[side].ask("check")["same"]:
            raise SystemExit(f"{rows[side]['name']}: the collection does not hold the bits that were sent")
    for worker in workers.values():
        worker.ask("drop")
    return list(rows.values())


def measure_candidates(workers: dict[str, Worker], rounds: int, seconds: float) -> Rows:
    """What an index costs, and what a query costs and loses at each depth."""
    rows = {}
    for side, worker in workers.items():
        row = rows[side] = {"name": worker.hello["name"], "fill": worker.ask("fill"), "depths": []}
        for depth in (None,) if side == "exact" else DEPTHS:
            recall = worker.ask(f"recall {depth or DEPTHS[0]}")["recall"]
            row["depths"].append({"depth": depth, "recall": recall, "wall_s": [], "cpu_s": []})
    if not rows["exact"]["depths"][0]["recall"] > 0.999:
        raise SystemExit("LocalStore does not find what float64 finds, so no recall counts")
    for round_, side in in_turn(list(workers), rounds):
        for found in rows[side]["depths"]:
            took = workers[side].ask(f"search {json.dumps([found['depth'] or DEPTHS[0], seconds])}")
            if round_ >= 0:
                found["wall_s"].append(took["wall_s"])
                found["cpu_s"].append(took["cpu_s"])
    for side, worker in workers.items():
        rows[side] |= worker.ask("memory")
    return list(rows.values())


def server(args: argparse.Namespace, stack: ExitStack) -> list[str]:
    """Where the Qdrant is that is sent to: that of QDRANT_URL, or the tests' loopback in a process of its own."""
    if url := os.environ.get("QDRANT_URL"):
        return ["--url", url, "--grpc-port", "6334"]
    hello = stack.enter_context(Worker([args.python, HERE / "stores_server.py"], args.threads)).hello
    return ["--url", hello["url"], "--grpc-port", str(hello["grpc_port"])]


def measure(args: argparse.Namespace, model: Path) -> dict[str, Any]:
    """All figures that were asked for."""
    sizes, quick = QUICK if args.quick else Sizes(), ["--quick"] if args.quick else []
    real = "QDRANT_URL" in os.environ
    whole: dict[str, Any] = {"hello": {}, "server": "a server" if real else "the tests' loopback"}
    references = BUILD / "stores" / ("quick.npz" if args.quick else "references.npz")

    def started(script: str, sides: Sequence[str], options: Sequence[str | Path]) -> dict[str, Worker]:
        found = {}
        for side in sides:
            worker = stack.enter_context(
                Worker([args.python, HERE / script, side, model, *options, *quick], args.threads)
            )
            whole["hello"][side] = worker.hello
            if "absent" not in worker.hello:
                refuse_debug(worker.hello["build"])
                found[side] = worker
        return found

    with ExitStack() as stack:
        place = server(args, stack) if {"index", "upload"} & set(args.only) or real else []
        stores = [str(references), "--threads", str(args.threads), *place]
        if {"index", "search"} & set(args.only):
            subprocess.run([args.python, HERE / "stores_references.py", references, model, *quick], check=True)
            sides = (*EMBEDDED, *(REMOTE if place else ()), *(STARTED if "index" in args.only else ()))
            workers = started("run_stores.py", sides, stores)
            if "index" in args.only:
                whole["index"] = measure_index(workers, min(args.rounds, 3))
            if "search" in args.only:
                searchable = (*EMBEDDED, *(REMOTE if real else ()))
                searched = {side: worker for side, worker in workers.items() if side in searchable}
                whole["search"] = measure_search(searched, sizes, args.rounds, args.seconds)
        if "upload" in args.only:
            whole["upload"] = measure_upload(started("run_uploads.py", UPLOADS, place), args.rounds)
    if "candidates" in args.only:
        folder = references.with_suffix("")
        subprocess.run([args.python, HERE / "stores_passages.py", folder, model, *quick], check=True)
        with ExitStack() as stack:
            workers = started("run_candidates.py", CANDIDATES, [folder, "--threads", str(args.threads)])
            whole["candidates"] = measure_candidates(workers, args.rounds, args.seconds)
    if "recall" in args.only:
        recall = [args.python, HERE / "stores_recall.py", model, *quick]
        whole["recall"] = subprocess.run(recall, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return whole


def index_table(rows: Rows, texts: int) -> str:
    """How fast texts are stored, and how much of that the store takes for itself."""
    title = (
        f"Storing {texts} texts of Python's manual, with MUVERA (ksim 3) where there is a prefetch: texts/s, ms a text"
    )
    head = f"  {'':{NAME}}{'encoded':>20}{'stored':>20}{'rows given, ms':>24}{'CPU, ms':>24}{'share':>8}{'of CPU':>8}"
    lines = [title, head]
    for row in rows:
        rates = [spread([texts / took[kind]["wall_s"] for took in row["rounds"]]) for kind in ("encode", "upsert")]
        times = [spread([took["rows"][clock] * 1e3 / texts for took in row["rounds"]]) for clock in ("wall_s", "cpu_s")]
        shares = [
            statistics.median(took["rows"][clock] / took["upsert"][clock] for took in row["rounds"])
            for clock in ("wall_s", "cpu_s")
        ]
        cells = "".join(f"{rate:>20}" for rate in rates) + "".join(f"{time:>24}" for time in times)
        lines.append(f"  {row['name']:{NAME}}{cells}" + "".join(f"{share:>8.1%}" for share in shares))
    lines.append(
        "  encoded: encode_documents alone; stored: upsert of the texts, encoding included; rows given: upsert of"
    )
    return "\n".join([*lines, "  the same with their rows; share: what that is of the time to store the texts"])


def search_table(group: dict[str, Any], sizes: Sizes) -> str:
    """Medians with the range of the rounds, and both clocks as multiples of LocalStore's."""
    low, high = sizes.rows
    those = "that pass a filter, a tenth of them" if group["filtered"] else "all of them"
    lines = [
        f"One query of {sizes.query_rows} rows, {group['documents']:,} documents of {low} to {high} rows, {those}; ms"
    ]
    lines.append(f"  {'':{NAME}}{'by the clock':>26}{'':>9}{'processor time':>18}{'':>9}{'filled, documents/s':>22}")
    medians = [[1e3 * statistics.median(side[clock]) for clock in ("wall_s", "cpu_s")] for side in group["sides"]]
    for side, median in zip(group["sides"], medians, strict=True):
        wall, cpu = (f"{m / ours:.2f}x" for m, ours in zip(median, medians[0], strict=True))
        filled = f"{group['documents'] / side['fill']['wall_s']:,.0f}"
        times = spread([seconds * 1e3 for seconds in side["wall_s"]])
        lines.append(f"  {side['name']:{NAME}}{times:>26}{wall:>9}{three(median[1]):>18}{cpu:>9}{filled:>22}")
    return "\n".join(lines)


def upload_table(rows: Rows, sizes: Sizes, server: str) -> str:
    """What the client pays for a document."""
    size = f"{sizes.uploaded} documents of {sizes.uploaded_rows} rows"
    lines = [f"Sending {size} to {server}: processor time of the client, ms a document"]
    times = [[1e3 * seconds / sizes.uploaded for seconds in row["cpu_s"]] for row in rows]
    for number, (row, found) in enumerate(zip(rows, times, strict=True)):
        ratio = statistics.median(found) / statistics.median(times[number // 2 * 2])  # the store's, before the client's
        lines.append(f"  {row['name']:{NAME}}{spread(found):>26}{ratio:>8.2f}x")
    return "\n".join(lines)


def candidates_table(rows: Rows) -> str:
    """Both clocks, memory, and recall, a line for each depth."""
    count, questions = (rows[0]["fill"][name] for name in ("documents", "questions"))
    head = f"{'stored/s':>10}{'CPU, ms each':>14}{'MB':>7}{'depth':>7}{'recall':>8}{'a query, ms':>24}{'CPU, ms':>9}"
    lines = [
        f"{count:,} passages of Python's documentation, {questions} questions, the best 10; CPU: of client and server",
        f"  {'':{NAME}}{head}",
    ]
    for row in rows:
        fill = row["fill"]
        cost = f"{count / fill['wall_s']:>10,.0f}{fill['cpu_s'] * 1e3 / count:>14.2f}{row['mb']:>7,.0f}"
        for found in row["depths"]:
            wall, cpu = ([value * 1e3 for value in found[clock]] for clock in ("wall_s", "cpu_s"))
            times = f"{spread(wall):>24}{three(statistics.median(cpu)):>9}"
            lines.append(f"  {row['name']:{NAME}}{cost}{found['depth'] or 'all':>7}{found['recall']:>8.3f}{times}")
    return "\n".join(lines)


def report(whole: dict[str, Any], sizes: Sizes) -> str:
    """Everything a reader needs to know what was measured, on what, and what came out."""
    box, hellos = whole["machine"], whole["hello"]
    present = [hello for hello in hellos.values() if "absent" not in hello]
    versions = ", ".join(dict.fromkeys(f"{name} {v}" for hello in present for name, v in hello["versions"].items()))
    absent = [f"{hello['name']} ({hello['absent']})" for hello in hellos.values() if "absent" in hello]
    gaps = [side["gap"] for group in whole.get("search", ()) for side in group["sides"]]
    lines = [
        f"machine    {box['cpu']}, {box['cores']} cores, {' '.join(box['flags'])}; {box['system']}",
        f"           load before the run: {' '.join(f'{x:.2f}' for x in box['load'])}",
        f"versions   Python {platform.python_version()}, {versions}",
        f"build      {', '.join(f'{key}: {value}' for key, value in present[0]['build'].items()) if present else ''}",
        f"absent     {', '.join(absent) or 'no side'}",
        f"threads    {whole['threads']}: as many cores for every side",
        f"server     {whole['server']}",
        f"rounds     {whole['rounds']}, alternating: median (lowest-highest) of the rounds, and how many times ours",
        f"same work  worst difference of a score from float64's, a row of the query: {max(gaps, default=0.0):.1e}; "
        "stored vectors are looked at bit by bit",
    ]
    if "index" in whole:
        lines += ["", index_table(whole["index"], sizes.texts)]
    for group in whole.get("search", ()):
        lines += ["", search_table(group, sizes)]
    if "upload" in whole:
        lines += ["", upload_table(whole["upload"], sizes, whole["server"])]
    if "candidates" in whole:
        lines += ["", candidates_table(whole["candidates"])]
    if "recall" in whole:
        lines += ["", "Recall on the texts of examples/python_docs.py:", whole["recall"]]
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the report and keeps every round in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=cores(), help="of every side; default: every core")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each kind of query in a round; default: 0.5")
    parser.add_argument(
        "--only", nargs="+", choices=FIGURES, default=FIGURES, metavar="FIGURE", help=", ".join(FIGURES)
    )
    parser.add_argument("--model", type=Path, help="folder of a ColBERT; default: MiniLM with a projection to 128")
    parser.add_argument("--python", default=sys.executable, help="of every side; default: this one")
    parser.add_argument("--quick", action="store_true", help="tiny inputs, to see that it runs: no figure counts")
    parser.add_argument("--json", action="store_true", help="print every round, for programs, instead of the table")
    args = parser.parse_args()
    if not (args.rounds >= 1 and 1 <= args.threads <= cores()):
        parser.error(f"wanted at least 1 round, and 1 to {cores()} threads")

    box = machine()
    model = args.model or checkpoint(args.python)
    whole = {"machine": box, "threads": args.threads, "rounds": args.rounds, **measure(args, model)}
    text = json.dumps(whole, indent=1)
    files = BUILD / "stores"
    files.mkdir(parents=True, exist_ok=True)
    (files / "result.json").write_text(text + "\n", encoding="utf-8")
    print(text if args.json else report(whole, QUICK if args.quick else Sizes()))


if __name__ == "__main__":
    main()
