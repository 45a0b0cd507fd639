"""The tables of bench_plaid.py. Standard library only."""

import platform
import statistics
from typing import Any

from harness import spread, three
from plaid_cases import CANDIDATES, TOP, label

NAME, SETTING = 22, 34  # characters
MB = 1e6


def milliseconds(found: dict[str, Any]) -> float:
    """The median of all queries."""
    return statistics.median(ms for part in found["ms"] for ms in part)


def build_table(group: dict[str, Any]) -> str:
    """What a side costs before it is asked."""
    head = (
        f"{'documents/s':>12}{'storing, s':>12}{'indexing, s':>13}{'on disk, MB':>13}{'index, MB':>11}"
        f"{'building, MB':>14}{'searching, MB':>15}{'mapped, MB':>12}"
    )
    lines = [f"  {'':{NAME}}{head}"]
    for row in group["sides"]:
        if "absent" in row:
            lines.append(f"  {row['name']:{NAME}}{row['absent']}")
            continue
        build, took = row["build"], row["build"]["took"]
        rate = group["documents"] / sum(step["wall_s"] for step in took.values())
        store, index = (three(took[step]["wall_s"]) if step in took else "-" for step in ("store", "index"))
        own = "-" if build["index_bytes"] is None else f"{build['index_bytes'] / MB:,.0f}"
        lines.append(
            f"  {row['name']:{NAME}}{rate:>12,.0f}{store:>12}{index:>13}{build['bytes'] / MB:>13,.0f}{own:>11}"
            f"{build['own_mb']:>14,.0f}{row['own_mb']:>15,.0f}{row['mapped_mb']:>12,.0f}"
        )
    return "\n".join(lines)


def search_table(group: dict[str, Any], smallest: dict[str, Any]) -> str:
    """What a query takes and finds, and how that time has grown."""
    grown = "" if group is smallest else f"of {smallest['documents']:,}".rjust(12)
    lines = [f"  {'':{NAME}}{'':{SETTING}}{f'recall@{TOP}':>10}{'a query, ms':>24}{'CPU, ms':>9}{grown}"]
    before = {
        (row["side"], label(found["setting"])): milliseconds(found)
        for row in smallest["sides"]
        for found in row["settings"]
    }
    for row in group["sides"]:
        for found in row["settings"]:
            name, ms = label(found["setting"]), milliseconds(found)
            low_high = spread([statistics.median(part) for part in found["ms"] if part])
            cells = f"{found['recall']:>10.3f}{three(ms) + low_high[low_high.index(' ') :]:>24}"
            known = before.get((row["side"], name))
            times = f"{ms / known:.1f}x".rjust(12) if grown and known else ""
            lines.append(f"  {row['name']:{NAME}}{name:{SETTING}}{cells}{three(found['cpu_ms']):>9}{times}")
    return "\n".join(lines)


def title(group: dict[str, Any]) -> str:
    """What was searched."""
    made = group["documents"] - group["real"]
    added = f", {made:,} of them of their sentences put together anew" if made else ""
    return (
        f"{group['documents']:,} documents of {group['tokens'] / group['documents']:.0f} rows{added}; "
        f"{group['asked']} queries; texts {group['digest']}"
    )


def report(whole: dict[str, Any]) -> str:
    """Everything a reader needs to know what was measured, on what, and what came out."""
    box, groups = whole["machine"], whole["collections"]
    hellos = [row["hello"] for group in groups for row in group["sides"] if "build" in row]
    versions = ", ".join(dict.fromkeys(f"{name} {v}" for hello in hellos for name, v in hello["versions"].items()))
    gap = max((found["gap"] for group in groups for row in group["sides"] for found in row["settings"]), default=0.0)
    lines = [
        f"machine    {box['cpu']}, {box['cores']} cores, {' '.join(box['flags'])}; {box['system']}",
        f"           load before the run: {' '.join(f'{x:.2f}' for x in box['load'])}",
        f"versions   Python {platform.python_version()}, {versions}",
        f"build      {', '.join(f'{key}: {value}' for key, value in hellos[0]['build'].items()) if hellos else ''}",
        f"threads    {whole['threads']}: as many cores for every side",
        f"rounds     {whole['rounds']}, alternating, in which every query is asked once: the median of all "
        "(lowest-highest median of a round)",
        f"same work  rows encoded in {groups[0]['dtype']}, kept in float16, given to all; worst difference of a "
        f"score from MaxSim's, a row of the query: {gap:.1e}",
        f"depth      PlaidStore scores the best {CANDIDATES} by their rows; fast-plaid gives as many, by its residuals",
        "memory     the highest of the process, without pages of mapped files, building and searching; and these, "
        "searching",
    ]
    for group in groups:
        lines += ["", title(group), build_table(group), "", search_table(group, groups[0])]
    return "\n".join(lines)
