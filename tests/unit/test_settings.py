"""Settings of a checkpoint that no golden exercises: each is changed in a copy, and its effect is computed apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from chandelier import ColBERT

GOLDEN = Path(__file__).parents[1] / "goldens" / "a_bert_pylate" / "checkpoint"
TEXTS = ["Paris is the capital of France, and Berlin is not.", "", "the lighthouse keeper lights the lamp"]
HIDDEN = 48

Array = npt.NDArray[np.float64]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN, tmp_path / "checkpoint")


def put(file: Path, **values: object) -> None:
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**old, **values}), encoding="utf-8")


def put_dense(folder: Path, name: str, activation: str, tensors: dict[str, Array], **config: object) -> None:
    out_features, in_features = tensors["linear.weight"].shape
    (folder / name).mkdir(exist_ok=True)
    save_file(
        {key: np.ascontiguousarray(t, np.float32) for key, t in tensors.items()}, folder / name / "model.safetensors"
    )
    put(
        folder / name / "config.json",
        in_features=in_features,
        out_features=out_features,
        bias="linear.bias" in tensors,
        activation_function=f"torch.nn.modules.{activation}",
        **config,
    )


def put_modules(folder: Path, *dense: str) -> None:
    types = [("", "sentence_transformers.models.Transformer"), *((name, "pylate.models.Dense.Dense") for name in dense)]
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(listed), encoding="utf-8")


def hidden_states(folder: Path) -> list[Array]:
    """The hidden states behind the rows: a Dense that appends a constant 1 shows the length that was divided out."""
    weight = np.vstack([np.eye(HIDDEN), np.zeros((1, HIDDEN))])
    bias = np.append(np.zeros(HIDDEN), 1.0)
    put_dense(folder, "1_Dense", "linear.Identity", {"linear.weight": weight, "linear.bias": bias})
    rows = [np.asarray(matrix, np.float64) for matrix in ColBERT(folder).encode_documents(TEXTS)]
    return [matrix[:, :HIDDEN] / matrix[:, HIDDEN:] for matrix in rows]


def gelu(x: Array) -> Array:
    from math import erf

    return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear.Identity": lambda x: x,
    "activation.Tanh": np.tanh,
    "activation.GELU": gelu,
    "activation.ReLU": lambda x: np.maximum(x, 0),
    "activation.SiLU": lambda x: x / (1 + np.exp(-x)),
    "activation.Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", [HIDDEN, 65])
@pytest.mark.parametrize("residual", [False, True])
def test_a_dense_chain(folder: Path, activation: str, size: int, residual: bool) -> None:
    random = np.random.default_rng(size)
    hidden = hidden_states(folder)
    first = {"linear.weight": random.normal(size=(size, HIDDEN)) / 7, "linear.bias": random.normal(size=size) / 2}
    if residual and size != HIDDEN:
        first["residual.weight"] = random.normal(size=(size, HIDDEN)) / 7
    second = {"linear.weight": random.normal(size=(9, size))}
    put_dense(folder, "1_Dense", activation, first, use_residual=residual)
    put_dense(folder, "2_Dense", "linear.Identity", second)
    put_modules(folder, "1_Dense", "2_Dense")
    for x, rows in zip(hidden, ColBERT(folder).encode_documents(TEXTS), strict=True):
        y = ACTIVATIONS[activation](x @ first["linear.weight"].T + first["linear.bias"])
        if residual:
            y += x @ first["residual.weight"].T if "residual.weight" in first else x
        z = y @ second["linear.weight"].T
        assert rows.shape == z.shape
        np.testing.assert_allclose(rows, z / np.linalg.norm(z, axis=1, keepdims=True), atol=2e-5)


def test_queries_are_never_skiplisted(folder: Path) -> None:
    query = "is, this; a query?"
    for expansion in (False, True):
        model = ColBERT(folder, do_query_expansion=expansion)
        (tokens,) = model.tokenize_queries([query])
        assert tokens.keep.all()
        assert "," in tokens.tokens
        assert len(model.encode_queries([query])[0]) == len(tokens.ids)
    assert len(model.encode_documents([query])[0]) < len(model.tokenize_documents([query])[0].ids)


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_side(folder: Path, side: str) -> None:
    put(folder / "tokenizer_config.json", truncation_side=side)
    (tokens,) = ColBERT(folder, document_length=6).tokenize_documents(["the sea and the moon and bread"])
    assert tokens.tokens[2:-1] == (["moon", "and", "bread"] if side == "left" else ["the", "sea", "and"])


@pytest.mark.parametrize("decoder", [False, True])
def test_the_legacy_special_tokens_map_wins_only_where_it_is_legacy(folder: Path, decoder: bool) -> None:
    put(folder / "special_tokens_map.json", mask_token={"content": "[UNK]"})
    if decoder:
        put(folder / "tokenizer_config.json", added_tokens_decoder={"8": {"content": "[MASK]"}})
    (tokens,) = ColBERT(folder).tokenize_queries(["bread"])
    assert tokens.tokens[-1] == ("[MASK]" if decoder else "[UNK]")


@pytest.mark.parametrize(
    ("config", "expansion"),
    [({"mask_token": None, "eos_token": "[SEP]"}, "[SEP]"), ({"mask_token": {"content": "[UNK]"}}, "[UNK]")],
)
def test_the_expansion_token(folder: Path, config: dict[str, Any], expansion: str) -> None:
    put(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", **config)
    (tokens,) = ColBERT(folder).tokenize_queries(["bread"])
    assert tokens.tokens[-1] == expansion


@pytest.mark.parametrize(
    ("flags", "first"),
    [
        ({"do_lower_case": True, "strip_accents": None}, "cafe"),
        ({"do_lower_case": False, "strip_accents": True}, "Cafe"),
        ({"do_lower_case": True, "strip_accents": False}, "café"),
    ],
)
def test_the_bert_normaliser_follows_tokenizer_config(folder: Path, flags: dict[str, Any], first: str) -> None:
    """transformers 5 ignores the normaliser of tokenizer.json for this class."""
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    words = tokenizer["model"]["vocab"]
    for word in ("cafe", "Cafe", "café"):  # in place of words that the texts of this test do not hold
        if word not in words:
            words[word] = words.pop(next(w for w in words if w.startswith("##") and len(w) > 4))
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    put(folder / "tokenizer_config.json", **flags)
    (tokens,) = ColBERT(folder).tokenize_documents(["Café"])
    assert tokens.tokens[2] == first


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_files_are_computed_in_float32(folder: Path, dtype: str) -> None:
    """The rows are those of a float32 file that holds the same rounded values."""
    weights = folder / "model.safetensors"
    tensors = {name: t for name, t in load_file(weights).items() if t.dtype == np.float32}
    if dtype == "F16":
        halves = {name: t.astype(np.float16) for name, t in tensors.items()}
        rounded = {name: t.astype(np.float32) for name, t in halves.items()}
        save_file(halves, weights)
    else:
        bits = {name: (t.view(np.uint32) >> 16).astype(np.uint16) for name, t in tensors.items()}
        rounded = {name: (b.astype(np.uint32) << 16).view(np.float32) for name, b in bits.items()}
        save_file(bits, weights)
        raw = weights.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = raw[8 : 8 + length].replace(b'"U16"', b'"BF16"').rstrip(b" ")
        weights.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
    rows = ColBERT(folder).encode_documents(TEXTS).data
    save_file(rounded, weights)
    np.testing.assert_array_equal(rows, ColBERT(folder).encode_documents(TEXTS).data)


def test_dense_layers_follow_modules_json_and_have_a_bias_unless_told(folder: Path) -> None:
    """The folders are named against the order, and one configuration says nothing of the bias."""
    random = np.random.default_rng(7)
    hidden = hidden_states(folder)
    first = {"linear.weight": random.normal(size=(20, HIDDEN)), "linear.bias": random.normal(size=20)}
    second = {"linear.weight": random.normal(size=(20, 20)), "linear.bias": random.normal(size=20)}
    put_dense(folder, "3_Dense", "activation.Tanh", first)
    put_dense(folder, "1_Dense", "activation.GELU", second)
    config = json.loads((folder / "3_Dense" / "config.json").read_text(encoding="utf-8"))
    del config["bias"]
    (folder / "3_Dense" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    put_modules(folder, "3_Dense", "1_Dense")
    for x, rows in zip(hidden, ColBERT(folder).encode_documents(TEXTS), strict=True):
        y = np.tanh(x @ first["linear.weight"].T + first["linear.bias"])
        z = gelu(y @ second["linear.weight"].T + second["linear.bias"])
        np.testing.assert_allclose(rows, z / np.linalg.norm(z, axis=1, keepdims=True), atol=2e-5)


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
def test_the_transformer_config_under_its_old_names(folder: Path, name: str) -> None:
    (folder / "sentence_bert_config.json").unlink()
    put(folder / name, max_seq_length=31, do_lower_case=True)
    assert ColBERT(folder).info()["do_lower_case"] == {"value": True, "origin": f"{name}: do_lower_case"}


@pytest.mark.parametrize(("split", "tokens"), [(True, 2), (False, 1)])
def test_chinese_characters(folder: Path, split: bool, tokens: int) -> None:
    put(folder / "tokenizer_config.json", tokenize_chinese_chars=split)
    (found,) = ColBERT(folder).tokenize_documents(["東京"])
    assert len(found.ids) == 3 + tokens


def test_the_mask_token_of_bert_needs_no_file(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    (tokens,) = ColBERT(folder).tokenize_queries(["bread"])
    assert tokens.tokens[-1] == "[MASK]"


def test_the_fingerprint_of_a_checkpoint_stays_what_it_was() -> None:
    """Stored indexes hang on it: whoever changes this number makes every one of them refuse to open."""
    assert ColBERT(GOLDEN).fingerprint == "218b25e6249492267299f3d69bb7a8578717ccf1dacd2eee4fa83f4d45880a00"
