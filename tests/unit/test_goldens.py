"""Exact to the reference: ids, masks and counts equal, rows and scores within the tolerance of the golden files.

`tests/goldens/README.md` says how they were made, what each case proves and why the tolerance is what it is.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from chandelier import (
    ArgumentError,
    ColBERT,
    ModelError,
    MultiVectors,
    Tokens,
    maxsim,
    maxsim_matrix,
    pool_tokens,
    top_k,
)

# Dropping a case from here makes `test_every_case_is_covered_or_named` fail, and so does a new folder.
COVERED = {
    "a_bert_pylate",
    "a2_bert_as_saved_today",
    "b_bert_attend",
    "c_bert_no_prefix_no_skiplist",
    "d_bert_stanford",
    "e_bert_legacy_names",
    "f_bert_pytorch_bin",
    "g_bert_sharded",
    "h_modernbert_v5",
    "i_modernbert_old",
    "i2_modernbert_mlm_prefix",
    "j_modernbert_3dense_residual",
    "k_modernbert_2dense_bias_gelu",
    "l_xlmr_pylate",
    "m_distilbert_pylate",
    "n_st6_mve",
    "o_st6_mve_min",
    "p_lfm2_pylate",
    "q_bf16_weights",
    "r_minilm_real",
    "t_skiplist_unk",
    "u_st_modules",
    "v_prompts",
    "w_modernbert_expansion",
    "x1_eurobert",
    "x2_qwen3_bidirectional",
    "x3_xmod",
    "x4_jina_xlmr_rotary",
}
POOLING_CASE = "s_pooling_unit"
# What is refused by name, never opened and computed in some other way.
REFUSED = {"x6_lfm2_bidirectional": "LFM2 seeing both ways: its published code could not be had to check against"}

every_case = pytest.mark.parametrize("case", sorted(COVERED), indirect=True)


@dataclass(frozen=True)
class Case:
    """A golden case: what goes in and what the reference made of it."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def inputs(self) -> dict[str, list[str]]:
        inputs: dict[str, list[str]] = self._json("inputs.json")
        return inputs

    @cached_property
    def meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = self._json("meta.json")
        return meta

    @cached_property
    def tolerance(self) -> dict[str, float]:
        tolerance: dict[str, float] = self.meta["tolerance"]
        return tolerance

    @cached_property
    def expected(self) -> dict[str, npt.NDArray[Any]]:
        with np.load(self.folder / "expected.npz") as arrays:
            return dict(arrays)

    def vectors(self, name: str) -> MultiVectors:
        """The reference's rows, as `q`, `d`, `alt_d`, `prompt_q` or `prompt_d`."""
        return MultiVectors(self.expected[f"{name}_emb"], self.expected[f"{name}_off"])

    def texts(self, role: str) -> list[str]:
        return self.inputs["queries" if role == "q" else "documents"]

    def _json(self, file: str) -> Any:
        return json.loads((self.folder / file).read_text(encoding="utf-8"))


@dataclass
class Gaps:
    """The largest differences seen between our rows and the reference's."""

    rows: float = np.nan  # fmax and fmin pass over this first one
    cosine: float = np.nan
    scores: float = np.nan

    def check_rows(self, case: Case, ours: MultiVectors, expected: MultiVectors) -> None:
        """Equal counts, and every row within the tolerance by its worst element and by its cosine."""
        assert ours.offsets.tolist() == expected.offsets.tolist(), "other row counts"
        assert ours.data.dtype == np.float32
        assert np.isfinite(ours.data).all()
        self.rows = float(np.fmax(self.rows, np.abs(ours.data - expected.data).max()))
        left, right = ours.data.astype(np.float64), expected.data.astype(np.float64)
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        self.cosine = float(np.fmin(self.cosine, ((left * right).sum(axis=1) / lengths).min()))
        assert self.rows <= case.tolerance["rows_max_abs"]
        assert self.cosine >= case.tolerance["row_cosine_min"]

    def check_scores(
        self, case: Case, ours: npt.NDArray[Any], expected: npt.NDArray[Any], queries: MultiVectors
    ) -> None:
        """Every score within the tolerance of one row times the rows of its query."""
        assert ours.dtype == np.float32
        gaps = np.abs(ours - expected).max(axis=1)
        self.scores = float(np.fmax(self.scores, gaps.max()))
        assert (gaps <= case.tolerance["scores_max_abs_per_query_row"] * np.diff(queries.offsets)).all()


def encode(model: ColBERT, role: str, texts: Iterable[str], **options: Any) -> MultiVectors:
    return (model.encode_queries if role == "q" else model.encode_documents)(texts, **options)


def tokenize(model: ColBERT, role: str, texts: Iterable[str]) -> list[Tokens]:
    return (model.tokenize_queries if role == "q" else model.tokenize_documents)(texts)


def document_rows(case: Case) -> str:
    """Which reference documents we follow: words unknown to the tokenizer skip nothing (t; DESIGN.md says why)."""
    return "alt_d" if case.name == "t_skiplist_unk" else "d"


def ragged(case: Case, name: str, offsets: str) -> list[npt.NDArray[Any]]:
    return np.split(case.expected[name], case.expected[offsets][1:-1])


@pytest.fixture
def case(request: pytest.FixtureRequest, goldens: Path) -> Case:
    return Case(goldens / request.param)


@pytest.fixture
def model(case: Case, open_model: Callable[[str], ColBERT]) -> ColBERT:
    return open_model(case.name)


@every_case
@pytest.mark.parametrize("role", ["q", "d"])
def test_tokens_are_exact(case: Case, model: ColBERT, role: str) -> None:
    keep_name = "alt_d_keep" if document_rows(case) == "alt_d" and role == "d" else f"{role}_keep"
    ids = ragged(case, f"{role}_ids", f"{role}_ids_off")
    attention = ragged(case, f"{role}_att", f"{role}_ids_off")
    keep = ragged(case, keep_name, f"{role}_ids_off")
    texts = case.texts(role)
    assert len(texts) == len(ids)
    for index, tokens in enumerate(tokenize(model, role, texts)):
        where = f"{role}[{index}] {texts[index][:60]!r}"
        assert tokens.ids.tolist() == ids[index].tolist(), where
        assert tokens.attention_mask.tolist() == attention[index].astype(bool).tolist(), where
        assert tokens.keep.tolist() == keep[index].astype(bool).tolist(), where
        assert len(tokens.tokens) == len(tokens.ids), where
        assert tokens.offsets.shape == (len(tokens.ids), 2), where


@every_case
def test_rows_and_scores(case: Case, model: ColBERT, report: Callable[[str], None]) -> None:
    gaps = Gaps()
    queries = model.encode_queries(case.inputs["queries"])
    documents = model.encode_documents(case.inputs["documents"])
    scores = case.expected["alt_scores" if document_rows(case) == "alt_d" else "scores"]
    try:
        gaps.check_rows(case, queries, case.vectors("q"))
        gaps.check_rows(case, documents, case.vectors(document_rows(case)))
        gaps.check_scores(case, model.similarity(queries, documents), scores, queries)
        gaps.check_scores(case, maxsim_matrix(list(queries), list(documents)), scores, queries)
    finally:
        line = f"golden {case.name:<29} worst row gap {gaps.rows:.1e} (allowed {case.tolerance['rows_max_abs']:.0e})"
        report(f"{line}  worst cosine 1 - {max(0, 1 - gaps.cosine):.0e}  worst score gap {gaps.scores:.1e}")


@every_case
@pytest.mark.parametrize("role", ["q", "d"])
def test_alone_as_in_company(case: Case, model: ColBERT, role: str) -> None:
    texts = case.texts(role)
    together = encode(model, role, texts)
    alone = MultiVectors.concat([encode(model, role, [text]) for text in texts])
    assert alone == together, "to the last bit"
    Gaps().check_rows(case, alone, case.vectors("q" if role == "q" else document_rows(case)))


@every_case
def test_scoring_the_references_own_rows(case: Case) -> None:
    """Leaves only the arithmetic of MaxSim: float32 sums of at most 40 cosines against float64 ones."""
    documents = document_rows(case)
    scores = case.expected["alt_scores" if documents == "alt_d" else "scores"]
    ours = maxsim_matrix(case.vectors("q"), case.vectors(documents))
    assert ours.shape == scores.shape
    assert np.abs(ours - scores).max() <= 1e-5
    assert np.array_equal(maxsim(case.vectors("q")[0], case.vectors(documents)), ours[0])


@every_case
def test_rerank_gives_the_references_order(case: Case, model: ColBERT) -> None:
    documents = case.inputs["documents"]
    scores = case.expected["alt_scores" if document_rows(case) == "alt_d" else "scores"]
    for index in (0, 1, 4, 10):  # ordinary, mixed case, emoji, empty
        ranked = model.rerank(case.inputs["queries"][index], documents)
        allowed = case.tolerance["scores_max_abs_per_query_row"] * len(case.vectors("q")[index])
        assert sorted(result.index for result in ranked) == list(range(len(documents)))
        assert all(result.text == documents[result.index] for result in ranked)
        ours = np.array([result.score for result in ranked])
        assert (np.diff(ours) <= 0).all()
        assert np.abs(ours - scores[index][[result.index for result in ranked]]).max() <= allowed
        best, best_scores = top_k(case.vectors("q")[index], case.vectors(document_rows(case)), 3)
        assert np.abs(best_scores - ours[:3]).max() <= allowed
        assert len(best) == 3


@every_case
def test_the_settings_are_the_references(case: Case, model: ColBERT) -> None:
    info, knobs = model.info(), dict(case.meta["knobs"])
    if "query_expansion" in knobs:
        check_native_settings(info, knobs)
        return
    for name in (
        "query_prefix",
        "document_prefix",
        "query_length",
        "document_length",
        "do_query_expansion",
        "attend_to_expansion_tokens",
        "skiplist_words",
        "do_lower_case",
    ):
        assert info[name]["value"] == knobs[name], name
    assert info["query_expansion_length"]["value"] == knobs["query_length"]
    assert info["query_prefix_id"] == knobs["query_prefix_id"]
    assert info["document_prefix_id"] == knobs["document_prefix_id"]
    assert (model.dim, model.query_length) == (case.meta["counts"]["dim"], knobs["query_length"])
    assert [(d["in_features"], d["out_features"], d["bias"], d["activation"]) for d in info["dense"]] == [
        (d["in_features"], d["out_features"], d["bias"], d["activation"].lower()) for d in knobs["dense"]
    ]


def check_native_settings(info: dict[str, Any], knobs: dict[str, Any]) -> None:
    """The settings of a sentence-transformers 6 checkpoint, which has other names for them."""
    expansion = knobs["query_expansion"]
    assert info["do_query_expansion"]["value"] is True
    assert info["query_expansion_length"]["value"] == expansion["length"]
    assert info["query_length"]["value"] == (knobs["query_length"] or expansion["length"])
    assert info["document_length"]["value"] == knobs["document_length"]
    assert info["attend_to_expansion_tokens"]["value"] == expansion["attend"]
    assert info["skiplist_words"]["value"] == knobs["skiplist_words"]
    assert info["skiplist_roles"] == knobs["skiplist_tasks"]
    assert info["prompts"] == knobs["prompts"]
    assert (info["query_prompt_name"], info["document_prompt_name"]) == ("query", "document")
    assert info["normalize"] is True
    assert info["pooling"] is None


@pytest.mark.parametrize("same", ["i_modernbert_old", "i2_modernbert_mlm_prefix"])
def test_spellings_of_one_model_are_one_model(goldens: Path, open_model: Callable[[str], ColBERT], same: str) -> None:
    """The transformers-5 spelling, the old one, and the backbone out of a model with a head."""
    inputs = Case(goldens / "h_modernbert_v5").inputs
    for role, texts in (("q", inputs["queries"]), ("d", inputs["documents"])):
        assert encode(open_model("h_modernbert_v5"), role, texts) == encode(open_model(same), role, texts)
    assert open_model("h_modernbert_v5").fingerprint == open_model(same).fingerprint


@pytest.mark.parametrize("name", ["x1_eurobert", "x2_qwen3_bidirectional"])
def test_the_transformers_5_spelling_is_the_same_model(goldens: Path, tmp_path: Path, name: str) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(goldens / name / "checkpoint", checkpoint)
    old = ColBERT(checkpoint)
    shutil.copyfile(goldens / name / "config_v5.json", checkpoint / "config.json")
    new = ColBERT(checkpoint)
    assert new.fingerprint == old.fingerprint
    assert new.encode_queries(["one model"]) == old.encode_queries(["one model"])


def test_roberta_and_camembert_are_computed_as_xlm_roberta(
    goldens: Path, tmp_path: Path, open_model: Callable[[str], ColBERT]
) -> None:
    """transformers has a class of the same code for each."""
    for model_type in ("roberta", "camembert"):
        checkpoint = tmp_path / model_type
        shutil.copytree(goldens / "l_xlmr_pylate" / "checkpoint", checkpoint)
        config = json.loads((checkpoint / "config.json").read_text())
        (checkpoint / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
        assert ColBERT(checkpoint).encode_queries(["same"]) == open_model("l_xlmr_pylate").encode_queries(["same"])


@every_case
def test_float64_agrees(case: Case, goldens: Path, request: pytest.FixtureRequest) -> None:
    """What a GPU would compute, operation by operation, in float64 on the CPU: no kernel in common with float32."""
    path = goldens / case.name / "checkpoint"
    if case.name == "r_minilm_real":
        path = request.getfixturevalue("minilm_checkpoint")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = ColBERT(path, dtype="float64")
    for role in ("q", "d"):
        texts = case.texts(role)[:6]
        rows = encode(model, role, texts)
        expected = case.vectors("q" if role == "q" else document_rows(case))[:6]
        Gaps().check_rows(case, rows, expected)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("name", sorted(COVERED))
def test_pooled_documents(goldens: Path, name: str, factor: int) -> None:
    """The reference's own rows, pooled: equal clusters in equal order, where no near-tie makes them luck."""
    case = Case(goldens / name)
    check_pooled(case.expected, "d", f"d_pool{factor}", factor, 1, case.tolerance["pooled_rows_max_abs"])


def test_pooling_alone(goldens: Path, report: Callable[[str], None]) -> None:
    """Random, clustered, duplicate and tied rows; what is exactly tied is compared as well."""
    case = Case(goldens / POOLING_CASE)
    compared = worst = 0.0
    for protected in (0, 1, 3):
        for factor in (2, 3, 4, 7):
            tolerance = case.tolerance["pooled_rows_max_abs"]
            count, gap = check_pooled(case.expected, "", f"p{protected}_pool{factor}", factor, protected, tolerance)
            compared, worst = compared + count, max(worst, gap)
    assert compared > 700
    report(f"golden {case.name:<29} worst row gap {worst:.1e} (allowed {tolerance:.0e})  documents {compared:.0f}")


def check_pooled(
    expected: dict[str, npt.NDArray[Any]], inputs: str, name: str, factor: int, protected: int, tolerance: float
) -> tuple[int, float]:
    """How many documents were compared, and the worst gap."""
    start = f"{inputs}_" if inputs else ""
    rows = MultiVectors(expected[f"{start}emb"], expected[f"{start}off"])
    wanted = MultiVectors(expected[f"{name}_emb"], expected[f"{name}_off"])
    compare = expected[f"{name}_stable"].astype(bool)
    if "exact" in expected:
        compare |= expected["exact"].astype(bool)
    pooled = pool_tokens(rows, factor, protected_tokens=protected)
    gap = 0.0
    for index in np.flatnonzero(compare):
        assert pooled[int(index)].shape == wanted[int(index)].shape, index
        gap = max(gap, float(np.abs(pooled[int(index)] - wanted[int(index)]).max(initial=0)))
    assert gap <= tolerance
    return int(compare.sum()), gap


@pytest.mark.parametrize("name", ["n_st6_mve", "o_st6_mve_min"])
def test_a_checkpoint_that_pools_gives_pooled_rows(goldens: Path, tmp_path: Path, name: str) -> None:
    """sentence-transformers 6 saves a HierarchicalTokenPooling as one more module."""
    case = Case(goldens / name)
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(case.folder / "checkpoint", checkpoint)
    modules = json.loads((checkpoint / "modules.json").read_text())
    kind = "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling"
    modules.append({"idx": 4, "name": "4", "path": "4_Pooling", "type": kind})
    (checkpoint / "modules.json").write_text(json.dumps(modules))
    (checkpoint / "4_Pooling").mkdir()
    settings = {"pool_factor": 2.0, "num_protected_tokens": 1, "normalize_embeddings": True, "tasks": ["document"]}
    (checkpoint / "4_Pooling" / "config.json").write_text(json.dumps(settings))
    model = ColBERT(checkpoint)
    pooled = model.encode_documents(case.inputs["documents"])
    wanted = MultiVectors(case.expected["d_pool2norm_emb"], case.expected["d_pool2norm_off"])
    assert pooled.offsets.tolist() == wanted.offsets.tolist()
    stable = np.flatnonzero(case.expected["d_pool2_stable"])
    assert len(stable) > 20
    for index in stable.tolist():
        assert np.abs(pooled[index] - wanted[index]).max() <= case.tolerance["pooled_rows_max_abs"]
    assert model.encode_queries(["not pooled"]) == ColBERT(case.folder / "checkpoint").encode_queries(["not pooled"])
    told: list[int] = []
    options: dict[str, Any] = dict.fromkeys(("prompt", "prompt_name", "batch_tokens"))
    texts = case.inputs["documents"]
    encode = partial(model._model.encode, argument="texts", is_query=False, pooling=(1, 1), **options)
    encode(texts, on_progress=told.append)
    assert (told == sorted(told), told[-1]) == (True, len(texts)), "a bar that goes back"
    assert model.info()["pooling"] == {
        "pool_factor": 2.0, "protected_tokens": 1, "normalize": True, "roles": ["document"]
    }  # fmt: skip


def test_a2_equals_a(goldens: Path, open_model: Callable[[str], ColBERT]) -> None:
    inputs = Case(goldens / "a_bert_pylate").inputs
    for role, texts in (("q", inputs["queries"]), ("d", inputs["documents"])):
        old, new = (encode(open_model(name), role, texts) for name in ("a_bert_pylate", "a2_bert_as_saved_today"))
        assert old == new


def test_t_warns_and_ignores_the_word(goldens: Path) -> None:
    """PyLate maps an unknown skiplist word to [UNK] and drops every real [UNK] row; we warn and skip nothing."""
    case = Case(goldens / "t_skiplist_unk")
    with pytest.warns(UserWarning, match=r"\['notaword'\]"):
        model = ColBERT(case.folder / "checkpoint")
    rows = model.encode_documents(case.inputs["documents"])
    dropped = len(rows.data) - len(case.vectors("d").data)
    assert dropped == 20, "the reference drops 20 [UNK] rows that we keep"


def test_v_prompts_are_used_on_request_only(goldens: Path, open_model: Callable[[str], ColBERT]) -> None:
    case, model = Case(goldens / "v_prompts"), open_model("v_prompts")
    assert set(model.prompts) >= {"query", "document"}
    for role, name in (("q", "query"), ("d", "document")):
        texts, prompt = case.texts(role), model.prompts[name]
        assert prompt
        prompted = encode(model, role, texts, prompt_name=name)
        Gaps().check_rows(case, prompted, case.vectors(f"prompt_{role}"))
        assert encode(model, role, texts, prompt=prompt) == prompted
        assert encode(model, role, texts) != prompted
        assert model.encode(texts[0], is_query=role == "q", prompt_name=name).tolist() == prompted[0].tolist()
        ids = ragged(case, f"prompt_{role}_ids", f"prompt_{role}_ids_off")
        tokens = tokenize(model, role, [prompt + text for text in texts])
        assert [found.ids.tolist() for found in tokens] == [wanted.tolist() for wanted in ids]
    with pytest.raises(ArgumentError, match="prompt_name"):
        model.encode_queries(["a"], prompt_name="passage")


def test_every_case_is_covered_or_named(goldens: Path) -> None:
    folders = {meta.parent.name for meta in goldens.glob("*/meta.json")}
    assert len(folders) >= 30, "the golden files are not here"
    assert COVERED | {POOLING_CASE} | set(REFUSED) == folders


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_checked_is_refused(goldens: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="Lfm2BidirectionalModel"):
        ColBERT(goldens / name / "checkpoint")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(goldens / name / "checkpoint", checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    del config["auto_map"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="Lfm2BidirectionalModel"):
        ColBERT(checkpoint)
