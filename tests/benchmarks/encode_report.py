"""The tables of bench_encode.py: every figure, every goal beside its ratio, and what was missed."""

import statistics
from typing import Any, NamedTuple

from encode_cases import Case, Goal
from harness import spread, three

NAME = 34  # characters of a side's name in the table
Found = dict[str, dict[str, list[float]]]


class Figure(NamedTuple):
    """A figure, by the clock and, if it has one, by processor time."""

    title: str
    cpu_title: str | None
    more_is_better: bool


FIGURES = {
    "speed": Figure("docs/s", "docs/CPU s", True),
    "of_peak": Figure("% of FMA peak", "by CPU", True),
    "query": Figure("ms a query", "CPU ms", False),
    "start": Figure("ms, whole start", "CPU ms", False),
    "import": Figure("import", None, False),
    "load": Figure("load", None, False),
    "first_query": Figure("first query", None, False),
    "memory": Figure("peak MB", None, False),
}


class Outcome(NamedTuple):
    """A goal and what came of it."""

    text: str
    reached: bool | None


def table(found: Found, gaps: dict[str, dict[str, float]]) -> str:
    """Medians with the range of the rounds, by the clock, and the medians by processor time."""
    figures = [name for name in FIGURES if name in next(iter(found.values()))]
    header = f"  {'':{NAME}}"
    for name in figures:
        header += f"{FIGURES[name].title:>24}" + (f"{FIGURES[name].cpu_title:>12}" if FIGURES[name].cpu_title else "")
    lines = [header + "  rows beside chandelier float32's" if gaps else header]
    for side, values in found.items():
        line = f"  {side:{NAME}}"
        for name in figures:
            line += f"{spread(values[name]):>24}"
            line += f"{three(statistics.median(values[f'{name}_cpu'])):>12}" if FIGURES[name].cpu_title else ""
        if side in gaps:
            worst, mean, least = (gaps[side][name] for name in ("worst_gap", "mean_cosine", "least_cosine"))
            line += f"  differ by {worst:.1e}, cosine mean {mean:.5f}, least {least:.4f}"
        lines.append(line)
    return "\n".join(lines)


def ratios(found: Found, of: str, beside: str | None, figure: str) -> list[float]:
    """A side's figure, as a multiple of another's in the same round if one is named."""
    ours = found[of][figure]
    return [a / b for a, b in zip(ours, found[beside][figure], strict=True)] if beside else ours


def outcome(goal: Goal, found: Found, scaling: float | None) -> Outcome:
    """One line: the ratio by the clock, which decides, and by processor time."""
    figure = FIGURES[goal.figure]
    choose = max if figure.more_is_better else min
    best = choose(goal.of, key=lambda side: statistics.median(found[side][goal.figure]))
    values = ratios(found, best, goal.beside, goal.figure)
    unit = "x" if goal.beside else ""
    name = f"{best} / {goal.beside}" if goal.beside else f"{best}, {figure.title}"
    text = f"  {name:{2 * NAME - 14}}{spread(values):>20}{unit}"
    if figure.cpu_title and not goal.if_scaling:  # two threads take the processor time of one, however they scale
        text += f", by CPU {three(statistics.median(ratios(found, best, goal.beside, f'{goal.figure}_cpu')))}{unit}"
    if goal.limit is None:
        return Outcome(f"{text}; no goal on this machine ({goal.note})", None)
    text += f"; goal {'>=' if figure.more_is_better else '<='} {goal.limit:g}{unit}: "
    if goal.if_scaling and scaling is not None and scaling < goal.limit:
        return Outcome(f"{text}not judged, the machine itself gives {scaling:.2f}x", None)
    median = statistics.median(values)
    reached = median >= goal.limit if figure.more_is_better else median <= goal.limit
    return Outcome(text + ("reached" if reached else "MISSED"), reached)


def scaling_of(peaks: dict[int, list[dict[str, Any]]]) -> float | None:
    """How many times as fast two threads multiply and add as one, if both were measured."""
    if not (peaks.get(1) and peaks.get(2)):
        return None
    return statistics.median(b["gflop_per_s"] / a["gflop_per_s"] for a, b in zip(peaks[1], peaks[2], strict=True))


def outcomes(of: Case, result: dict[str, Any]) -> list[Outcome]:
    """What came of all goals of a case whose figures were measured."""
    found = result["found"]
    measured = [goal for goal in of.goals if goal.figure in found[goal.of[0]]]
    return [outcome(goal, found, scaling_of(result["peaks"])) for goal in measured]


def report(of: Case, result: dict[str, Any]) -> str:
    """A case: its figures, the peak that they were held against, its goals."""
    texts = f"{result['documents']} texts of {result['tokens']:.1f} tokens ({result['texts']})"
    what = of.title if of.kind == "one_query" else f"{of.title}; {texts}"
    lines = ["", what, table(result["found"], result["gaps"])]
    if result["padding"]:
        shares = ", ".join(f"{side} {share:.0%}" for side, share in result["padding"].items())
        lines.append(f"  padding adds to the tokens of {shares}")
    for threads, found in result["peaks"].items():
        if found:
            rates = [spread([p[rate] for p in found]) for rate in ("gflop_per_s", "gflop_per_cpu_s")]
            of_threads = f"multiply-adds in registers ({found[0]['simd']}), threads: {threads}"
            lines.append(f"  {of_threads}; GFLOP/s: {rates[0]}; of one processor: {rates[1]}")
    scaling = scaling_of(result["peaks"])
    if scaling:
        lines.append(f"  two threads multiply and add {scaling:.2f} times as fast as one")
    return "\n".join(lines + [found.text for found in outcomes(of, result)])


def counts(of: dict[str, int]) -> str:
    """Operators and how often each occurs."""
    return ", ".join(f"{n} {name}" for name, n in of.items())


def heading(whole: dict[str, Any]) -> str:
    """The machine, and what it was measured by."""
    box = whole["machine"]
    return "\n".join(
        [
            f"machine    {box['cpu']}, {box['cores']} cores, {' '.join(box['flags'])}; {box['system']}",
            f"           load before the run: {' '.join(f'{x:.2f}' for x in box['load'])}",
            f"threads    {whole['threads']} for every side that names no other: as many cores, every pool told so",
            f"rounds     {whole['rounds']}, alternating: median (lowest-highest) by the clock, median by CPU time",
            *(f"{'ONNX':11}{dtype}, fused: {counts(found)}" for dtype, found in whole["operators"].items()),
        ]
    )


def closing(whole: dict[str, Any], came: list[Outcome]) -> str:
    """Versions, and the goals that were missed."""
    hellos = [hello for result in whole["cases"].values() for hello in result["hello"].values()]
    versions = dict.fromkeys(f"{name} {version}" for hello in hellos for name, version in hello["versions"].items())
    build = next(hello["build"] for hello in hellos if "build" in hello)
    judged = [found.reached for found in came if found.reached is not None]
    return "\n".join(
        [
            "",
            f"versions   Python {whole['python']}, {', '.join(versions)}",
            f"build      {', '.join(f'{key}: {value}' for key, value in build.items())}",
            f"goals      {sum(judged)} of {len(judged)} reached; missed:",
            *(found.text for found in came if found.reached is False),
        ]
    )
