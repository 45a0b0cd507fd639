"""Writes checkpoints of drawn weights in the shapes of larger ColBERTs: for their speed, their rows mean nothing.

    python tests/benchmarks/encode_models.py MINILM FOLDER    # by the Python of peer-requirements.txt

`FOLDER/bert` has the shape of answerai-colbert-small-v1 (12 layers of 384, 96 values a row), `FOLDER/modernbert` that
of ModernBERT-base (22 layers of 768, every third sees all tokens, the others 64 to each side). Tokenizer, vocabulary
and settings are those of the ColBERT in the folder MINILM.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SEED = 9
Weights = dict[str, np.ndarray]


class Draw:
    """Weights as an untrained model has them: normal, of the deviation that BERT begins with."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(SEED)
        self.weights: Weights = {}

    def matrix(self, name: str, *shape: int) -> None:
        """A weight of a linear layer, or a table of embeddings."""
        self.weights[f"{name}.weight"] = self._random.normal(0, 0.02, shape).astype(np.float32)

    def linear(self, name: str, out: int, into: int) -> None:
        """A linear layer with a bias."""
        self.matrix(name, out, into)
        self.weights[f"{name}.bias"] = self._random.normal(0, 0.02, out).astype(np.float32)

    def norm(self, name: str, size: int, bias: bool) -> None:
        """The scale, and the bias if it has one, of a layer norm."""
        self.weights[f"{name}.weight"] = self._random.normal(1, 0.02, size).astype(np.float32)
        if bias:
            self.weights[f"{name}.bias"] = self._random.normal(0, 0.02, size).astype(np.float32)


def bert(minilm: dict[str, Any]) -> tuple[dict[str, Any], Weights]:
    """The configuration of MiniLM with twice its layers, and weights for it."""
    config = minilm | {"num_hidden_layers": 12}
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    draw = Draw()
    sizes = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    for kind, size in sizes.items():
        draw.matrix(f"embeddings.{kind}_embeddings", config[size], hidden)
    draw.norm("embeddings.LayerNorm", hidden, bias=True)
    for layer in (f"encoder.layer.{i}" for i in range(config["num_hidden_layers"])):
        for which in ("query", "key", "value"):
            draw.linear(f"{layer}.attention.self.{which}", hidden, hidden)
        draw.linear(f"{layer}.attention.output.dense", hidden, hidden)
        draw.norm(f"{layer}.attention.output.LayerNorm", hidden, bias=True)
        draw.linear(f"{layer}.intermediate.dense", inner, hidden)
        draw.linear(f"{layer}.output.dense", hidden, inner)
        draw.norm(f"{layer}.output.LayerNorm", hidden, bias=True)
    return config, draw.weights


def modernbert(minilm: dict[str, Any]) -> tuple[dict[str, Any], Weights]:
    """The configuration of ModernBERT-base with MiniLM's vocabulary, and weights for it."""
    layers, hidden, inner, every = 22, 768, 1152, 3
    kinds = ["sliding_attention" if i % every else "full_attention" for i in range(layers)]
    config = {
        "architectures": ["ModernBertModel"],
        "model_type": "modernbert",
        "attention_bias": False,
        "mlp_bias": False,
        "norm_bias": False,
        "norm_eps": 1e-5,
        "hidden_activation": "gelu",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 12,
        "global_attn_every_n_layers": every,
        "local_attention": 128,
        "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {"rope_theta": 160000.0, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "max_position_embeddings": 8192,
        "vocab_size": minilm["vocab_size"],
        "pad_token_id": minilm["pad_token_id"],
        "bos_token_id": None,
        "eos_token_id": None,
        "cls_token_id": 101,
        "sep_token_id": 102,
    }
    draw = Draw()
    draw.matrix("embeddings.tok_embeddings", minilm["vocab_size"], hidden)
    draw.norm("embeddings.norm", hidden, bias=False)
    for i in range(layers):
        if i:  # the embeddings' own norm stands before the first layer
            draw.norm(f"layers.{i}.attn_norm", hidden, bias=False)
        draw.matrix(f"layers.{i}.attn.Wqkv", 3 * hidden, hidden)
        draw.matrix(f"layers.{i}.attn.Wo", hidden, hidden)
        draw.norm(f"layers.{i}.mlp_norm", hidden, bias=False)
        draw.matrix(f"layers.{i}.mlp.Wi", 2 * inner, hidden)
        draw.matrix(f"layers.{i}.mlp.Wo", hidden, inner)
    draw.norm("final_norm", hidden, bias=False)
    return config, draw.weights


def write(minilm: Path, out: Path, config: dict[str, Any], weights: Weights, dim: int) -> None:
    """A ColBERT with this backbone and a drawn projection."""
    shutil.copytree(minilm, out)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    file = out / "1_Dense" / "config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings |= {"in_features": config["hidden_size"], "out_features": dim}
    file.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    draw = Draw()
    draw.matrix("linear", dim, config["hidden_size"])
    save_file(draw.weights, out / "1_Dense" / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Writes both, beside and then in place, so that what was interrupted is not taken for whole."""
    minilm, out = map(Path, sys.argv[1:])
    half = out.with_name(out.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    config = json.loads((minilm / "config.json").read_text(encoding="utf-8"))
    write(minilm, half / "bert", *bert(config), dim=96)
    write(minilm, half / "modernbert", *modernbert(config), dim=128)
    shutil.rmtree(out, ignore_errors=True)
    half.rename(out)


if __name__ == "__main__":
    main()
