"""Configurations and tensors that an architecture does not compute, or that do not fit: refused by file and key.

The cases that all architectures share run over every one of them, each with its own spelling of the keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from damage import CONFIG, GOLDENS, WEIGHTS, Case, check, drop, put, refused, sizes, tensor

from chandelier import ArgumentError, ColBERT, ModelError


class Architecture(NamedTuple):
    """A golden checkpoint, and what its architecture calls its parts."""

    golden: str
    tensor: str  # a matrix of its second layer, without the prefix of the file
    rows: int
    columns: int
    prefix: str = ""
    heads: str = "num_attention_heads"
    layers: str = "num_hidden_layers"
    hidden: str = "hidden_size"
    activation: str = "hidden_act"  # empty where there is no choice
    divides_heads: bool = True  # the heads share the hidden size, and nothing else is asked of them


ARCHITECTURES = {
    "bert": Architecture("a_bert_pylate", "encoder.layer.1.intermediate.dense.weight", 96, 48),
    "bert (Stanford)": Architecture("d_bert_stanford", "encoder.layer.1.output.dense.weight", 48, 80, "bert."),
    "distilbert": Architecture(
        "m_distilbert_pylate",
        "transformer.layer.1.ffn.lin1.weight",
        64,
        32,
        heads="n_heads",
        layers="n_layers",
        hidden="dim",
        activation="activation",
    ),
    "xlm-roberta": Architecture("l_xlmr_pylate", "encoder.layer.1.attention.self.value.weight", 48, 48),
    "xmod": Architecture("x3_xmod", "encoder.layer.1.output.adapter_modules.en_XX.dense1.weight", 24, 48, "roberta."),
    "jina": Architecture("x4_jina_xlmr_rotary", "encoder.layers.1.mixer.Wqkv.weight", 144, 48, "roberta."),
    "modernbert": Architecture("h_modernbert_v5", "layers.1.mlp.Wi.weight", 144, 48, activation="hidden_activation"),
    "modernbert (old)": Architecture(
        "i_modernbert_old", "layers.1.attn.Wo.weight", 48, 48, activation="hidden_activation"
    ),
    "eurobert": Architecture("x1_eurobert", "layers.1.self_attn.k_proj.weight", 32, 48, divides_heads=False),
    "qwen3": Architecture("x2_qwen3_bidirectional", "layers.1.self_attn.q_proj.weight", 96, 48, divides_heads=False),
    "lfm2": Architecture(
        "p_lfm2_pylate", "layers.1.feed_forward.w2.weight", 64, 80, activation="", divides_heads=False
    ),
}


class Own(NamedTuple):
    """A case of one golden checkpoint."""

    golden: str
    case: Case


def own(golden: str, key: str, value: object, *says: str, **others: object) -> Own:
    """One key of config.json; the error names it, what came and what else it is told to."""
    what = f"{golden}: {key}={value!r}" + "".join(f" {name}={other!r}" for name, other in others.items())
    return Own(golden, Case(what, put(CONFIG, **{key: value}, **others), CONFIG, key, says))


def lacking(golden: str, key: str, *says: str) -> Own:
    """config.json without a key."""
    return Own(golden, Case(f"{golden}: without {key}", drop(CONFIG, key), CONFIG, key, says))


def misshapen(golden: str, name: str, kept: slice, *says: str) -> Own:
    """A tensor of which rows are lost."""
    return Own(golden, Case(f"{golden}: {name} cut", tensor(WEIGHTS, name, lambda w: w[kept]), WEIGHTS, name, says))


def missing(golden: str, name: str, prefix: str = "") -> Own:
    """A tensor that is not there; the error may leave the prefix out."""
    damage = tensor(WEIGHTS, prefix + name, None)
    return Own(golden, Case(f"{golden}: {name} missing", damage, WEIGHTS, name, ("no such tensor",)))


# --- what all architectures share -----------------------------------------------------------------------------------


def shared(name: str, a: Architecture) -> list[Own]:
    """The cases that every architecture refuses."""
    config = json.loads((GOLDENS / a.golden / "checkpoint" / CONFIG).read_text(encoding="utf-8"))
    before, after = sizes(a.rows - 1, a.columns), sizes(a.rows, a.columns)
    cases = [
        missing(a.golden, a.tensor, a.prefix),
        misshapen(a.golden, a.prefix + a.tensor, slice(a.rows - 1), before, after),
        Own(
            a.golden,
            Case("flat", tensor(WEIGHTS, a.prefix + a.tensor, lambda w: w.reshape(-1)), WEIGHTS, a.tensor, (after,)),
        ),
        Own(
            a.golden,
            Case(
                "float64", tensor(WEIGHTS, a.prefix + a.tensor, lambda w: w.astype("f8")), WEIGHTS, a.tensor, ("F64",)
            ),
        ),
        Own(
            a.golden,
            Case("int64", tensor(WEIGHTS, a.prefix + a.tensor, lambda w: w.astype("i8")), WEIGHTS, a.tensor, ("I64",)),
        ),
        own(a.golden, a.layers, 0),
        own(a.golden, a.layers, -1),
        own(a.golden, a.layers, 10**9, "1000000000", "1000"),
        own(a.golden, a.layers, 10**19),
        own(a.golden, a.heads, 0),
        own(a.golden, a.heads, 2**32),
        own(a.golden, a.hidden, 0),
        own(a.golden, "vocab_size", 0),
        own(a.golden, "model_type", "qwen3", "qwen3", "wanted"),
        *(lacking(a.golden, key, "missing") for key in (a.heads, a.layers, a.hidden, "vocab_size")),
    ]
    if a.activation:
        cases.append(own(a.golden, a.activation, "gelu_of_tomorrow", "gelu_of_tomorrow", "silu"))
        cases.append(own(a.golden, a.activation, 3))
    if name != "jina":  # which has one of its own
        code = {"AutoModel": "owner/code--modeling_other.OtherModel"}
        cases.append(own(a.golden, "auto_map", code, "OtherModel", "its own code"))
    if a.divides_heads:
        cases.append(own(a.golden, a.heads, 5, r"\b5\b", rf"\b{config[a.hidden]}\b"))
        cases.append(own(a.golden, a.heads, 2 * config[a.hidden], rf"\b{config[a.hidden]}\b"))
    if "layer_types" in config:
        cases.append(own(a.golden, "layer_types", ["full_attention", "chunked_attention", "full_attention"]))
        cases.append(own(a.golden, "layer_types", "full_attention"))
        cases.append(own(a.golden, "layer_types", [1, 2, 3]))
    # What does not fit the tensors: the error names one, with both shapes.
    vocabulary, hidden = config["vocab_size"], config[a.hidden]
    shapes = (sizes(vocabulary, hidden), sizes(vocabulary + 1, hidden))
    cases.append(Own(a.golden, Case("a word more", put(CONFIG, vocab_size=vocabulary + 1), WEIGHTS, says=shapes)))
    layers = config[a.layers]
    more = {a.layers: layers + 1}
    if "layer_types" in config:
        more["layer_types"] = [*config["layer_types"], config["layer_types"][0]]
    says = (rf"\.{layers}\.", "no such tensor")
    cases.append(Own(a.golden, Case("a layer more", put(CONFIG, **more), WEIGHTS, says=says)))
    return cases


SHARED = {f"{name}: {o.case.what}": o for name, a in ARCHITECTURES.items() for o in shared(name, a)}


# --- what is an architecture's own ----------------------------------------------------------------------------------

BERT, DISTILBERT, XLMR, XMOD = "a_bert_pylate", "m_distilbert_pylate", "l_xlmr_pylate", "x3_xmod"
JINA, MODERN, OLD_MODERN = "x4_jina_xlmr_rotary", "h_modernbert_v5", "i_modernbert_old"
EUROBERT, QWEN3, LFM2 = "x1_eurobert", "x2_qwen3_bidirectional", "p_lfm2_pylate"

YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
FULL, LOCAL = "full_attention", "sliding_attention"

OWN = [
    # BERT, and what calls itself so
    own(BERT, "position_embedding_type", "alibi", "alibi", "absolute"),
    own(BERT, "position_embedding_type", "rotary", "rotary", "absolute"),
    own(BERT, "model_type", "bert_hash", "bert_hash"),
    own(BERT, "model_type", None, "missing"),
    own(BERT, "add_cross_attention", True),
    own(BERT, "auto_map", {"AutoModel": "modeling_nomic.NomicBertModel"}, "NomicBertModel"),
    own(BERT, "auto_map", "modeling.Model"),
    Own(BERT, Case("two models", put(CONFIG, auto_map={"AutoModel": ["m.A", None]}), CONFIG, "AutoModel")),
    # DistilBERT
    missing(DISTILBERT, "embeddings.position_embeddings.weight"),
    missing(DISTILBERT, "transformer.layer.0.attention.q_lin.bias"),
    lacking(DISTILBERT, "activation"),
    lacking(DISTILBERT, "hidden_dim"),
    lacking(DISTILBERT, "max_position_embeddings"),
    # XLM-RoBERTa: positions begin behind the padding token's id
    own(XLMR, "max_position_embeddings", 2, r"\b2\b", "pad_token_id", pad_token_id=1),
    own(XLMR, "max_position_embeddings", 130, r"\b130\b", "pad_token_id", r"\b200\b", pad_token_id=199),
    own(XLMR, "max_position_embeddings", 130, "pad_token_id", pad_token_id=2**32 - 1),
    own(XLMR, "pad_token_id", -1),
    own(XLMR, "pad_token_id", 2**32),
    own(XLMR, "pad_token_id", [1]),
    own(XLMR, "position_embedding_type", "relative_key", "relative_key", "absolute"),
    own(XLMR, "is_decoder", True),
    missing(XLMR, "embeddings.token_type_embeddings.weight"),
    misshapen(XLMR, "embeddings.position_embeddings.weight", slice(129), sizes(129, 48), sizes(130, 48)),
    # X-MOD
    own(XMOD, "default_language", "it_IT", "it_IT", "de_DE", "en_XX"),
    own(XMOD, "default_language", None, "missing"),
    own(XMOD, "default_language", ["en_XX"]),
    own(XMOD, "default_language", "en_xx", "en_xx"),
    own(XMOD, "languages", "en_XX"),
    own(XMOD, "languages", [1]),
    own(XMOD, "pre_norm", True, "true", "false"),
    own(XMOD, "adapter_layer_norm", True, "true", "false"),
    own(XMOD, "adapter_reuse_layer_norm", False, "false", "true"),
    own(XMOD, "ln_before_adapter", False, "false", "true"),
    own(XMOD, "pre_norm", "false"),
    own(XMOD, "adapter_reduction_factor", 0),
    own(XMOD, "adapter_reduction_factor", 1.5),
    missing(XMOD, "encoder.layer.0.output.adapter_modules.en_XX.dense2.bias", "roberta."),
    missing(XMOD, "embeddings.position_embeddings.weight", "roberta."),
    # Jina's rotary XLM-RoBERTa
    own(JINA, "lora_adaptations", ["retrieval.query", "retrieval.passage"], "retrieval.query"),
    own(JINA, "load_trained_adapters", True),
    own(JINA, "matryoshka_dimensions", [32, 64]),
    own(JINA, "position_embedding_type", "alibi", model_type="xlm-roberta (rotary)"),
    own(JINA, "auto_map", {"AutoModel": "jinaai/other--modeling_lora.XLMRobertaLoRA"}, "XLMRobertaLoRA"),
    own(JINA, "rotary_emb_base", 0),
    own(JINA, "rotary_emb_base", "10000"),
    own(JINA, "num_attention_heads", 16, r"\b3\b", "even"),
    missing(JINA, "emb_ln.bias", "roberta."),
    missing(JINA, "encoder.layers.0.mixer.out_proj.weight", "roberta."),
    # ModernBERT
    own(MODERN, "layer_types", [FULL] * 3, r"\b3\b", r"\b4\b"),
    own(MODERN, "layer_types", [FULL] * 5, r"\b5\b", r"\b4\b"),
    own(MODERN, "layer_types", [], r"\b0\b", r"\b4\b"),
    own(MODERN, "layer_types", [FULL, FULL, "conv", FULL], "conv", LOCAL),
    own(MODERN, "rope_scaling", YARN),
    own(MODERN, "rope_scaling", {"type": "linear", "factor": 2.0}),
    *(
        Own(
            MODERN,
            Case(f"{kind} yarn", put(CONFIG, rope_parameters={kind: YARN}), CONFIG, "rope_type", ("yarn", "default")),
        )
        for kind in (FULL, LOCAL)
    ),
    own(MODERN, "rope_parameters", [YARN]),
    Own(MODERN, Case("a name for an object", put(CONFIG, rope_parameters={FULL: "yarn"}), CONFIG, FULL, ("object",))),
    own(MODERN, "num_attention_heads", 16, r"\b3\b", "even"),
    own(MODERN, "local_attention", 0),
    own(MODERN, "norm_bias", 1),
    own(MODERN, "attention_bias", "true"),
    own(OLD_MODERN, "global_attn_every_n_layers", 0),
    own(OLD_MODERN, "global_rope_theta", -1.0),
    own(OLD_MODERN, "local_rope_theta", "x"),
    own(OLD_MODERN, "rope_scaling", YARN),
    Own(MODERN, Case("norms with a bias", put(CONFIG, norm_bias=True), WEIGHTS, "embeddings.norm.bias")),
    Own(MODERN, Case("attention with a bias", put(CONFIG, attention_bias=True), WEIGHTS, "layers.0.attn.Wqkv.bias")),
    Own(MODERN, Case("mlp with a bias", put(CONFIG, mlp_bias=True), WEIGHTS, "layers.0.mlp.Wi.bias")),
    missing(MODERN, "final_norm.weight"),
    missing(MODERN, "layers.1.attn_norm.weight"),
    # EuroBERT
    own(EUROBERT, "num_key_value_heads", 3, r"\b3\b", r"\b4\b"),
    own(EUROBERT, "num_key_value_heads", 8, r"\b8\b", r"\b4\b"),
    own(EUROBERT, "num_key_value_heads", 0),
    own(EUROBERT, "head_dim", 15, r"\b15\b", "even"),
    own(EUROBERT, "head_dim", 0),
    own(EUROBERT, "num_attention_heads", 5, r"\b5\b", r"\b48\b", head_dim=None, num_key_value_heads=None),
    own(EUROBERT, "rope_scaling", YARN, "yarn"),
    own(EUROBERT, "rope_theta", None, "missing"),
    own(EUROBERT, "rope_theta", 0),
    own(EUROBERT, "rms_norm_eps", 0),
    own(EUROBERT, "auto_map", {"AutoModel": "modeling_eurobert.EuroBertForMaskedLM"}, "EuroBertForMaskedLM"),
    Own(EUROBERT, Case("yarn", put(CONFIG, rope_parameters=YARN), CONFIG, "rope_type", ("yarn", "default"))),
    Own(EUROBERT, Case("old key", put(CONFIG, rope_parameters={"type": "linear"}), CONFIG, "type", ("linear",))),
    Own(EUROBERT, Case("attention with a bias", put(CONFIG, attention_bias=True), WEIGHTS, "self_attn.q_proj.bias")),
    Own(EUROBERT, Case("mlp with a bias", put(CONFIG, mlp_bias=True), WEIGHTS, "mlp.gate_proj.bias")),
    Own(
        EUROBERT,
        Case("wider heads", put(CONFIG, head_dim=24), WEIGHTS, "q_proj.weight", (sizes(64, 48), sizes(96, 48))),
    ),
    missing(EUROBERT, "norm.weight"),
    # Qwen3: the published one is causal
    own(QWEN3, "num_key_value_heads", 3, r"\b3\b", r"\b4\b"),
    own(QWEN3, "num_key_value_heads", None, r"\b32\b", r"\b4\b"),  # transformers takes 32 then
    own(QWEN3, "head_dim", 23, r"\b23\b", "even"),
    own(QWEN3, "use_sliding_window", True, "true"),
    own(QWEN3, "layer_types", [FULL, LOCAL, FULL], LOCAL, FULL),
    own(QWEN3, "rope_scaling", YARN, "yarn"),
    own(QWEN3, "rope_theta", None, "missing"),
    own(QWEN3, "auto_map", {"AutoModel": "modeling.PPLXQwen3ContextualModel"}, "PPLXQwen3ContextualModel"),
    missing(QWEN3, "layers.2.self_attn.q_norm.weight"),
    misshapen(QWEN3, "layers.2.self_attn.k_norm.weight", slice(23), sizes(23), sizes(24)),
    # LFM2
    own(LFM2, "layer_types", ["conv"] * 3, r"\b3\b", r"\b4\b"),
    own(LFM2, "layer_types", ["conv"] * 3 + [LOCAL], LOCAL, "conv"),
    own(LFM2, "num_key_value_heads", 3, r"\b3\b", r"\b4\b"),
    own(LFM2, "num_key_value_heads", None, r"\b8\b", r"\b4\b"),  # transformers takes 8 then
    own(LFM2, "num_attention_heads", 64, r"\b1\b", "even"),
    own(LFM2, "rope_scaling", YARN, "yarn"),
    Own(LFM2, Case("yarn", put(CONFIG, rope_parameters=YARN), CONFIG, "rope_type", ("yarn", "default"))),
    own(LFM2, "intermediate_size", 1, r"\b0\b", block_multiple_of=1),
    own(LFM2, "block_ffn_dim_multiplier", -1.0),
    own(LFM2, "block_multiple_of", 0),
    own(LFM2, "conv_L_cache", 0),
    own(LFM2, "full_attn_idxs", "all", layer_types=None),
    own(LFM2, "full_attn_idxs", [-1], layer_types=None),
    Own(LFM2, Case("all attend", put(CONFIG, layer_types=None), WEIGHTS, "layers.0.self_attn.q_proj.weight")),
    Own(LFM2, Case("none attends", put(CONFIG, layer_types=["conv"] * 4), WEIGHTS, "layers.1.conv.conv.weight")),
    Own(
        LFM2,
        Case("4 taps", put(CONFIG, conv_L_cache=4), WEIGHTS, "conv.conv.weight", (sizes(64, 1, 3), sizes(64, 1, 4))),
    ),
    Own(LFM2, Case("a bias", put(CONFIG, conv_bias=True), WEIGHTS, "conv.conv.bias")),
    Own(
        LFM2,
        Case(
            "not adjusted", put(CONFIG, block_auto_adjust_ff_dim=False), WEIGHTS, "w1", (sizes(80, 64), sizes(120, 64))
        ),
    ),
    Own(LFM2, Case("an endless width", put(CONFIG, block_ffn_dim_multiplier=1e300), CONFIG, "intermediate_size")),
    missing(LFM2, "embedding_norm.weight"),
    missing(LFM2, "layers.0.conv.in_proj.weight"),
    missing(LFM2, "layers.1.self_attn.q_layernorm.weight"),
]

CASES = {**SHARED, **{o.case.what if ": " in o.case.what else f"{o.golden}: {o.case.what}": o for o in OWN}}


@pytest.mark.parametrize("what", CASES)
def test_what_does_not_fit_an_architecture_is_refused(what: str, copy_golden: Callable[[str], Path]) -> None:
    golden, case = CASES[what]
    refused(copy_golden(golden), case)


# --- positions ------------------------------------------------------------------------------------------------------

# A checkpoint, the file and the key that say how long a document is, and the positions that there are.
POSITIONS = [
    (MODERN, "config_sentence_transformers.json", "document_length", 59),
    (EUROBERT, "config_sentence_transformers.json", "document_length", 63),
    (QWEN3, "config_sentence_transformers.json", "document_length", 63),
    (LFM2, "config_sentence_transformers.json", "document_length", 63),
    (JINA, "artifact.metadata", "doc_maxlen", 79),
]


@pytest.mark.parametrize(("golden", "file", "key", "positions"), POSITIONS, ids=[row[0] for row in POSITIONS])
def test_a_document_has_no_more_tokens_than_positions(
    golden: str, file: str, key: str, positions: int, copy_golden: Callable[[str], Path]
) -> None:
    folder = copy_golden(golden)
    put(CONFIG, max_position_embeddings=positions)(folder)
    with pytest.raises(ModelError) as caught:
        ColBERT(folder)
    check(caught.value, folder, file, key, (rf"\b{positions + 1}\b", rf"\b{positions}\b"))
    assert ColBERT(folder, document_length=positions).document_length == positions


# A table of positions says how many there are, of which RoBERTa's kin lose the padding token's and those before it.
TABLES = [(BERT, 192), ("d_bert_stanford", 80), (DISTILBERT, 96), (XLMR, 128), (XMOD, 98)]


@pytest.mark.parametrize(("golden", "positions"), TABLES)
def test_an_argument_asks_for_no_more_than_the_table(golden: str, positions: int) -> None:
    folder = GOLDENS / golden / "checkpoint"
    text = ["word " * 300]
    assert len(ColBERT(folder, document_length=positions).tokenize_documents(text)[0].ids) == positions
    assert len(ColBERT(folder, document_length=positions).encode_documents(text)[0]) == positions
    for argument in ("document_length", "query_length"):
        with pytest.raises(ArgumentError) as caught:
            ColBERT(folder, **{argument: positions + 1})
        check(caught.value, folder, says=(argument, rf"\b{positions + 1}\b", rf"\b{positions}\b"))


@pytest.mark.parametrize("golden", [BERT, DISTILBERT, XLMR, XMOD])
def test_a_table_of_positions_is_as_long_as_the_configuration_says(
    golden: str, copy_golden: Callable[[str], Path]
) -> None:
    folder = copy_golden(golden)
    put(CONFIG, max_position_embeddings=20)(folder)
    with pytest.raises(ModelError) as caught:
        ColBERT(folder)
    check(caught.value, folder, WEIGHTS, "embeddings.position_embeddings.weight", (r"\b20\b",))


# --- what must not be refused ---------------------------------------------------------------------------------------

SPELLINGS = [
    (MODERN, {"rope_scaling": None}),
    (OLD_MODERN, {"rope_scaling": None}),
    (EUROBERT, {"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 250000}}),
    (EUROBERT, {"auto_map": {"AutoConfig": "configuration_eurobert.EuroBertConfig"}}),
    (JINA, {"model_type": "xlm-roberta"}),
    (JINA, {"lora_adaptations": None, "auto_map": None}),
    (XMOD, {"adapter_reduction_factor": None, "pre_norm": None}),
    (XLMR, {"model_type": "roberta"}),
    (XLMR, {"model_type": "camembert"}),
    (XLMR, {"pad_token_id": None}),
    (LFM2, {"layer_types": None, "full_attn_idxs": [1, 3]}),
    (LFM2, {"block_ff_dim": 120, "intermediate_size": 7}),
]


@pytest.mark.parametrize(("golden", "keys"), SPELLINGS)
def test_other_spellings_of_the_same_give_the_same(
    golden: str, keys: dict[str, object], copy_golden: Callable[[str], Path]
) -> None:
    folder = copy_golden(golden)
    fingerprint = ColBERT(folder).fingerprint
    put(CONFIG, **keys)(folder)
    assert ColBERT(folder).fingerprint == fingerprint
