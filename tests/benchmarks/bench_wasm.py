"""The encoder in WebAssembly beside native code, candle's own model and ONNX Runtime Web, in one alternating run.

    make bench-wasm                                                # builds the package first
    python tests/benchmarks/bench_wasm.py [--only wasm-query] [--rounds 5] [--texts 60]

All but the native build runs in Node; every side has one thread, the same texts and MiniLM's real weights. The peers
are given ids: their clocks do not run for tokenising. The run fails if a side's rows are not those of the native
build. Goals are printed, reached or missed, and decide nothing.
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_encode import measure, once
from encode_cases import FLOAT32, INT8, Case, Goal, Side
from encode_report import closing, heading, outcomes, report
from harness import BUILD, HERE, ROOT, checkpoint, environment, machine, three

FOLDER = BUILD / "wasm"
OURS = ROOT / "target" / "wasm" / "nodejs"
CANDLE = HERE / "candle_wasm"
TARGET = "wasm32-unknown-unknown"
ONNXRUNTIME = "onnxruntime-web@1.30.0"
LARGEST_MB = 1.2  # of the package as it is sent


def candle_package() -> Path:
    """Makes candle's own BERT for Node, with the same instructions as ours."""
    build, out = FOLDER / "build", FOLDER / "candle"
    env = os.environ | {f"CARGO_TARGET_{TARGET.upper().replace('-', '_')}_RUSTFLAGS": "-C target-feature=+simd128"}
    cargo = ["cargo", "build", "--release", "--locked", "--quiet", "--target", TARGET, "--target-dir", build]
    subprocess.run([*cargo, "--manifest-path", CANDLE / "Cargo.toml"], check=True, env=env)
    bindgen = ["cargo", "run", "--locked", "--quiet", "-p", "chandelier-wasm-package"]
    where = [
        "--manifest-path",
        ROOT / "rust" / "wasm" / "Cargo.toml",
        "--target-dir",
        ROOT / "target" / "wasm" / "build",
    ]
    subprocess.run([*bindgen, *where, "--", build / TARGET / "release" / "candle_wasm.wasm", out], check=True)
    return out / "nodejs"


def onnxruntime_package() -> Path:
    """Fetches ONNX Runtime Web, once."""
    out = FOLDER / "onnxruntime"
    installed = out / "installed.txt"
    if not installed.exists() or installed.read_text(encoding="utf-8") != ONNXRUNTIME:
        out.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--silent", "--no-save", "--no-package-lock", "--prefix", out, ONNXRUNTIME]
        subprocess.run(npm, check=True)
        installed.write_text(ONNXRUNTIME, encoding="utf-8")
    return out


def graph(model: Path) -> Path:
    """Makes, once, the graph that bench_encode.py gives to ONNX Runtime."""
    script, out = HERE / "onnx_graph.py", BUILD / "encode" / "graphs"
    out.parent.mkdir(parents=True, exist_ok=True)
    python = environment(BUILD / "venv", HERE / "peer-requirements.txt")
    once(script, out, python, script, model, out)
    return out / f"{FLOAT32}.onnx"


def cases(model: Path, work: Path, texts: int) -> dict[str, Case]:
    """The comparisons by name."""
    native = [sys.executable, HERE / "run_encode.py", model, work, "--dtype", FLOAT32, "--threads", "1"]
    reference = Side("native float32", FLOAT32, 1, native)

    def node(name: str, side: str, dtype: str, location: Path) -> Side:
        return Side(name, dtype, 1, ["node", HERE / "wasm_worker.mjs", side, model, work, location])

    ours = [node(f"chandelier {dtype}", f"chandelier {dtype}", dtype, OURS) for dtype in (FLOAT32, INT8)]
    candle = node("candle float32", "candle", FLOAT32, candle_package())
    onnxruntime = node("ONNX Runtime Web float32", "onnxruntime", FLOAT32, onnxruntime_package())
    sides = [reference, *ours, candle, onnxruntime]
    fastest, slowest = ["chandelier float32"], "candle float32"
    return {
        "wasm": Case(
            "MiniLM-L6 in WebAssembly, in one call",
            "documents",
            model,
            texts,
            sides,
            [Goal("speed", fastest, slowest, 2.0), Goal("speed", fastest, onnxruntime.name, 1.0)],
        ),
        "wasm-query": Case(
            "MiniLM-L6 in WebAssembly, one query of 32 tokens a call",
            "one_query",
            model,
            24,
            sides,
            [Goal("query", fastest, slowest, 0.5), Goal("query", fastest, onnxruntime.name, 1.0)],
        ),
        "wasm-start": Case(
            "MiniLM-L6 in WebAssembly, a fresh process",
            "start",
            model,
            texts,
            sides,
            [Goal("start", fastest, onnxruntime.name, 1.0)],
        ),
    }


def sizes() -> str:
    """What a browser fetches of ours, and of ONNX Runtime Web."""
    web = OURS.with_name("web")
    ours = [web / "chandelier.js", web / "chandelier_bg.wasm"]
    dist = FOLDER / "onnxruntime" / "node_modules" / "onnxruntime-web" / "dist"
    theirs = [dist / "ort.wasm.bundle.min.mjs", dist / "ort-wasm-simd-threaded.wasm"]

    def megabytes(files: list[Path], compressed: bool) -> float:
        contents = (file.read_bytes() for file in files)
        return sum(len(gzip.compress(content, 9) if compressed else content) for content in contents) / 1e6

    compressed = megabytes(ours, True)
    return "\n".join(
        [
            f"size       chandelier {compressed:.2f} MB compressed ({three(megabytes(ours, False))} MB); "
            f"goal <= {LARGEST_MB}: {'reached' if compressed <= LARGEST_MB else 'MISSED'}",
            f"           ONNX Runtime Web {three(megabytes(theirs, True))} MB ({three(megabytes(theirs, False))} MB)",
        ]
    )


def main() -> None:
    """Prepares what is missing, measures each case, prints the report."""
    names = ("wasm", "wasm-query", "wasm-start")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--texts", type=int, default=60, help="default: 60")
    args = parser.parse_args()
    if not (args.rounds >= 1 and args.texts >= 1):
        parser.error("wanted at least 1 round and 1 text")
    model = checkpoint(sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copyfile(graph(model), work / "graph.onnx")
        wanted = cases(model, work, args.texts)
        whole: dict[str, Any] = {"machine": machine(), "python": platform.python_version(), "operators": {}}
        whole |= {"threads": 1, "rounds": args.rounds, "cases": {}}
        came = []
        print(heading(whole), sizes(), sep="\n", flush=True)
        for name in args.only:
            print(f"bench: {name}", file=sys.stderr)
            found = whole["cases"][name] = measure(wanted[name], work, args.rounds, None)
            came += outcomes(wanted[name], found)
            print(report(wanted[name], found), flush=True)
        (FOLDER / "result.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        print(closing(whole, came))


if __name__ == "__main__":
    main()
