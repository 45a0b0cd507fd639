"""The benchmarks of the encoder, the maths and the stores run and catch wrong results: tiny inputs, no other peers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from chandelier import ColBERT

if TYPE_CHECKING:
    from encode_cases import Setting  # benchmarks are scripts, importable from their folder only

MATHS = ("maxsim", "maxsim_float16", "maxsim_ragged", "top_k", "maxsim_matrix")


@pytest.fixture
def benchmarks(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "tests" / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def command(benchmarks: Path) -> list[str]:
    options = ["--quick", "--rounds", "1", "--seconds", "0", "--peer-python", sys.executable]
    return [sys.executable, str(benchmarks / "bench_maths.py"), *options]


def test_the_maths_benchmark_runs_and_every_score_is_held_against_a_reference(command: list[str]) -> None:
    run = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["hello"]["numpy"]["versions"]["numpy"] == np.__version__
    for group in MATHS:
        rows = found["rows"][group]
        assert {"chandelier", "numpy"} <= {row["side"] for row in rows}
        assert all(row["gap"] is not None and row["gap"] < 1e-5 for row in rows)
        assert all(len(row["wall_s"]) == len(row["cpu_s"]) == 1 and row["wall_s"][0] > 0 for row in rows)
    for group in ("fde_documents", "fde_queries", "pool_72", "pool_180", "pool_300"):
        assert found["rows"][group][0]["side"] == "chandelier", group
    assert {row["dtype"] for row in found["memory"] if row["side"] == "chandelier"} == {"float32", "float16"}


def test_the_table_names_what_it_measured_and_what_is_absent(command: list[str]) -> None:
    run = subprocess.run([*command, "--only", "maxsim", "--no-memory"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "chandelier, MultiVectors" in run.stdout
    assert "pylate (BENCH_PYLATE_PYTHON names no Python that has it)" in run.stdout
    assert "MUVERA" not in run.stdout


def test_a_result_off_its_reference_ends_the_run(command: list[str], tmp_path: Path) -> None:
    # The peers' Python, which also makes the references, here spoils one when they are made.
    spoil = "import sys, numpy; f = sys.argv[1] + '/references.npz'; r = dict(numpy.load(f)); r['maxsim.0'] *= 1.001; "
    spoil += "numpy.savez(f, **r)"
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n"{sys.executable}" "$@" || exit\n'
        f'case "$1" in *maths_references.py) exec "{sys.executable}" -c "{spoil}" "$2";; esac\n'
    )
    python.chmod(0o755)
    spoiled = [*command, "--only", "maxsim", "--no-memory", "--peer-python", str(python)]
    run = subprocess.run(spoiled, capture_output=True, text=True)
    assert run.returncode == 1
    assert "chandelier, MultiVectors: maxsim is 1.0e-03 off the reference" in run.stderr
    assert run.stdout == ""


@pytest.mark.parametrize(
    "found",
    [
        (np.array([1.0, 2.1]),),
        (np.array([1.0, np.nan]),),
        (np.array([1.0]),),
        (np.array([1.0, 2.0]), np.array([3.0])),
        (),
    ],
)
def test_no_difference_passes(benchmarks: Path, found: tuple[np.ndarray, ...]) -> None:
    from maths_worker import worst_gap

    wanted = (np.array([1.0, 2.0]),)
    assert worst_gap(wanted, wanted) == 0
    assert worst_gap(found, wanted) > 1e-5


@pytest.fixture
def stores_command(benchmarks: Path, root: Path) -> list[str]:
    model = root / "tests" / "goldens" / "a_bert_pylate" / "checkpoint"
    options = ["--quick", "--rounds", "1", "--seconds", "0", "--model", str(model)]
    return [sys.executable, str(benchmarks / "bench_stores.py"), *options]


def test_the_stores_benchmark_runs_and_every_score_is_held_against_a_reference(stores_command: list[str]) -> None:
    command = [*stores_command, "--json", "--only", "index", "search"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert {row["name"] for row in found["index"]} >= {"LocalStore", "Qdrant local mode", "QdrantStore, gRPC"}
    assert all(took["encode"]["cpu_s"] > 0 for row in found["index"] for took in row["rounds"])
    assert [(group["documents"], group["filtered"]) for group in found["search"]] == [
        (12, False), (12, True), (40, False), (40, True)
    ]  # fmt: skip
    for group in found["search"]:
        assert {"LocalStore", "LocalStore, float16", "Qdrant local mode"} <= {side["name"] for side in group["sides"]}
        assert all(side["gap"] < 5e-4 and len(side["wall_s"]) == 1 for side in group["sides"])


def test_the_stores_benchmark_sends_the_same_bits_by_every_way(stores_command: list[str]) -> None:
    run = subprocess.run([*stores_command, "--only", "upload"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert re.findall(r"^  (.*), (REST|gRPC) .*x$", run.stdout, re.MULTILINE) == [
        (side, protocol) for protocol in ("REST", "gRPC") for side in ("QdrantStore", "PointStruct of rows.tolist()")
    ]


def test_a_score_off_its_reference_ends_the_run(stores_command: list[str], tmp_path: Path) -> None:
    # The Python of the sides, which also makes the references, here spoils one when they are made.
    spoil = "import sys, numpy; f = sys.argv[1]; numpy.savez(f, scores=numpy.load(f)['scores'] + 0.01)"
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n"{sys.executable}" "$@" || exit\n'
        f'case "$1" in *stores_references.py) exec "{sys.executable}" -c "{spoil}" "$2";; esac\n'
    )
    python.chmod(0o755)
    run = subprocess.run([*stores_command, "--only", "search", "--python", str(python)], capture_output=True, text=True)
    assert run.returncode == 1
    assert "LocalStore, 12 documents: 2.5e-03 off the reference" in run.stderr


@pytest.mark.usefixtures("start_weaviate")  # fails in CI without a server, else skips
def test_the_stores_benchmark_measures_recall_at_each_depth(stores_command: list[str]) -> None:
    run = subprocess.run([*stores_command, "--json", "--only", "candidates"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    exact, *others = json.loads(run.stdout)["candidates"]
    assert (exact["name"], exact["depths"][0]["recall"]) == ("LocalStore, all documents", 1)
    assert {row["name"] for row in others} >= {"Weaviate, index of all rows", "Weaviate, MUVERA, 2,560"}
    for row in others:
        recall = {found["depth"]: found["recall"] for found in row["depths"]}
        assert recall[500] == 1, f"{row['name']}: the depth is above the number of passages"
        assert 0.2 < recall[20] <= 1
        assert row["fill"]["cpu_s"] > 0


@pytest.fixture
def encode_command(benchmarks: Path, root: Path) -> list[str]:
    model = root / "tests" / "goldens" / "a_bert_pylate" / "checkpoint"
    options = ["--only", "threads", "--rounds", "2", "--texts", "8", "--model", str(model)]
    return [sys.executable, str(benchmarks / "bench_encode.py"), *options]


def test_the_encode_benchmark_runs_and_every_row_is_held_against_float32(encode_command: list[str]) -> None:
    run = subprocess.run([*encode_command, "--json"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)["cases"]["threads"]
    assert found["gaps"]["chandelier float32, 2 threads"]["worst_gap"] == 0
    assert 0 < found["gaps"]["chandelier int8, 1 thread"]["worst_gap"] < 0.1
    assert {name: len(side["speed"]) for name, side in found["found"].items()} == {
        f"chandelier {side}": 2
        for side in ("float32, 1 thread", "float32, 2 threads", "int8, 1 thread", "int8, 2 threads")
    }


@pytest.mark.parametrize(("computed", "claimed"), [("float32", "float32"), ("int8", "int8"), ("int8", "float32")])
def test_a_side_whose_rows_are_others_ends_the_run(
    benchmarks: Path, encode_command: list[str], tmp_path: Path, computed: str, claimed: str
) -> None:
    from bench_encode import check
    from encode_cases import Side
    from harness import Worker

    texts = {"documents": ["one text", "another, longer text"], "queries": ["which"]}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    worker: list[str | Path] = [sys.executable, benchmarks / "run_encode.py", encode_command[-1], tmp_path]
    command = [*worker, "--threads", "1", "--dtype"]
    with Worker([*command, "float32"], 1) as reference, Worker([*command, computed], 1) as other:
        side = Side("a side", claimed, 1, [])
        if computed == claimed:
            assert check(tmp_path, side, reference, other)["mean_cosine"] > 0.99
        else:
            with pytest.raises(SystemExit, match="a side: its rows are not chandelier's"):
                check(tmp_path, side, reference, other)


def test_a_goal_is_reached_missed_or_not_judged(benchmarks: Path) -> None:
    from encode_cases import Goal
    from encode_report import outcome

    found = {
        "ours": {"speed": [30.0, 33.0], "speed_cpu": [15.0, 16.0], "query": [5.0, 5.0], "query_cpu": [5.0, 5.0]},
        "reduced": {"speed": [60.0, 60.0], "speed_cpu": [30.0, 30.0], "query": [4.0, 4.0], "query_cpu": [4.0, 4.0]},
        "peer": {"speed": [15.0, 15.0], "speed_cpu": [8.0, 8.0], "query": [10.0, 10.0], "query_cpu": [20.0, 20.0]},
    }
    reached = outcome(Goal("speed", ["ours"], "peer", 2.0), found, None)
    assert reached.reached
    assert "2.10 (2.00-2.20)x, by CPU 1.94x; goal >= 2x: reached" in reached.text
    assert outcome(Goal("speed", ["ours"], "peer", 2.2), found, None).reached is False
    assert outcome(Goal("speed", ["ours", "reduced"], "peer", 4.0), found, None).reached
    assert outcome(Goal("query", ["ours"], "peer", 0.5), found, None).reached
    assert outcome(Goal("query", ["ours", "reduced"], "peer", 0.39), found, None).reached is False
    fastest = outcome(Goal("query", ["ours", "reduced"], "peer", 0.45), found, None)
    assert fastest.reached
    assert "reduced / peer" in fastest.text
    assert outcome(Goal("speed", ["ours"], "peer", None, "with AMX"), found, None).reached is None
    scaling = Goal("speed", ["ours"], "peer", 2.5, if_scaling=True)
    assert outcome(scaling, found, 1.3).reached is None
    assert outcome(scaling, found, 2.6).reached is False


def setting(tmp_path: Path, *flags: str) -> Setting:
    """A setting of a machine with these flags, to look at what its cases are: nothing is started."""
    from encode_cases import Setting

    models = {name: tmp_path / name for name in ("minilm", "bert", "modernbert")}
    return Setting(tmp_path, models, tmp_path, Path("python"), Path("python"), 2, flags)


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(
    ("flags", "int8", "bfloat16"),
    [
        ((), None, None),
        (("avx2", "avx_vnni"), None, None),
        (("avx512f", "avx512_vnni", "avx512_bf16"), 2.0, None),
        (("avx512f", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8"), 4.0, 2.2),
    ],
)
def test_goals_of_reduced_precision_hang_on_the_instructions(
    tmp_path: Path, flags: tuple[str, ...], int8: float | None, bfloat16: float | None
) -> None:
    from encode_cases import case

    limits = {goal.of[0]: goal.limit for goal in case("minilm", setting(tmp_path, *flags), 600).goals}
    assert limits["chandelier int8"] == int8
    assert limits["chandelier bfloat16"] == bfloat16


@pytest.mark.usefixtures("benchmarks")
def test_padding_is_counted_as_it_is_made() -> None:
    from padding import added, batches

    lengths = [3, 9, 1, 4, 5]
    texts = [{"ids": [7] * length, "attended": length} for length in lengths]
    made = batches(texts, 2)
    assert [batch.texts for batch in made] == [[1, 4], [3, 0], [2]]
    assert sum(batch.ids.size for batch in made) == 27
    assert sum(batch.mask.sum() for batch in made) == 22
    assert added(lengths, 2) == pytest.approx(5 / 22)


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize("name", ["minilm", "bert", "modernbert"])
def test_padding_is_a_small_part_of_what_a_peer_computes(tmp_path: Path, minilm: ColBERT, name: str) -> None:
    """With the texts of a whole run; 32 of the 24 texts of ModernBERT would be all of them, padded to the longest."""
    import corpus
    from bench_encode import PARTS
    from encode_cases import case
    from padding import added

    of = case(name, setting(tmp_path), 600 // PARTS.get(name, 1))
    lengths = [len(tokens.ids) for tokens in minilm.tokenize_documents(corpus.documents(of.documents))]
    peers = [side for side in of.sides if side.batch]
    assert len(peers) == {"minilm": 3, "bert": 2, "modernbert": 2}[name]
    for side in peers:
        assert side.command[side.command.index("--batch") + 1] == str(side.batch)
        assert added(lengths, side.batch) < 0.15, side.name
        print(f"{side.name}: {added(lengths, side.batch):.3f}")


def test_the_report_says_how_much_padding_adds(tmp_path: Path, benchmarks: Path) -> None:
    from encode_cases import case
    from encode_report import report

    found = {"chandelier float32": {"speed": [2.0], "speed_cpu": [1.0]}}
    result = {"documents": 2, "tokens": 3.0, "texts": "0", "found": found, "gaps": {}, "peaks": {}, "padding": {}}
    of = replace(case("bert", setting(tmp_path), 2), goals=[])
    assert "padding" not in report(of, result)
    assert "  padding adds to the tokens of torch float32 12%" in report(
        of, result | {"padding": {"torch float32": 0.123}}
    )


@pytest.mark.parametrize("backbone", ["bert", "modernbert"])
def test_operations_are_counted_as_the_layers_have_them(benchmarks: Path, tmp_path: Path, backbone: str) -> None:
    """By hand: 3 layers of 8 values, 16 within, 4 a row; a text of 5 tokens; local layers see 1 token to each side."""
    from encode_cases import gflop

    config = {"model_type": backbone, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3}
    config |= {"global_attn_every_n_layers": 2, "local_attention": 2}
    (tmp_path / "1_Dense").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "1_Dense" / "config.json").write_text(json.dumps({"out_features": 4}))
    products = {"bert": 3 * (4 * 8 * 8 + 2 * 8 * 16) + 8 * 4, "modernbert": 3 * (4 * 8 * 8 + 3 * 8 * 16) + 8 * 4}
    seen = {"bert": 3 * 25, "modernbert": 2 * 25 + 13}
    assert gflop(tmp_path, [5]) * 1e9 == pytest.approx(2 * 5 * products[backbone] + 4 * 8 * seen[backbone])
