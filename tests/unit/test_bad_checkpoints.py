"""Damaged, hostile and unsupported checkpoints: each is refused with a typed error that names the file and the key.

Every case copies a golden checkpoint, damages one thing and says what the error has to name. The messages themselves
belong to the library: only the file, the key and the offending value are asked for, and they must stand in the message
itself, not in the path of the temporary folder. A panic of the compiled core is a `BaseException` that is no
`Exception`: `pytest.raises` lets it through, and the test fails.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import (
    COLBERT,
    CONFIG,
    DENSE,
    DENSE_WEIGHTS,
    GOLDENS,
    MODULES,
    SENTENCE,
    TEXTS,
    THE_DENSE,
    THE_TRANSFORMER,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    Case,
    Damage,
    Entries,
    Floats,
    both,
    check,
    copy_dense,
    drop,
    edit,
    entries,
    module,
    modules,
    put,
    remove,
    show,
    sizes,
    tensor,
    write,
)

from chandelier import ArgumentError, ColBERT, ModelError, from_bert

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"


@pytest.fixture
def folder(copy_golden: Callable[[str], Path]) -> Path:
    """A copy of the plain PyLate checkpoint: 48 hidden, 3 layers, 902 tokens, 192 positions, a Dense 48 -> 32."""
    return copy_golden("a_bert_pylate")


# --- files that cannot be read --------------------------------------------------------------------------------------

MISSING_FILES = [
    ("a_bert_pylate", MODULES),
    ("a_bert_pylate", CONFIG),
    ("a_bert_pylate", WEIGHTS),
    ("a_bert_pylate", TOKENIZER),
    ("a_bert_pylate", DENSE),
    ("a_bert_pylate", DENSE_WEIGHTS),
    ("u_st_modules", "0_Transformer/config.json"),
    ("u_st_modules", "0_Transformer/model.safetensors"),
    ("u_st_modules", "0_Transformer/tokenizer.json"),
    ("u_st_modules", "2_Dense/config.json"),
    ("u_st_modules", "2_Dense/model.safetensors"),
]


@pytest.mark.parametrize(("golden", "file"), MISSING_FILES)
def test_a_missing_file_is_named(golden: str, file: str, copy_golden: Callable[[str], Path]) -> None:
    folder = copy_golden(golden)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        ColBERT(folder)
    check(caught.value, folder, says=(re.escape(file),))


@pytest.mark.parametrize("load", [ColBERT, from_bert])
def test_a_missing_folder_is_named(load: Callable[[Path], ColBERT], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no_such_model"):
        load(tmp_path / "no_such_model")


@pytest.mark.parametrize(("load", "first"), [(ColBERT, "modules"), (from_bert, "config")])
def test_an_empty_folder_lacks_its_first_file(load: Callable[[Path], ColBERT], first: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{first}\.json"):
        load(tmp_path)


def test_a_module_folder_that_is_missing_is_named(folder: Path) -> None:
    modules(THE_TRANSFORMER, module("3_Dense"))(folder)
    with pytest.raises(FileNotFoundError, match="3_Dense"):
        ColBERT(folder)


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises((ModelError, OSError)) as caught:
        ColBERT(folder / MODULES)
    check(caught.value, folder, says=("modules.json",))


@pytest.mark.parametrize("file", [MODULES, CONFIG, WEIGHTS, TOKENIZER, DENSE_WEIGHTS])
def test_a_folder_is_not_a_file(file: str, folder: Path) -> None:
    (folder / file).unlink()
    (folder / file).mkdir()
    with pytest.raises((ModelError, OSError)) as caught:
        ColBERT(folder)
    check(caught.value, folder, says=(re.escape(file),))


# --- safetensors: truncated, hostile --------------------------------------------------------------------------------

# On the whole content: (what, content -> content, the length of the header being h).
BYTES: list[tuple[str, Callable[[bytes, int], bytes]]] = [
    ("0 bytes", lambda c, h: b""),
    ("7 bytes", lambda c, h: c[:7]),
    ("the length alone", lambda c, h: c[:8]),
    ("cut in the header", lambda c, h: c[: 8 + h // 2]),
    ("cut after the header", lambda c, h: c[: 8 + h]),
    ("cut in the data", lambda c, h: c[: (8 + h + len(c)) // 2]),
    ("the last byte lost", lambda c, h: c[:-1]),
    ("bytes behind the data", lambda c, h: c + bytes(64)),
    ("header of length 0", lambda c, h: struct.pack("<Q", 0) + c[8:]),
    ("header half as long as it is", lambda c, h: struct.pack("<Q", h // 2) + c[8:]),
    ("header past the end", lambda c, h: struct.pack("<Q", len(c) - 7) + c[8:]),
    ("header of length 2**63", lambda c, h: struct.pack("<Q", 2**63) + c[8:]),
    ("header of length 2**64 - 1", lambda c, h: struct.pack("<Q", 2**64 - 1) + c[8:]),
    ("header not UTF-8", lambda c, h: c[:8] + b"\xff" * h + c[8 + h :]),
    ("header not JSON", lambda c, h: c[:8] + b"x" * h + c[8 + h :]),
    ("header a list", lambda c, h: c[:8] + b"[]".ljust(h) + c[8 + h :]),
    ("header nested 100,000 deep", lambda c, h: struct.pack("<Q", 100_000) + b"[" * 100_000 + c[8 + h :]),
    ("header without tensors", lambda c, h: c[:8] + b"{}".ljust(h) + c[8 + h :]),
    ("a pointer instead of tensors", lambda c, h: b"version 1\noid sha256:0000000000000000\nsize 453464\n"),
]

# On one entry e of the header, all others being sound: (what, what to change in it).
ENTRY: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("offsets past the end", lambda e: e.update(data_offsets=[at + 2**20 for at in e["data_offsets"]])),
    ("offsets near 2**64", lambda e: e.update(data_offsets=[2**64 - 8, 2**64 - 4])),
    ("offsets beyond 2**64", lambda e: e.update(data_offsets=[0, 2**64])),
    ("offsets swapped", lambda e: e.update(data_offsets=e["data_offsets"][::-1])),
    ("offsets negative", lambda e: e.update(data_offsets=[-4, 4])),
    ("offsets not whole", lambda e: e.update(data_offsets=[0.5, 4.5])),
    ("one offset", lambda e: e.update(data_offsets=[0])),
    ("offsets absent", lambda e: e.pop("data_offsets")),
    ("fewer bytes than the shape says", lambda e: e["data_offsets"].__setitem__(1, e["data_offsets"][1] - 4)),
    ("shape negative", lambda e: e.update(shape=[-1, 48])),
    ("shape whose product overflows", lambda e: e.update(shape=[2**32, 2**32, 2])),
    ("shape whose product overflows to the true size", lambda e: e.update(shape=[2**62 + e["shape"][0], 4, 12])),
    ("shape of 2**63", lambda e: e.update(shape=[2**63, 48])),
    ("shape beyond 2**64", lambda e: e.update(shape=[2**64, 48])),
    ("shape not whole", lambda e: e.update(shape=[32.5, 48])),
    ("shape of strings", lambda e: e.update(shape=["32", "48"])),
    ("shape absent", lambda e: e.pop("shape")),
    ("dtype unknown", lambda e: e.update(dtype="F33")),
    ("dtype in lower case", lambda e: e.update(dtype="f32")),
    ("dtype a number", lambda e: e.update(dtype=32)),
    ("dtype absent", lambda e: e.pop("dtype")),
    ("dtype of another size", lambda e: e.update(dtype="F64")),
]

# On the entries of the header, name being one of them: (what, what to change).
ENTRIES: list[tuple[str, Callable[[Entries, str], object]]] = [
    ("two tensors on the same bytes", lambda header, name: header.update(twin=dict(header[name]))),
    ("an entry that is null", lambda header, name: header.update({name: None})),
    ("metadata that is no object", lambda header, name: header.update(__metadata__=[1])),
]

VICTIMS = {DENSE_WEIGHTS: "linear.weight", WEIGHTS: WORDS}


def rebuild(file: str, change: Callable[[bytes, int], bytes]) -> Damage:
    """Changes the bytes of a safetensors file."""

    def damage(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(change(content, struct.unpack_from("<Q", content)[0]))

    return damage


def rewrite_entry(file: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """Changes the header entry of the file's victim."""
    return entries(file, lambda header: change(header[VICTIMS[file]]))


def rewrite_entries(file: str, change: Callable[[Entries, str], object]) -> Damage:
    """Changes the header of a safetensors file around its victim."""
    return entries(file, lambda header: change(header, VICTIMS[file]))


SAFETENSORS = [
    *(Case(f"{file}: {what}", rebuild(file, change), file) for file in VICTIMS for what, change in BYTES),
    *(Case(f"{file}: {what}", rewrite_entry(file, change), file) for file in VICTIMS for what, change in ENTRY),
    *(Case(f"{file}: {what}", rewrite_entries(file, change), file) for file in VICTIMS for what, change in ENTRIES),
]


# --- tensors: missing, of a wrong shape, of a wrong type ------------------------------------------------------------


QUERY = "encoder.layer.1.attention.self.query.weight"
NORM = "encoder.layer.2.output.LayerNorm.weight"

TENSORS = [
    *(
        Case(f"{name} missing", tensor(WEIGHTS, name, None), WEIGHTS, name)
        for name in (WORDS, POSITIONS, "embeddings.token_type_embeddings.weight", QUERY, f"{QUERY[:-6]}bias")
    ),
    # The old name of this one is LayerNorm.gamma: the error may name either.
    Case("a layer norm missing", tensor(WEIGHTS, NORM, None), WEIGHTS, "encoder.layer.2.output.LayerNorm."),
    Case("linear.weight missing", tensor(DENSE_WEIGHTS, "linear.weight", None), DENSE_WEIGHTS, "linear.weight"),
    Case("linear.bias promised, not there", put(DENSE, bias=True), DENSE_WEIGHTS, "linear.bias"),
    Case("words cut", tensor(WEIGHTS, WORDS, lambda w: w[:, :47]), WEIGHTS, WORDS, (sizes(902, 47), sizes(902, 48))),
    Case("words flat", tensor(WEIGHTS, WORDS, lambda w: w.reshape(-1)), WEIGHTS, WORDS, (sizes(902 * 48),)),
    Case("query cut", tensor(WEIGHTS, QUERY, lambda w: w[:12]), WEIGHTS, QUERY, (sizes(12, 48), sizes(48, 48))),
    Case("norm cut", tensor(WEIGHTS, NORM, lambda w: w[:1]), WEIGHTS, NORM, (sizes(1), sizes(48))),
    Case("norm a matrix", tensor(WEIGHTS, NORM, lambda w: w[None]), WEIGHTS, NORM, (sizes(1, 48), sizes(48))),
    Case(
        "Dense transposed",
        tensor(DENSE_WEIGHTS, "linear.weight", lambda w: np.ascontiguousarray(w.T)),
        DENSE_WEIGHTS,
        "linear.weight",
        (sizes(48, 32), sizes(32, 48)),
    ),
    Case(
        "Dense with no row",
        tensor(DENSE_WEIGHTS, "linear.weight", lambda w: w[:0]),
        DENSE_WEIGHTS,
        "linear.weight",
        (sizes(0, 48), sizes(32, 48)),
    ),
    Case(
        "Dense of integers",
        tensor(DENSE_WEIGHTS, "linear.weight", lambda w: w.astype(np.int32)),
        DENSE_WEIGHTS,
        "linear.weight",
        ("I32",),
    ),
    # config.json promises what the weights do not hold
    Case("one layer too many", put(CONFIG, num_hidden_layers=4), WEIGHTS, says=(r"encoder\.layer\.3\.",)),
    Case("10**9 layers", put(CONFIG, num_hidden_layers=10**9), CONFIG, "num_hidden_layers", ("1000000000",)),
    Case("a wider feed forward", put(CONFIG, intermediate_size=97), WEIGHTS, says=("intermediate", sizes(97, 48))),
    Case("more tokens", put(CONFIG, vocab_size=1000), WEIGHTS, WORDS, (sizes(1000, 48), sizes(902, 48))),
    Case("more positions", put(CONFIG, max_position_embeddings=512), WEIGHTS, POSITIONS, (sizes(512, 48),)),
    Case("10**12 positions", put(CONFIG, max_position_embeddings=10**12), CONFIG, "max_position_embeddings"),
    Case("one token type", put(CONFIG, type_vocab_size=1), WEIGHTS, "token_type_embeddings", (sizes(1, 48),)),
    Case("a Dense of other size", put(DENSE, out_features=31), says=("1_Dense", sizes(31), sizes(32))),
]


# --- JSON: not JSON, not an object, a key of a wrong type or value --------------------------------------------------

JSON_FILES = [MODULES, CONFIG, COLBERT, SENTENCE, TOKENIZER, TOKENIZER_CONFIG, DENSE]
NOT_JSON = {
    "empty": b"",
    "cut": b'[{"a": 1}, {"b"',
    "words": b"no JSON at all",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "NUL bytes": bytes(64),
    "nested 100,000 deep": b"[" * 100_000,
    "two values": b"{} {}",
    "null": b"null",
    "a number": b"3",
    "a string": b'"{}"',
}

COUNT = ["32", -1, 0, True, 1.5, 10**30, [32]]
FLAG = ["yes", 1, 0, ["true"]]
TEXT = [3, True, ["text"], {"content": "text"}]

WRONG_VALUES: dict[str, dict[str, list[Any]]] = {
    COLBERT: {
        "query_length": COUNT,
        "document_length": COUNT,
        "query_prefix": TEXT,
        "document_prefix": TEXT,
        "skiplist_words": ["abc", 3, [1], [","] * 3 + [None], {",": 1}],
        "do_query_expansion": FLAG,
        "attend_to_expansion_tokens": FLAG,
        "prompts": ["query: ", ["query: "], {"query": 3}],
        "default_prompt_name": [3, ["query"]],
    },
    SENTENCE: {"do_lower_case": FLAG},
    CONFIG: {
        "model_type": TEXT,
        "hidden_size": COUNT,
        "num_hidden_layers": COUNT,
        "num_attention_heads": COUNT,
        "intermediate_size": COUNT,
        "vocab_size": COUNT,
        "max_position_embeddings": COUNT,
        "type_vocab_size": COUNT,
        "layer_norm_eps": ["x", "1e-12", -1e-12, True, [1e-12]],
        "hidden_act": TEXT,
        "position_embedding_type": TEXT,
    },
    TOKENIZER_CONFIG: {"mask_token": [3, True, {"content": 3}, ["[MASK]"]], "do_lower_case": FLAG},
    DENSE: {
        "in_features": COUNT,
        "out_features": COUNT,
        "bias": FLAG,
        "activation_function": TEXT,
        "use_residual": FLAG,
    },
}

# Without these the shapes would have to be guessed, or the number of heads, which no shape betrays.
REQUIRED = {
    CONFIG: [
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ],
    DENSE: ["in_features", "out_features"],
}

JSON_CASES = [
    *(Case(f"{file} {what}", write(file, data), file) for file in JSON_FILES for what, data in NOT_JSON.items()),
    *(Case(f"{file} a list", write(file, b"[]"), file) for file in JSON_FILES if file != MODULES),
    Case("modules.json an object", write(MODULES, b"{}"), MODULES),
    *(
        Case(f"{file} {key}={value!r}", put(file, **{key: value}), file, key)
        for file, keys in WRONG_VALUES.items()
        for key, values in keys.items()
        for value in values
    ),
    *(Case(f"{file} without {key}", drop(file, key), file, key) for file, keys in REQUIRED.items() for key in keys),
    # Python writes these words into JSON, and no other reader takes them.
    *(
        Case(f"layer_norm_eps={value}", put(CONFIG, layer_norm_eps=value), CONFIG)
        for value in (float("nan"), float("inf"), -float("inf"))
    ),
    Case("half a character", put(COLBERT, query_prefix="\ud83d"), COLBERT),
    Case("no such prompt", put(COLBERT, default_prompt_name="passage"), COLBERT, "default_prompt_name", ("passage",)),
    Case("too short for [CLS] [Q] [SEP]", put(COLBERT, query_length=2), COLBERT, "query_length", (r"\b2\b",)),
    Case("too short for [CLS] [D] [SEP]", put(COLBERT, document_length=1), COLBERT, "document_length", (r"\b1\b",)),
    Case("query past the positions", put(COLBERT, query_length=193), COLBERT, "query_length", ("193", "192")),
    Case("document past the positions", put(COLBERT, document_length=512), COLBERT, "document_length", ("512", "192")),
]


# --- what is well formed and not ours -------------------------------------------------------------------------------

UNSUPPORTED = [
    Case("model_type t5", put(CONFIG, model_type="t5"), CONFIG, "model_type", ("t5",)),
    Case("model_type with a space", put(CONFIG, model_type="bert "), CONFIG, "model_type"),
    Case("hidden_act", put(CONFIG, hidden_act="gelu_of_tomorrow"), CONFIG, "hidden_act", ("gelu_of_tomorrow",)),
    *(
        Case(f"positions {kind}", put(CONFIG, position_embedding_type=kind), CONFIG, "position_embedding_type", (kind,))
        for kind in ("relative_key", "relative_key_query", "rotary")
    ),
    # A decoder attends to the left only: read as an encoder it would give other vectors without a word.
    Case("a decoder", put(CONFIG, is_decoder=True), CONFIG, "is_decoder"),
    Case("hidden_size 7 of 4 heads", put(CONFIG, hidden_size=7), CONFIG, says=("hidden_size", r"\b7\b", r"\b4\b")),
    Case("5 heads of 48", put(CONFIG, num_attention_heads=5), CONFIG, says=("num_attention_heads", r"\b48\b")),
    *(
        Case(f"activation {name}", put(DENSE, activation_function=name), DENSE, "activation_function", (name,))
        for name in ("torch.nn.modules.activation.Softmax2d", "os.system", "GELU_of_tomorrow")
    ),
    Case("Dense wider than hidden", put(DENSE, in_features=64), DENSE, "in_features", (r"\b64\b", r"\b48\b")),
    Case(
        "two Dense that do not chain",
        both(copy_dense("2_Dense"), modules(THE_TRANSFORMER, THE_DENSE, module("2_Dense"))),
        "2_Dense/config.json",
        "in_features",
        (r"\b48\b", r"\b32\b"),
    ),
]

MODULE_LISTS = [
    Case("no module", modules(), MODULES),
    Case("no Transformer", modules(THE_DENSE), MODULES, says=("Transformer",)),
    Case("two Transformers", modules(THE_TRANSFORMER, THE_TRANSFORMER, THE_DENSE), MODULES, says=("Transformer",)),
    Case("Dense first", modules(THE_DENSE, THE_TRANSFORMER), MODULES, says=("Transformer",)),
    Case("no Dense", modules(THE_TRANSFORMER), MODULES, says=("Dense", "from_bert")),
    Case("the same Dense twice", modules(THE_TRANSFORMER, THE_DENSE, THE_DENSE), says=("1_Dense",)),
    Case("Dense in the root", modules(THE_TRANSFORMER, module("")), MODULES, "path"),
    Case("an entry that is a number", modules(THE_TRANSFORMER, 3), MODULES),
    Case("an entry that is null", modules(THE_TRANSFORMER, THE_DENSE, None), MODULES),
    *(
        Case(f"type {kind}", modules(THE_TRANSFORMER, THE_DENSE, module("", kind)), MODULES, "type", (kind,))
        for kind in ("my_package.Magic", "Transformer2", "sentence_transformers.models.LSTM", "my_package.NotADense")
    ),
    *(
        Case(f"type {kind!r}", modules(THE_TRANSFORMER, THE_DENSE, module("", kind)), MODULES, "type")
        for kind in (3, None, ["pylate.models.Dense.Dense"], "")
    ),
    Case("type absent", edit(MODULES, lambda listed: listed[1].pop("type")), MODULES, "type"),
    Case("path absent", edit(MODULES, lambda listed: listed[1].pop("path")), MODULES, "path"),
    *(Case(f"path {path!r}", modules(THE_TRANSFORMER, module(path)), MODULES, "path") for path in (3, ["1_Dense"])),
]


# --- the tokenizer --------------------------------------------------------------------------------------------------


def vocabulary(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Changes the vocabulary in tokenizer.json."""
    return edit(TOKENIZER, lambda value: change(value["model"]["vocab"]))


def fewer_rows(rows: int) -> Damage:
    """Cuts the embedding table; config.json agrees, the tokenizer knows nothing of it."""
    return both(put(CONFIG, vocab_size=rows), tensor(WEIGHTS, WORDS, lambda w: w[:rows]))


def cls_id(value: dict[str, Any]) -> None:
    """Makes the post-processor add an id that no vocabulary holds."""
    value["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [99999]


TOKENIZERS = [
    Case("an empty object", write(TOKENIZER, b"{}"), TOKENIZER),
    Case("no model", drop(TOKENIZER, "model"), TOKENIZER),
    Case("model of an unknown type", edit(TOKENIZER, lambda value: value["model"].update(type="Nope")), TOKENIZER),
    Case("vocabulary a list", edit(TOKENIZER, lambda value: value["model"].update(vocab=["the"])), TOKENIZER),
    Case("an id of -1", vocabulary(lambda vocab: vocab.update(the=-1)), TOKENIZER),
    Case("an id of 1.5", vocabulary(lambda vocab: vocab.update(the=1.5)), TOKENIZER),
    Case("an id past the table", vocabulary(lambda vocab: vocab.update(newword=4_000_000_000)), says=(r"\b902\b",)),
    Case("one row too few", fewer_rows(901), says=(r"\b901\b",)),
    Case("half of the rows", fewer_rows(450), says=(r"\b450\b",)),
    Case("[CLS] past the table", edit(TOKENIZER, cls_id), says=("99999",), at_encode=True),
    Case("normalizer unknown", put(TOKENIZER, normalizer={"type": "Nope"}), TOKENIZER),
    Case("mask token unknown", put(TOKENIZER_CONFIG, mask_token="[NOPE]"), says=("mask", r"\[NOPE\]")),
    Case("query prefix unknown", put(COLBERT, query_prefix="[NOPE] "), COLBERT, "query_prefix", (r"\[NOPE\] ",)),
    Case("document prefix unknown", put(COLBERT, document_prefix="passage"), COLBERT, "document_prefix", ("passage",)),
    # "[Q]" without its space is another string, and not one token
    Case("prefix without its space", put(COLBERT, query_prefix="[Q]"), COLBERT, "query_prefix", (r"\[Q\]",)),
]


# --- weights that are no numbers ------------------------------------------------------------------------------------


def spoil(value: float, row: int) -> Callable[[Floats], Floats]:
    """Writes NaN or infinity into one row of a tensor."""

    def change(array: Floats) -> Floats:
        array[row] = value
        return array

    return change


NOT_FINITE = [
    Case(f"{value} in {name}", tensor(file, name, spoil(value, row)), at_encode=True)
    for value in (float("nan"), float("inf"))
    for file, name, row in (
        (DENSE_WEIGHTS, "linear.weight", 3),
        (WEIGHTS, WORDS, 6),  # [CLS], which is in every text
        (WEIGHTS, NORM, 0),
        (WEIGHTS, QUERY, 47),
    )
]


# --- the test over all the tables -----------------------------------------------------------------------------------

CASES = [*SAFETENSORS, *TENSORS, *JSON_CASES, *UNSUPPORTED, *MODULE_LISTS, *TOKENIZERS, *NOT_FINITE]


def use(folder: Path, *, encode: bool) -> None:
    """Opens a checkpoint; encodes only where opening it may succeed."""
    model = ColBERT(folder)
    if encode:
        model.encode_documents(TEXTS)


@pytest.mark.parametrize("case", CASES, ids=show)
def test_a_damaged_checkpoint_is_refused(case: Case, folder: Path) -> None:
    case.damage(folder)
    with pytest.raises(ModelError) as caught:
        use(folder, encode=case.at_encode)
    check(caught.value, folder, case.file, case.key, case.says)


@pytest.mark.parametrize("case", NOT_FINITE, ids=show)
def test_weights_that_are_no_numbers_give_no_query_either(case: Case, folder: Path) -> None:
    case.damage(folder)
    with pytest.raises(ModelError):
        ColBERT(folder).encode_queries(TEXTS)


@pytest.mark.parametrize("path", ["../outside", "1_Dense/../../outside", "./../outside", "..", "{absolute}"])
def test_a_module_path_stays_in_the_folder(path: str, folder: Path) -> None:
    # A sound Dense lies there: only the path is wrong.
    outside = folder.parent / "outside"
    shutil.copytree(folder / "1_Dense", outside)
    path = path.format(absolute=outside)
    modules(THE_TRANSFORMER, module(path))(folder)
    with pytest.raises(ModelError) as caught:
        ColBERT(folder)
    check(caught.value, folder, MODULES, "path", (re.escape(path),))


# --- the checkpoint is sound, the argument does not fit it ----------------------------------------------------------

MISFITS = [
    ({"query_length": 193}, "query_length", ("193", "192")),
    ({"document_length": 193}, "document_length", ("193", "192")),
    ({"document_length": 10**6}, "document_length", ("192",)),
    ({"query_length": 2}, "query_length", (r"\b2\b",)),
    ({"document_length": 1}, "document_length", (r"\b1\b",)),
    ({"query_prefix": "[NOPE] "}, "query_prefix", (r"\[NOPE\] ",)),
    ({"document_prefix": "passage"}, "document_prefix", ("passage",)),
]


@pytest.mark.parametrize(("options", "argument", "says"), MISFITS)
def test_an_argument_that_does_not_fit(
    options: dict[str, Any], argument: str, says: tuple[str, ...], folder: Path
) -> None:
    with pytest.raises(ArgumentError) as caught:
        ColBERT(folder, **options)
    check(caught.value, folder, says=(argument, *says))
    assert caught.value.argument == argument


# --- from_bert: the door for models without a projection ------------------------------------------------------------


def test_from_bert_refuses_a_projection(folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        from_bert(folder)
    check(caught.value, folder, MODULES, says=("Dense", "ColBERT"))


@pytest.mark.parametrize("value", COUNT)
def test_from_bert_reads_max_seq_length(value: object, folder: Path) -> None:
    modules(THE_TRANSFORMER)(folder)
    remove(COLBERT)(folder)
    put(SENTENCE, max_seq_length=value)(folder)
    with pytest.raises(ModelError) as caught:
        from_bert(folder)
    check(caught.value, folder, SENTENCE, "max_seq_length")


def test_from_bert_holds_max_seq_length_to_the_positions(folder: Path) -> None:
    modules(THE_TRANSFORMER)(folder)
    remove(COLBERT)(folder)
    put(SENTENCE, max_seq_length=512)(folder)
    with pytest.raises(ModelError) as caught:
        from_bert(folder)
    check(caught.value, folder, SENTENCE, "max_seq_length", ("512", "192"))


@pytest.mark.parametrize("case", [*UNSUPPORTED[:5], *TOKENIZERS[:3]], ids=show)
def test_from_bert_refuses_the_same_damage(case: Case, folder: Path) -> None:
    modules(THE_TRANSFORMER)(folder)
    case.damage(folder)
    with pytest.raises(ModelError) as caught:
        from_bert(folder)
    check(caught.value, folder, case.file, case.key, case.says)


# --- what must not be refused ---------------------------------------------------------------------------------------


def link_all(folder: Path) -> None:
    """Makes every file a link into another folder, as the cache of a model hub does."""
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        file.symlink_to(file.rename(blobs / str(number)))


SOUND: list[tuple[str, Damage]] = [
    ("untouched", lambda folder: None),
    ("no config_sentence_transformers.json", remove(COLBERT)),
    ("no sentence_bert_config.json", remove(SENTENCE)),
    ("files that are links", link_all),
    ("unknown keys", put(COLBERT, tomorrow={"a": 1})),
    ("exactly as many positions", put(COLBERT, query_length=192, document_length=192)),
    ("expansion forced off", put(COLBERT, do_query_expansion=False, attend_to_expansion_tokens=True)),
]


@pytest.mark.parametrize(("what", "change"), SOUND)
def test_a_sound_checkpoint_opens(what: str, change: Damage, folder: Path) -> None:
    change(folder)
    model = ColBERT(folder)
    for vectors in (model.encode_queries(TEXTS), model.encode_documents(TEXTS)):
        assert len(vectors) == len(TEXTS)
        assert vectors.data.shape[1] == model.dim == 32
        np.testing.assert_allclose(np.linalg.norm(vectors.data, axis=1), 1, atol=1e-5)


def test_a_projection_of_zeros_gives_zeros_not_nan(folder: Path) -> None:
    tensor(DENSE_WEIGHTS, "linear.weight", np.zeros_like)(folder)
    assert not ColBERT(folder).encode_documents(TEXTS).data.any()


def test_from_bert_opens_what_has_no_projection(folder: Path) -> None:
    modules(THE_TRANSFORMER)(folder)
    remove(COLBERT)(folder)
    model = from_bert(folder)
    assert (model.dim, model.query_length, model.document_length) == (48, 32, 31)
    assert model.encode_documents(TEXTS).data.shape[1] == 48


def test_from_bert_does_not_drop_the_projection_of_a_stanford_checkpoint() -> None:
    with pytest.raises(ModelError, match=r"config\.json: architectures: got HF_ColBERT"):
        from_bert(GOLDENS / "d_bert_stanford" / "checkpoint")
