"""Damaged and unsupported checkpoints of sentence-transformers 6, and settings of theirs that change something."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import (
    COLBERT,
    CONFIG,
    DENSE,
    GOLDENS,
    MODULES,
    SENTENCE,
    TEXTS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Case,
    Damage,
    check,
    drop,
    edit,
    module,
    modules,
    put,
    refused,
    remove,
    show,
    write,
)

from chandelier import ArgumentError, ColBERT

Copy = Callable[[str], Path]

FIXED, MIN = "n_st6_mve", "o_st6_mve_min"  # query expansion to 32 tokens, and to at least 16
MASK, NORMALIZE, POOLING = "2_MultiVectorMask/config.json", "3_Normalize/config.json", "4_Pooling/config.json"

COUNT: list[object] = [0, -1, 1.5, True, "32", [32], 2**32]

TRANSFORMER = module("", "sentence_transformers.base.modules.transformer.Transformer")
THE_DENSE = module("1_Dense", "sentence_transformers.base.modules.dense.Dense")
THE_MASK = module(
    "2_MultiVectorMask", "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
)
THE_NORM = module("3_Normalize", "sentence_transformers.base.modules.normalize.Normalize")
THE_POOLING = module(
    "4_Pooling", "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling"
)


def other(kind: str) -> dict[str, object]:
    """A module that has no place in the chain."""
    return module("5_Other", kind)


def expansion(**keys: object) -> Damage:
    """Changes the query expansion."""
    return edit(SENTENCE, lambda value: value["query_expansion"].update(keys))


def without(key: str) -> Damage:
    """Takes a key out of the query expansion."""
    return edit(SENTENCE, lambda value: value["query_expansion"].pop(key))


def pooled(**keys: object) -> Damage:
    """Adds a pooling at the end."""

    def damage(folder: Path) -> None:
        modules(TRANSFORMER, THE_DENSE, THE_MASK, THE_NORM, THE_POOLING)(folder)
        (folder / "4_Pooling").mkdir()
        write(POOLING, json.dumps(keys).encode())(folder)

    return damage


CHAINS = [
    Case("no mask", modules(TRANSFORMER, THE_DENSE, THE_NORM), MODULES, says=("MultiVectorMask",)),
    Case("no Dense", modules(TRANSFORMER, THE_MASK, THE_NORM), MODULES, says=("no Dense",)),
    Case("no modules", modules(), MODULES, says=("Transformer",)),
    Case("no Transformer", modules(THE_DENSE, THE_MASK, THE_NORM), MODULES, says=("Transformer",)),
    Case(
        "Dense after Normalize",
        modules(TRANSFORMER, THE_MASK, THE_NORM, THE_DENSE),
        MODULES,
        "type",
        ("Dense", r"\b3\b"),
    ),
    Case(
        "two masks", modules(TRANSFORMER, THE_DENSE, THE_MASK, THE_MASK), MODULES, "type", ("MultiVectorMask", r"\b3\b")
    ),
    Case("two norms", modules(TRANSFORMER, THE_DENSE, THE_MASK, THE_NORM, THE_NORM), MODULES, "type", ("Normalize",)),
    Case(
        "a pooling before the mask",
        modules(TRANSFORMER, THE_DENSE, THE_POOLING, THE_MASK),
        MODULES,
        "type",
        (r"\b2\b",),
    ),
    Case("a Transformer again", modules(TRANSFORMER, THE_DENSE, THE_MASK, TRANSFORMER), MODULES, "type", (r"\b3\b",)),
    *(
        Case(
            f"a module {kind}",
            modules(TRANSFORMER, THE_DENSE, THE_MASK, THE_NORM, other(kind)),
            MODULES,
            "type",
            (kind,),
        )
        for kind in (
            "sentence_transformers.sentence_transformer.modules.Pooling",
            "sentence_transformers.base.modules.Router",
            "sentence_transformers.multi_vector_encoder.modules.token_pooling.LambdaTokenPooling",
            "my_package.Magic",
        )
    ),
    *(
        Case(f"{name} of {value!r}", put(file, **{name: value}), file, name, ("token_embeddings",))
        for file in (DENSE, NORMALIZE)
        for name in ("module_input_name", "module_output_name")
        for value in ("sentence_embedding",)
    ),
    Case("input a number", put(DENSE, module_input_name=3), DENSE, "module_input_name"),
    # Normalize without a name normalises the sentence embedding, of which there is none.
    Case(
        "a norm of nothing", drop(NORMALIZE, "module_input_name"), NORMALIZE, "module_input_name", ("token_embeddings",)
    ),
    Case("the mask's names", put(MASK, module_input_name="x"), MASK, "module_input_name", ("token_embeddings",)),
]

SETTINGS = [
    *(
        Case(f"{key}={value!r}", put(SENTENCE, **{key: value}), SENTENCE, key, says)
        for key, value, *says in [
            ("transformer_task", "fill-mask", "fill-mask", "feature-extraction"),
            ("transformer_task", "text-generation", "text-generation"),
            ("transformer_task", 3),
            ("module_output_name", "sentence_embedding", "sentence_embedding", "token_embeddings"),
            ("modality_config", "text"),
            ("modality_config", {}, "text"),
            ("modality_config", {"image": {"method": "get_image_features"}}, "text"),
            ("query_expansion", "fixed"),
            ("query_expansion", [32]),
            ("query_expansion", True),
            ("query_length", 0),
            ("document_length", 0),
            ("document_length", "80"),
            ("document_length", 97, r"\b97\b", r"\b96\b"),
            ("document_length", 2, r"\b2\b"),
            ("do_lower_case", 1),
            ("max_seq_length", 0),
            ("max_seq_length", "31"),
        ]
    ),
    Case(
        "a chat template",
        put(SENTENCE, modality_config={"text": {"method": "forward"}, "message": {"method": "forward"}}),
        SENTENCE,
        "modality_config",
        ("chat template",),
    ),
    Case(
        "max_seq_length past the positions",
        put(SENTENCE, max_seq_length=97, document_length=None),
        SENTENCE,
        "max_seq_length",
        (r"\b97\b", r"\b96\b"),
    ),
    Case("no strategy", without("strategy"), SENTENCE, "strategy", ("missing", "fixed", "min")),
    Case("another strategy", expansion(strategy="max"), SENTENCE, "strategy", ("max", "fixed", "min")),
    Case("a strategy of 1", expansion(strategy=1), SENTENCE, "strategy"),
    Case("no length", without("length"), SENTENCE, "length", ("missing",)),
    *(Case(f"a length of {value!r}", expansion(length=value), SENTENCE, "length", ("wanted",)) for value in COUNT),
    Case("97 tokens", expansion(length=97), SENTENCE, "query_expansion.length", (r"\b97\b", r"\b96\b")),
    Case("97 tokens at least", expansion(length=97, strategy="min"), SENTENCE, "length", (r"\b97\b", r"\b96\b")),
    Case("2 tokens", expansion(length=2), SENTENCE, "query_expansion.length", (r"\b2\b",)),
    Case("attend 1", expansion(attend=1), SENTENCE, "attend", ("true or false",)),
    Case("no such token", expansion(token="<nope>"), TOKENIZER, says=("query_expansion", "<nope>")),
    Case("a token by its id", expansion(token=4), SENTENCE, "token", ("string",)),
    *(
        Case(f"{key}={value!r}", put(MASK, **{key: value}), MASK, key, ("wanted",))
        for key, value in [
            ("skiplist_words", ","),
            ("skiplist_words", [1]),
            ("skiplist_tasks", 3),
            ("skiplist_tasks", [None]),
            ("keep_only_token_ids", "5"),
            ("keep_only_token_ids", [-1]),
            ("keep_only_token_ids", ["[CLS]"]),
            ("keep_only_token_ids", [1.5]),
        ]
    ),
    *(
        Case(f"{key}={value!r}", pooled(**{key: value}), POOLING, key, ("wanted",))
        for key, value in [
            ("pool_factor", 0.5),
            ("pool_factor", 0.999),
            ("pool_factor", 0),
            ("pool_factor", -2),
            ("pool_factor", "2"),
            ("num_protected_tokens", -1),
            ("num_protected_tokens", 1.5),
            ("normalize_embeddings", 1),
            ("tasks", 3),
        ]
    ),
    *(
        Case(f"{key}={value!r}", put(COLBERT, **{key: value}), COLBERT, key, ("wanted",))
        for key, value in [
            ("prompts", ["query: "]),
            ("prompts", {"query": 3}),
            ("similarity_fn_name", 3),
            ("model_type", 6),
        ]
    ),
]


@pytest.mark.parametrize("case", [*CHAINS, *SETTINGS], ids=show)
def test_a_damaged_multi_vector_encoder_is_refused(case: Case, copy_golden: Copy) -> None:
    refused(copy_golden(FIXED), case)


@pytest.mark.parametrize("file", [MODULES, DENSE, "1_Dense/model.safetensors", CONFIG, TOKENIZER])
def test_a_file_that_a_multi_vector_encoder_lacks_is_named(file: str, copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        ColBERT(folder)
    check(caught.value, folder, says=(re.escape(file),))


ARGUMENTS = [
    (FIXED, {"query_prefix": "[Q] "}, "query_prefix", (r"\[Q\] ", "prompt")),
    (FIXED, {"document_prefix": "[D] "}, "document_prefix", (r"\[D\] ", "prompt")),
    (FIXED, {"query_length": 97}, "query_length", (r"\b97\b", r"\b96\b")),
    (FIXED, {"query_length": 2}, "query_length", (r"\b2\b",)),
    (FIXED, {"document_length": 97}, "document_length", (r"\b97\b", r"\b96\b")),
    (MIN, {"query_length": 15}, "query_length", (r"\b15\b", r"\b16\b")),
]


@pytest.mark.parametrize(("golden", "options", "argument", "says"), ARGUMENTS)
def test_an_argument_that_does_not_fit_a_multi_vector_encoder(
    golden: str, options: dict[str, Any], argument: str, says: tuple[str, ...]
) -> None:
    folder = GOLDENS / golden / "checkpoint"
    with pytest.raises(ArgumentError) as caught:
        ColBERT(folder, **options)
    check(caught.value, folder, says=(argument, *says))
    assert caught.value.argument == argument


# --- what is not wrong, and changes something -----------------------------------------------------------------------


def test_an_expansion_may_be_turned_off(copy_golden: Copy) -> None:
    for golden in (FIXED, MIN):
        model = ColBERT(GOLDENS / golden / "checkpoint", do_query_expansion=False)
        assert model.info()["do_query_expansion"] == {"value": False, "origin": "argument"}
        (tokens,) = model.tokenize_queries(["bread"])
        assert len(tokens.ids) < 12
        assert "[MASK]" not in tokens.tokens
        assert tokens.attention_mask.all()
        folder = copy_golden(golden)
        put(SENTENCE, query_expansion=None)(folder)
        by_file = ColBERT(folder)
        assert by_file.info()["do_query_expansion"] == {"value": False, "origin": f"{SENTENCE}: query_expansion"}
        np.testing.assert_array_equal(by_file.encode_queries(TEXTS).data, model.encode_queries(TEXTS).data)


def test_an_expansion_may_be_turned_on(copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    rows = ColBERT(folder).encode_queries(TEXTS).data
    put(SENTENCE, query_expansion=None)(folder)
    model = ColBERT(folder, do_query_expansion=True)
    assert model.query_length == 32
    np.testing.assert_array_equal(model.encode_queries(TEXTS).data, rows)


@pytest.mark.parametrize("words", [1, 10, 20, 30, 60])
def test_a_minimum_fills_short_queries_only(words: int) -> None:
    folder = GOLDENS / MIN / "checkpoint"
    query = ["bread " * words]
    own = len(ColBERT(folder, do_query_expansion=False).tokenize_queries(query)[0].ids)
    assert len(ColBERT(folder).encode_queries(query)[0]) == max(16, own)
    assert own <= ColBERT(folder).query_length == 40


@pytest.mark.parametrize("token", ["[UNK]", "the"])
def test_an_expansion_names_its_token(token: str, copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    expansion(token=token)(folder)
    assert ColBERT(folder).tokenize_queries(["bread"])[0].tokens[-1] == token


@pytest.mark.parametrize("attend", [False, True])
def test_an_expansion_is_attended_to_if_it_says_so(attend: bool, copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    expansion(attend=attend)(folder)
    (tokens,) = ColBERT(folder).tokenize_queries(["bread"])
    assert tokens.attention_mask.all() == attend


def test_max_seq_length_is_the_longest_text_where_nothing_else_is_said(copy_golden: Copy) -> None:
    folder = copy_golden(MIN)
    put(SENTENCE, max_seq_length=20, query_length=None, document_length=None)(folder)
    info = ColBERT(folder).info()
    assert info["document_length"] == {"value": 20, "origin": f"{SENTENCE}: max_seq_length"}
    assert info["query_length"] == {"value": 20, "origin": f"{SENTENCE}: max_seq_length"}
    put(SENTENCE, max_seq_length=None)(folder)
    put(TOKENIZER_CONFIG, model_max_length=1_000_000_000_000_000_019_884_624_838_656)(folder)  # "no limit"
    info = ColBERT(folder).info()
    assert info["document_length"] == {"value": 128, "origin": "config.json: max_position_embeddings"}
    put(TOKENIZER_CONFIG, model_max_length=50)(folder)
    info = ColBERT(folder).info()
    assert info["document_length"] == {"value": 50, "origin": "tokenizer_config.json: model_max_length"}


def test_without_a_normalize_module_rows_keep_their_length(copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    unit = ColBERT(folder)
    modules(TRANSFORMER, THE_DENSE, THE_MASK)(folder)
    model = ColBERT(folder)
    assert unit.info()["normalize"] is True
    assert model.info()["normalize"] is False
    assert any("length 1" in warning for warning in model.info()["warnings"])
    assert model.fingerprint != unit.fingerprint
    for role in ("encode_queries", "encode_documents"):
        rows = getattr(model, role)(TEXTS).data
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        assert np.abs(lengths - 1).min() > 1e-3
        np.testing.assert_allclose(rows / lengths, getattr(unit, role)(TEXTS).data, atol=1e-6)


@pytest.mark.parametrize("tasks", [["document"], ["query"], ["query", "document"], "query", [], ["other"], None])
def test_a_skiplist_applies_to_its_tasks(tasks: object, copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    put(MASK, skiplist_tasks=tasks)(folder)
    model = ColBERT(folder)
    text = ["is, this; a text?"]
    for role, tokens in (("query", model.tokenize_queries(text)[0]), ("document", model.tokenize_documents(text)[0])):
        skipped = {token for token, keep in zip(tokens.tokens, tokens.keep, strict=True) if not keep}
        applies = role in (["document"] if tasks is None else tasks)
        assert skipped == ({",", ";", "?"} if applies else set())
        rows = model.encode_queries(text) if role == "query" else model.encode_documents(text)
        assert len(rows[0]) == tokens.keep.sum()


def test_only_chosen_tokens_of_documents_are_kept(copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    vocabulary = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))["model"]["vocab"]
    put(MASK, keep_only_token_ids=[vocabulary["the"], vocabulary[","]])(folder)
    model = ColBERT(folder)
    text = ["the sea, the moon"]
    (tokens,) = model.tokenize_documents(text)
    assert [token for token, keep in zip(tokens.tokens, tokens.keep, strict=True) if keep] == [
        "the",
        "the",
    ]  # "," is skipped
    assert len(model.encode_documents(text)[0]) == 2
    assert model.tokenize_queries(text)[0].keep.all()
    assert model.info()["keep_only_token_ids"] == [vocabulary["the"], vocabulary[","]]


@pytest.mark.parametrize(("name", "warns"), [("meanmaxsim", True), ("maxsim", False), (None, False)])
def test_a_mean_of_rows_is_a_warning(name: object, warns: bool, copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    put(COLBERT, similarity_fn_name=name)(folder)
    assert any("meanmaxsim" in warning for warning in ColBERT(folder).info()["warnings"]) == warns


def test_lowercasing_inside_the_tokenizer_spares_added_tokens(copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    put(TOKENIZER_CONFIG, do_lower_case=False)(folder)
    (cased,) = ColBERT(folder).tokenize_documents(["The SEA [MASK] [D] [mask]"])
    put(SENTENCE, do_lower_case=True)(folder)
    (tokens,) = ColBERT(folder).tokenize_documents(["The SEA [MASK] [D] [mask]"])
    (lower,) = ColBERT(folder).tokenize_documents(["the sea [MASK] [D] [mask]"])
    assert tokens.tokens == lower.tokens != cased.tokens
    assert tokens.tokens[2:6] == ["the", "sea", "[MASK]", "[D] "]
    assert "[UNK]" in cased.tokens


@pytest.mark.parametrize("golden", [FIXED, MIN])
def test_prompts_are_applied_by_themselves(golden: str) -> None:
    model = ColBERT(GOLDENS / golden / "checkpoint")
    prompts = model.prompts
    for encode, name in ((model.encode_queries, "query"), (model.encode_documents, "document")):
        rows = encode(TEXTS).data
        np.testing.assert_array_equal(encode(TEXTS, prompt_name=name).data, rows)
        np.testing.assert_array_equal(encode(TEXTS, prompt=prompts[name]).data, rows)
        bare = encode(TEXTS, prompt="").data
        assert bare.shape != rows.shape or np.abs(bare - rows).max() > 1e-3
        with pytest.raises(ArgumentError, match="passage"):
            encode(TEXTS, prompt_name="passage")


def test_no_prompt_is_none(copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    bare = ColBERT(folder)
    rows = [bare.encode_queries(TEXTS, prompt="").data, bare.encode_documents(TEXTS, prompt="").data]
    drop(COLBERT, "prompts")(folder)
    model = ColBERT(folder)
    np.testing.assert_array_equal(model.encode_queries(TEXTS).data, rows[0])
    np.testing.assert_array_equal(model.encode_documents(TEXTS).data, rows[1])
    assert model.fingerprint != bare.fingerprint


@pytest.mark.parametrize("tasks", [None, "document", ["query", "document"]])
def test_a_pooling_thins_out_what_it_is_for(tasks: object, copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    plain = ColBERT(folder)
    text = ["the lighthouse keeper lights the lamp and the sea is dark"]
    pooled(pool_factor=2, tasks=tasks)(folder)
    model = ColBERT(folder)
    assert len(model.encode_documents(text)[0]) < len(plain.encode_documents(text)[0])
    assert (len(model.encode_queries(text)[0]) < len(plain.encode_queries(text)[0])) == (tasks == ["query", "document"])
    assert model.fingerprint != plain.fingerprint


def test_the_transformers_settings_may_be_missing(copy_golden: Copy) -> None:
    folder = copy_golden(FIXED)
    remove(SENTENCE)(folder)
    assert ColBERT(folder).info()["do_query_expansion"]["value"] is False
