"""ONNX Runtime as a peer: the same BERT, projection and normalisation, on padded batches, in an environment of its own.

``build`` writes a plain ONNX graph straight from the checkpoint's safetensors and lets ONNX Runtime's own
transformer optimizer fuse it; ``serve`` answers the commands of worker.py. Neither needs torch.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker import read_ids, serve

if TYPE_CHECKING:
    import numpy as np
    import onnx

BATCH = 32


class Graph:
    """A plain ONNX graph of standard operators, laid out the way exported BERT models are, so that fusion knows it."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def const(self, name: str, value: "np.ndarray") -> str:
        """Adds a constant and returns its name."""
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator whose only output bears its own name, and returns that name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def f32(self, name: str, value: float) -> str:
        """Adds a number."""
        import numpy as np

        return self.const(name, np.array(value, np.float32))

    def i64(self, name: str, value: int | list[int] | list[list[int]]) -> str:
        """Adds whole numbers."""
        import numpy as np

        return self.const(name, np.array(value, np.int64))


def add_bert(g: Graph, config: dict[str, Any], weights: "dict[str, np.ndarray]") -> str:
    """BERT over input_ids, token_type_ids and attention_mask; returns the name of its rows, (batch, n, hidden)."""
    import numpy as np
    from onnx import TensorProto

    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    f32, i64 = g.f32, g.i64

    def linear(name: str, x: str, path: str) -> str:
        matrix = g.const(f"{name}.weight", np.ascontiguousarray(weights[f"{path}.weight"].T))
        product = g.op("MatMul", f"{name}.matmul", x, matrix)
        return g.op("Add", name, product, g.const(f"{name}.bias", weights[f"{path}.bias"]))

    def layer_norm(name: str, x: str, path: str) -> str:
        scale, bias = (g.const(f"{name}.{kind}", weights[f"{path}.{kind}"]) for kind in ("weight", "bias"))
        return g.op("LayerNormalization", name, x, scale, bias, axis=-1, epsilon=config["layer_norm_eps"])

    zero, one = i64("zero", [0]), i64("one", [1])
    split, merged = i64("split_heads", [0, 0, heads, hidden // heads]), i64("merge_heads", [0, 0, hidden])
    one_f32, half, root2 = f32("one_f32", 1.0), f32("half", 0.5), f32("root2", math.sqrt(2))
    scale = f32("scale", math.sqrt(hidden // heads))

    length = g.op("Gather", "length", g.op("Shape", "shape", "input_ids"), i64("second", 1), axis=0)
    all_positions = i64("all_positions", [list(range(config["max_position_embeddings"]))])
    positions = g.op("Slice", "positions", all_positions, zero, g.op("Unsqueeze", "end", length, zero), one, one)
    tables = {
        kind: g.const(kind, weights[f"embeddings.{kind}_embeddings.weight"])
        for kind in ("word", "token_type", "position")
    }
    word = g.op("Gather", "word_rows", tables["word"], "input_ids", axis=0)
    kind = g.op("Gather", "token_type_rows", tables["token_type"], "token_type_ids", axis=0)
    place = g.op("Gather", "position_rows", tables["position"], positions, axis=0)
    summed = g.op("Add", "rows", g.op("Add", "typed_rows", word, kind), place)
    x = layer_norm("embeddings", summed, "embeddings.LayerNorm")

    wide = g.op("Unsqueeze", "mask_heads", g.op("Unsqueeze", "mask_rows", "attention_mask", one), i64("two", [2]))
    seen = g.op("Cast", "mask_f32", wide, to=TensorProto.FLOAT)
    mask = g.op("Mul", "mask", g.op("Sub", "unseen", one_f32, seen), f32("masked", -10000.0))

    for i in range(config["num_hidden_layers"]):
        path, n = f"encoder.layer.{i}", f"layer{i}"

        def head(which: str, order: list[int], x: str = x, path: str = path, n: str = n) -> str:
            rows = linear(f"{n}.{which}", x, f"{path}.attention.self.{which}")
            parted = g.op("Reshape", f"{n}.{which}.split", rows, split)
            return g.op("Transpose", f"{n}.{which}.heads", parted, perm=order)

        query, key, value = head("query", [0, 2, 1, 3]), head("key", [0, 2, 3, 1]), head("value", [0, 2, 1, 3])
        scores = g.op("Div", f"{n}.scores", g.op("MatMul", f"{n}.qk", query, key), scale)
        share = g.op("Softmax", f"{n}.softmax", g.op("Add", f"{n}.masked", scores, mask), axis=-1)
        mixed = g.op("Transpose", f"{n}.mixed", g.op("MatMul", f"{n}.sv", share, value), perm=[0, 2, 1, 3])
        out = linear(f"{n}.out", g.op("Reshape", f"{n}.merged", mixed, merged), f"{path}.attention.output.dense")
        x = layer_norm(f"{n}.norm1", g.op("Add", f"{n}.skip1", out, x), f"{path}.attention.output.LayerNorm")
        up = linear(f"{n}.up", x, f"{path}.intermediate.dense")
        erf = g.op("Erf", f"{n}.erf", g.op("Div", f"{n}.scaled", up, root2))
        gate = g.op("Mul", f"{n}.gate", up, g.op("Add", f"{n}.erf1", erf, one_f32))
        down = linear(f"{n}.down", g.op("Mul", f"{n}.gelu", gate, half), f"{path}.output.dense")
        x = layer_norm(f"{n}.norm2", g.op("Add", f"{n}.skip2", down, x), f"{path}.output.LayerNorm")
    return x


def add_projection(g: Graph, x: str, dense: "np.ndarray") -> str:
    """ColBERT's rows of BERT's: projected, of unit length."""
    import numpy as np

    rows = g.op("MatMul", "projected", x, g.const("dense", np.ascontiguousarray(dense.T)))
    norm = g.op("ReduceL2", "norm", rows, axes=[-1], keepdims=1)
    return g.op("Div", "vectors", rows, g.op("Max", "floored_norm", norm, g.f32("tiny", 1e-12)))


def build_graph(checkpoint: Path) -> "onnx.ModelProto":
    """BERT + Dense + L2 normalisation over (input_ids, token_type_ids, attention_mask), int32, to (batch, n, dim)."""
    from onnx import TensorProto, helper
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    weights = load_file(checkpoint / "model.safetensors")
    dense = load_file(checkpoint / "1_Dense" / "model.safetensors")["linear.weight"]
    g = Graph()
    vectors = add_projection(g, add_bert(g, config, weights), dense)

    def int32(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "length"])

    graph = helper.make_graph(
        g.nodes,
        "bert",
        [int32("input_ids"), int32("token_type_ids"), int32("attention_mask")],
        [helper.make_tensor_value_info(vectors, TensorProto.FLOAT, ["batch", "length", len(dense)])],
        g.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def build(checkpoint: Path, out: Path) -> None:
    """Writes the fused graph and prints, as one JSON line, how many operators of each kind it runs."""
    import onnx
    from onnxruntime.transformers import optimizer

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    plain = out.with_suffix(".plain.onnx")
    onnx.save(build_graph(checkpoint), plain)
    onnx.checker.check_model(plain)
    heads, hidden, layers = (config[key] for key in ("num_attention_heads", "hidden_size", "num_hidden_layers"))
    fused = optimizer.optimize_model(str(plain), model_type="bert", num_heads=heads, hidden_size=hidden, opt_level=0)
    fused.save_model_to_file(str(out))
    plain.unlink()
    found = {kind: n for kind, n in fused.get_fused_operator_statistics().items() if n}
    wanted = {
        "Attention": layers,
        "BiasGelu": layers,
        "SkipLayerNormalization": 2 * layers,
        "EmbedLayerNormalization": 1,
    }
    if any(found.get(kind) != n for kind, n in wanted.items()):
        raise SystemExit(f"the optimizer did not fuse the graph: it found {found}, a fair peer has {wanted}")
    rest: dict[str, int] = {}
    for node in fused.model.graph.node:
        rest[node.op_type] = rest.get(node.op_type, 0) + 1
    print(json.dumps({"fused": found, "operators": rest}))


def run(model: Path, ids_file: str, threads: int) -> None:
    """Loads the fused graph and answers the commands of worker.py; ``rows PATH`` writes every vector for comparison."""
    start = time.perf_counter()
    import numpy as np

    numpy_s, start = time.perf_counter() - start, time.perf_counter()
    import onnxruntime

    import_s, start = time.perf_counter() - start, time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    load_s = time.perf_counter() - start

    # Padded ahead of time and outside the clock: nothing is timed but the session's own run.
    def padded(rows: list[list[int]], attended: list[int]) -> dict[str, Any]:
        ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : attended[i]] = 1
        return {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": mask}

    def batches(rows: list[list[int]], attended: list[int]) -> list[tuple[list[int], dict[str, Any]]]:
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        chunks = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        return [(chunk, padded([rows[i] for i in chunk], [attended[i] for i in chunk])) for chunk in chunks]

    ids = read_ids(ids_file)
    query_ids = [q["ids"] for q in ids["queries"]]
    query_attended = [q["attended"] for q in ids["queries"]]
    documents = batches(ids["documents"], list(map(len, ids["documents"])))
    queries = batches(query_ids, query_attended)
    single = [padded([row], [n]) for row, n in zip(query_ids, query_attended, strict=True)]

    def encode(prepared: list[tuple[list[int], dict[str, Any]]], rows: list[list[int]]) -> list[Any]:
        vectors: list[Any] = [None] * len(rows)
        for chunk, feeds in prepared:
            (out,) = session.run(None, feeds)
            for i, matrix in zip(chunk, out, strict=True):
                vectors[i] = matrix[: len(rows[i])]
        return vectors

    def save_rows(path: str) -> dict[str, Any]:
        found = {"documents": encode(documents, ids["documents"]), "queries": encode(queries, query_ids)}
        np.savez(path, documents=np.concatenate(found["documents"]), queries=np.concatenate(found["queries"]))
        return {"rows": sum(map(len, found["documents"]))}

    hello = {
        "versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
        "numpy_s": numpy_s,
        "import_s": import_s,
        "load_s": load_s,
    }
    serve(
        hello,
        documents=lambda: encode(documents, ids["documents"]),
        queries=lambda: encode(queries, query_ids),
        one_query=lambda i: session.run(None, single[i]),
        n_queries=len(single),
        rows=save_rows,
    )


def main() -> None:
    """Runs one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="checkpoint folder to a fused ONNX file")
    one.add_argument("checkpoint", type=Path)
    one.add_argument("out", type=Path)
    two = commands.add_parser("serve", help="answer the commands of worker.py")
    two.add_argument("model", type=Path)
    two.add_argument("ids")
    two.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    if args.command == "build":
        build(args.checkpoint, args.out)
    else:
        run(args.model, args.ids, args.threads)


if __name__ == "__main__":
    main()
