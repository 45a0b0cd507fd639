"""Writes the graphs that ONNX Runtime runs, in float32 and int8, straight from a checkpoint's safetensors; no torch.

    python tests/benchmarks/onnx_graph.py CHECKPOINT FOLDER    # by the Python of peer-requirements.txt

`FOLDER/float32.onnx` is the plain graph of BERT, projection and normalisation, fused by ONNX Runtime's own transformer
optimizer; `FOLDER/int8.onnx` is that one with all its matrix products quantised dynamically, int8 weights per channel.
"""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx


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


def operators(model: "onnx.ModelProto") -> dict[str, int]:
    """How many operators of each kind a graph has."""
    found: dict[str, int] = {}
    for node in model.graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


def refuse_other(found: dict[str, int], wanted: dict[str, int], what: str) -> None:
    """Ends the run unless the graph has these operators: another would be a slower peer than there could be."""
    if any(found.get(kind) != n for kind, n in wanted.items()):
        raise SystemExit(f"ONNX Runtime's tools did not {what} the graph: it has {found}, a fair peer has {wanted}")


def fuse(checkpoint: Path, out: Path) -> "onnx.ModelProto":
    """Writes the float32 graph, fused."""
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
    wanted = {
        "Attention": layers,
        "BiasGelu": layers,
        "SkipLayerNormalization": 2 * layers,
        "EmbedLayerNormalization": 1,
    }
    refuse_other(operators(fused.model), wanted, "fuse")
    return fused.model


def quantise(fused: Path, layers: int, out: Path) -> "onnx.ModelProto":
    """Writes the int8 graph: dynamic quantisation of the fused one.

    Shape inference does not know the types of fused operators' outputs, without `DefaultTensorType` it gives up there.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = {"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True}
    quantize_dynamic(fused, out, per_channel=True, weight_type=QuantType.QInt8, extra_options=options)
    model = onnx.load(out)
    refuse_other(operators(model), {"QAttention": layers, "MatMulInteger": 3 * layers + 1}, "quantise")
    return model


def main() -> None:
    """Writes both graphs and prints, as one JSON line, how many operators of each kind they run."""
    checkpoint, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    fused = fuse(checkpoint, folder / "float32.onnx")
    layers = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    quantised = quantise(folder / "float32.onnx", layers, folder / "int8.onnx")
    print(json.dumps({"float32": operators(fused), "int8": operators(quantised)}))


if __name__ == "__main__":
    main()
