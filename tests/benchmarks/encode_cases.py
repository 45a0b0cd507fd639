"""What bench_encode.py measures: for every comparison its model, its sides and its goals."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import HERE

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
# How many texts are padded to one length for a peer: of fewer texts fewer, or padding would be half of its work.
BATCH = {"minilm": 32, "bert": 8, "modernbert": 4}
REDUCED = (f"chandelier {BFLOAT16}", f"chandelier {INT8}")


@dataclass(frozen=True)
class Side:
    """One worker.

    Args:
        name: In the table.
        dtype: What it computes in: float32 rows have to equal chandelier's, others to resemble them.
        threads: How many it may use.
        command: Starts it.
        batch: How many texts are padded to one length for it, if they are.
    """

    name: str
    dtype: str
    threads: int
    command: list[str | Path]
    batch: int | None = None


@dataclass(frozen=True)
class Goal:
    """What a figure should be, alone or as a multiple of another side's.

    Args:
        figure: Which, see FIGURES in encode_report.py.
        of: The side; of several the best counts.
        beside: The side that it is divided by, if any.
        limit: The goal; None where this machine has none.
        note: Why it has none, or when it does not count.
        if_scaling: It counts only where the machine's own multiply-adds scale as well.
    """

    figure: str
    of: Sequence[str]
    beside: str | None
    limit: float | None
    note: str = ""
    if_scaling: bool = False


@dataclass(frozen=True)
class Case:
    """One comparison: all its sides take turns in one run.

    Args:
        title: Says what is encoded.
        kind: `documents` (all in one call), `one_query` (a call each) or `start` (a fresh process each time).
        model: The checkpoint's folder.
        documents: How many texts.
        sides: The first is chandelier in float32, whose rows are the reference.
        goals: What should come out.
    """

    title: str
    kind: str
    model: Path
    documents: int
    sides: list[Side]
    goals: list[Goal] = field(default_factory=list)


@dataclass(frozen=True)
class Setting:
    """Where everything is.

    Args:
        work: The folder of texts and ids that the workers read.
        models: The checkpoints by name: `minilm`, `bert`, `modernbert`.
        graphs: The folder of ONNX Runtime's graphs.
        onnx_python: Has ONNX Runtime; None if no case that needs it is wanted.
        torch_python: Has PyLate, transformers and torch; None likewise.
        threads: Of every side, where a case does not say otherwise.
        flags: What the processor has.
    """

    work: Path
    models: dict[str, Path]
    graphs: Path
    onnx_python: Path | None
    torch_python: Path | None
    threads: int
    flags: Sequence[str]

    def chandelier(self, model: str, dtype: str, threads: int | None = None) -> Side:
        """chandelier; its threads are named if the case says them."""
        name = f"chandelier {dtype}" + (f", {threads} thread{'s' * (threads > 1)}" if threads else "")
        threads = threads or self.threads
        script: list[str | Path] = [sys.executable, HERE / "run_encode.py", self.models[model], self.work]
        return Side(name, dtype, threads, [*script, "--dtype", dtype, "--threads", str(threads)])

    def onnxruntime(self, dtype: str) -> Side:
        """ONNX Runtime on MiniLM."""
        assert self.onnx_python
        graph = self.graphs / f"{dtype}.onnx"
        script: list[str | Path] = [self.onnx_python, HERE / "peer_onnxruntime.py", graph, self.models["minilm"]]
        command = [*script, self.work, "--batch", str(BATCH["minilm"]), "--threads", str(self.threads)]
        return Side(f"ONNX Runtime {dtype}", dtype, self.threads, command, BATCH["minilm"])

    def torch(self, model: str, dtype: str) -> Side:
        """transformers' own model on torch."""
        assert self.torch_python
        script: list[str | Path] = [self.torch_python, HERE / "peer_torch.py", self.models[model], self.work]
        command = [*script, "--dtype", dtype, "--batch", str(BATCH[model]), "--threads", str(self.threads)]
        return Side(f"torch {dtype}", dtype, self.threads, command, BATCH[model])

    def pylate(self) -> Side:
        """PyLate on MiniLM, in float32."""
        assert self.torch_python
        script: list[str | Path] = [self.torch_python, HERE / "peer_pylate.py", self.models["minilm"], self.work]
        return Side("PyLate float32", FLOAT32, self.threads, [*script, "--threads", str(self.threads)])


# The cases by name, and what has to be made for them: ONNX Runtime's environment and graphs, the environment of PyLate
# and torch, the models of drawn weights.
CASES = {
    "minilm": {"onnx", "torch"},
    "query": {"onnx"},
    "bert": {"drawn", "torch"},
    "modernbert": {"drawn", "torch"},
    "start": {"onnx", "torch"},
    "threads": set[str](),
}
DRAWN = ("bert", "modernbert")


def case(name: str, at: Setting, documents: int) -> Case:
    """A case by its name, with so many texts."""
    makers = {"minilm": minilm, "query": query, "start": start, "threads": threads}
    return makers[name](at, documents) if name in makers else drawn(name, at, documents)


def minilm(at: Setting, documents: int) -> Case:
    """Real weights and texts, beside everything that encodes them without a GPU."""
    bfloat16 = 2.2 if "amx_bf16" in at.flags else None
    int8 = 4.0 if "amx_int8" in at.flags else 2.0 if "avx512_vnni" in at.flags else None
    ours = [at.chandelier("minilm", dtype) for dtype in (FLOAT32, BFLOAT16, INT8)]
    peers = [at.onnxruntime(FLOAT32), at.onnxruntime(INT8), at.pylate(), at.torch("minilm", BFLOAT16)]
    goals = [
        Goal("speed", ["chandelier float32"], "ONNX Runtime float32", 2.0),
        Goal("speed", ["chandelier float32"], "PyLate float32", 3.5),
        Goal("of_peak", ["chandelier float32"], None, 70.0),
        Goal("speed", ["chandelier bfloat16"], "torch bfloat16", bfloat16, "2.2x with AMX"),
        Goal("speed", ["chandelier int8"], "ONNX Runtime int8", int8, "4x with AMX, 2x with AVX-512 VNNI"),
    ]
    return Case(
        "MiniLM-L6 (6 x 384), real weights", "documents", at.models["minilm"], documents, [*ours, *peers], goals
    )


def query(at: Setting, documents: int) -> Case:
    """One call a query."""
    ours = [at.chandelier("minilm", dtype) for dtype in (FLOAT32, BFLOAT16, INT8)]
    peers = [at.onnxruntime(FLOAT32), at.onnxruntime(INT8)]
    goals = [
        Goal("query", ["chandelier float32"], "ONNX Runtime float32", 0.5),
        Goal("query", REDUCED, "ONNX Runtime int8", 0.4),
    ]
    return Case(
        "MiniLM-L6, one query of 32 tokens a call", "one_query", at.models["minilm"], 24, [*ours, *peers], goals
    )


def drawn(name: str, at: Setting, documents: int) -> Case:
    """A larger model, whose weights are drawn."""
    titles = {"bert": "BERT 12 x 384, drawn weights", "modernbert": "ModernBERT-base (22 x 768), drawn weights"}
    ours = [at.chandelier(name, dtype) for dtype in (FLOAT32, BFLOAT16, INT8)]
    peers = [at.torch(name, dtype) for dtype in (FLOAT32, BFLOAT16)]
    goals = [
        Goal("speed", ["chandelier float32"], "torch float32", 2.5),
        Goal("speed", REDUCED, "torch bfloat16", 1.8),
    ]
    return Case(titles[name], "documents", at.models[name], documents, [*ours, *peers], goals)


def start(at: Setting, documents: int) -> Case:
    """A fresh process until its first query is encoded, and the most memory it has taken once all texts are."""
    sides = [at.chandelier("minilm", FLOAT32), at.onnxruntime(FLOAT32), at.pylate()]
    goals = [
        Goal("start", ["chandelier float32"], None, 150.0),
        Goal("memory", ["chandelier float32"], None, 250.0),
    ]
    return Case("MiniLM-L6, a fresh process", "start", at.models["minilm"], documents, sides, goals)


def threads(at: Setting, documents: int) -> Case:
    """chandelier beside itself."""
    pairs = [(dtype, n) for dtype in (FLOAT32, INT8) for n in (1, 2)]
    sides = [at.chandelier("minilm", dtype, n) for dtype, n in pairs]
    goals = [
        Goal("speed", [f"chandelier {dtype}, 2 threads"], f"chandelier {dtype}, 1 thread", 1.8, if_scaling=True)
        for dtype in (FLOAT32, INT8)
    ]
    return Case("MiniLM-L6, 1 and 2 threads", "documents", at.models["minilm"], documents, sides, goals)


def gflop(model: Path, lengths: Sequence[int]) -> float:
    """Of the matrix products for texts of these many tokens, padding not counted: what `make profile` counts."""
    config: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    dense: dict[str, Any] = json.loads((model / "1_Dense" / "config.json").read_text(encoding="utf-8"))
    hidden, inner, layers = (config[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    gated = config["model_type"] == "modernbert"
    weights = layers * (4 * hidden * hidden + (3 if gated else 2) * hidden * inner) + hidden * dense["out_features"]
    seen = 0
    for layer in range(layers):
        local = gated and layer % config["global_attn_every_n_layers"] != 0
        reach = config["local_attention"] // 2 if local else max(lengths)
        seen += sum(min(n, i + reach + 1) - max(0, i - reach) for n in lengths for i in range(n))
    return (2 * weights * sum(lengths) + 4 * hidden * seen) / 1e9
