"""Habits of the reference that nobody would guess: each was once passed over, and the model opened some other way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chandelier import ArgumentError, ColBERT, ModelError, from_bert, pool_tokens

Copy = Callable[[str], Path]

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"

# What a configuration says when it says nothing: key, default, golden, and what else must go for it to count.
DEFAULTS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("a_bert_pylate", "layer_norm_eps", 1e-12, {}),
    ("h_modernbert_v5", "norm_eps", 1e-5, {}),
    ("h_modernbert_v5", "local_attention", 128, {}),
    ("h_modernbert_v5", "hidden_activation", "gelu", {}),
    ("h_modernbert_v5", "global_attn_every_n_layers", 3, {"layer_types": None}),
    ("i_modernbert_old", "global_rope_theta", 160_000.0, {}),
    ("i_modernbert_old", "local_rope_theta", 10_000.0, {}),
    ("p_lfm2_pylate", "norm_eps", 1e-5, {}),
    ("p_lfm2_pylate", "rope_theta", 1_000_000.0, {"rope_parameters": None}),
    ("p_lfm2_pylate", "conv_L_cache", 3, {}),
    ("l_xlmr_pylate", "pad_token_id", 1, {}),
    ("x1_eurobert", "rms_norm_eps", 1e-5, {}),
    ("x1_eurobert", "hidden_act", "silu", {}),
    ("x2_qwen3_bidirectional", "rms_norm_eps", 1e-6, {}),
    ("x3_xmod", "adapter_reduction_factor", 2, {}),
    ("x4_jina_xlmr_rotary", "rotary_emb_base", 10_000.0, {}),
    ("x4_jina_xlmr_rotary", "layer_norm_eps", 1e-5, {}),
]


def change(folder: Path, file: str, **values: Any) -> None:
    """Sets keys of a JSON file; None removes."""
    path = folder / file
    content = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


@pytest.mark.parametrize(("golden", "key", "default", "besides"), DEFAULTS)
def test_a_key_that_is_absent_has_transformers_default(
    golden: str, key: str, default: Any, besides: dict[str, Any], copy_golden: Copy
) -> None:
    folder = copy_golden(golden)
    change(folder, CONFIG, **besides, **{key: default})
    said = ColBERT(folder).info()["architecture"]
    change(folder, CONFIG, **{key: None})
    assert ColBERT(folder).info()["architecture"] == said
    other = "relu" if isinstance(default, str) else default * 2
    change(folder, CONFIG, **{key: other})
    with contextlib.suppress(ModelError):  # noticed in another way: no weights are of that size
        assert ColBERT(folder).info()["architecture"] != said


def test_modernbert_reads_norm_eps_and_never_the_old_name_beside_it(copy_golden: Copy) -> None:
    folder = copy_golden("h_modernbert_v5")
    change(folder, CONFIG, norm_eps=1e-5, layer_norm_eps=0.1)
    assert "norm_eps=1e-5" in ColBERT(folder).info()["architecture"]
    change(folder, CONFIG, norm_eps=None)
    with pytest.raises(ModelError, match="layer_norm_eps"):
        ColBERT(folder)


def test_modernberts_sliding_window_counts_before_local_attention(copy_golden: Copy) -> None:
    folder = copy_golden("h_modernbert_v5")
    change(folder, CONFIG, local_attention=8, sliding_window=1)
    assert "window=1 " in ColBERT(folder).info()["architecture"]


@pytest.mark.parametrize(
    ("golden", "file", "key", "value"),
    [
        ("a_bert_pylate", TOKENIZER_CONFIG, "padding_side", "left"),
        ("a_bert_pylate", TOKENIZER_CONFIG, "split_special_tokens", True),
        ("a_bert_pylate", TOKENIZER_CONFIG, "additional_special_tokens", ["nowhere to be found"]),
        ("l_xlmr_pylate", TOKENIZER_CONFIG, "add_prefix_space", False),
        ("p_lfm2_pylate", CONFIG, "is_causal", False),
        ("x1_eurobert", CONFIG, "is_decoder", True),
        ("x1_eurobert", CONFIG, "partial_rotary_factor", 0.5),
    ],
)
def test_what_is_not_followed_is_refused(golden: str, file: str, key: str, value: Any, copy_golden: Copy) -> None:
    folder = copy_golden(golden)
    change(folder, file, **{key: value})
    with pytest.raises(ModelError) as caught:
        ColBERT(folder)
    assert (Path(caught.value.file).name, caught.value.key) == (file, key)


def test_a_bert_without_a_tokenizer_class_still_follows_do_lower_case(copy_golden: Copy) -> None:
    folder = copy_golden("a_bert_pylate")
    change(folder, TOKENIZER_CONFIG, do_lower_case=False)
    cased = ColBERT(folder).tokenize_documents(["The Moon"])[0].tokens
    change(folder, TOKENIZER_CONFIG, tokenizer_class=None)
    assert ColBERT(folder).tokenize_documents(["The Moon"])[0].tokens == cased
    assert cased != ["[CLS]", "[D] ", "the", "moon", "[SEP]"]


def test_tokens_that_another_file_makes_special_are_found_as_a_whole(copy_golden: Copy) -> None:
    folder = copy_golden("a_bert_pylate")
    assert ColBERT(folder).tokenize_documents(["moonlight"])[0].tokens != ["[CLS]", "[D] ", "moon", "##light", "[SEP]"]
    change(folder, TOKENIZER_CONFIG, additional_special_tokens=["moon"])
    assert ColBERT(folder).tokenize_documents(["moonmoon"])[0].tokens == ["[CLS]", "[D] ", "moon", "moon", "[SEP]"]


@pytest.mark.parametrize("module", ["2_MultiVectorMask", "1_Dense"])
def test_a_module_without_its_settings_is_damaged(module: str, copy_golden: Copy) -> None:
    folder = copy_golden("n_st6_mve")
    (folder / module / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match=module):
        ColBERT(folder)


def test_a_query_may_be_cut_shorter_than_it_is_filled(copy_golden: Copy) -> None:
    """sentence-transformers 6: the tokenizer's limit cuts at 12, the expansion fills up to 16."""
    folder = copy_golden("o_st6_mve_min")
    change(folder, "sentence_bert_config.json", query_length=None, max_seq_length=12)
    tokens = ColBERT(folder).tokenize_queries(["one two three four five six seven eight nine ten eleven twelve"])[0]
    assert (int(tokens.attention_mask.sum()), len(tokens.ids)) == (12, 16)


def test_info_says_where_an_expansion_comes_from(copy_golden: Copy) -> None:
    folder = copy_golden("n_st6_mve")
    assert ColBERT(folder).info()["query_expansion_token"] == "[MASK]"
    change(folder, "sentence_bert_config.json", query_expansion=None, query_length=64)
    info = ColBERT(folder).info()
    assert info["do_query_expansion"] == {"value": False, "origin": "default"}
    assert info["query_expansion_token"] is None
    expanded = ColBERT(folder, do_query_expansion=True).info()
    assert expanded["query_length"] == {"value": 64, "origin": "sentence_bert_config.json: query_length"}


def test_stored_dtypes_are_those_of_the_dense_too(copy_golden: Copy) -> None:
    assert ColBERT(copy_golden("q_bf16_weights")).info()["stored_dtypes"] == "BF16"
    folder = copy_golden("a_bert_pylate")
    half = copy_golden("q_bf16_weights") / "1_Dense" / "model.safetensors"
    (folder / "1_Dense" / "model.safetensors").write_bytes(half.read_bytes())
    assert ColBERT(folder).info()["stored_dtypes"] == "BF16 F32"


def test_a_name_that_is_an_address_is_no_path() -> None:
    for open_model in (ColBERT, from_bert):
        with pytest.raises(ArgumentError, match="organisation/name"):
            open_model("https://hub.example/organisation/name")


@pytest.mark.parametrize("factor", [10**400, float("inf"), float("nan"), 2.0, 1.5, 0.5, 0, -1, True, "2", None])
def test_a_pool_factor_is_a_whole_number_of_at_least_1(goldens: Path, factor: Any) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint")
    for call in (
        lambda: pool_tokens([np.eye(4)], factor),
        lambda: model.encode_documents(["a"], pool_factor=factor),
        lambda: model.encode(["a"], pool_factor=factor),
    ):
        with pytest.raises(ArgumentError, match="pool_factor") as caught:
            call()
        assert caught.value.argument == "pool_factor"


def test_protected_tokens_may_be_none_or_more_than_there_are() -> None:
    rows = np.repeat(np.eye(2), 2, axis=0)
    assert pool_tokens([rows], 2, protected_tokens=0)[0].tolist() == np.eye(2).tolist()
    assert len(pool_tokens([rows], 2, protected_tokens=9)[0]) == 4
    with pytest.raises(ArgumentError, match="protected_tokens"):
        pool_tokens([np.eye(4)], 2, protected_tokens=-1)


def test_rerank_applies_the_prompts_that_it_is_told(copy_golden: Copy) -> None:
    model = ColBERT(copy_golden("v_prompts"))
    texts = ["bread needs flour", "a lighthouse keeps ships away"]
    names = {"query_prompt_name": "query", "document_prompt_name": "document"}
    query = model.encode_queries(["what does bread need"], prompt_name="query")
    documents = model.encode_documents(texts, prompt_name="document")
    ranked = model.rerank("what does bread need", texts, **names)
    wanted = model.similarity(query, documents)[0]
    assert [hit.score for hit in ranked] == pytest.approx([wanted[hit.index] for hit in ranked], abs=1e-5)
    assert [hit.score for hit in model.rerank("what does bread need", texts)] != [hit.score for hit in ranked]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "tokenizer.json").rename(folder / "vocab.txt"), "AutoTokenizer"),
        (lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.example/v1"), "git lfs"),
    ],
)
def test_the_way_out_of_a_half_fetched_checkpoint(
    damage: Callable[[Path], object], says: str, copy_golden: Copy
) -> None:
    folder = copy_golden("a_bert_pylate")
    damage(folder)
    with pytest.raises((ModelError, FileNotFoundError), match=says):
        ColBERT(folder)


def test_from_bert_sends_a_multi_vector_encoder_to_colbert(copy_golden: Copy) -> None:
    with pytest.raises(ModelError, match="open this one as ColBERT"):
        from_bert(copy_golden("n_st6_mve"))
