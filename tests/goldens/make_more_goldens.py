#!/usr/bin/env python3
"""Golden cases for further backbones: EuroBERT, bidirectional Qwen3, X-MOD, Jina XLM-R with rotary, LFM2.5.

Same file format as make_goldens.py (its texts, tokenizer helpers, array builder and meta layout are reused), another oracle
set-up: PyLate 1.6.0 on top of a newer transformers, because only that has all the backbones.

    python3 -m venv V
    V/bin/pip install "pylate==1.6.0" "torch==2.11.0"               (brings sentence-transformers 5.3.0, transformers 5.3.0)
    V/bin/pip install --no-deps --target O transformers==5.23.0 tokenizers==0.23.3 huggingface_hub==2.4.0 \\
        httpx2==2.16.2 httpcore2==2.16.2 truststore==0.10.5
    PYTHONPATH=O V/bin/python make_more_goldens.py all

With that overlay make_goldens.py's own a, h and l are reproduced bit for bit (rows, ids, masks; scores to 4e-15).
Steps: build, expect, verify (reload the checkpoint, require the same arrays), check (an independent numpy float64 forward
that reads only config.json, the safetensors and the ids; it also measures what plausible mistakes would cost), or all.
--only x1,x3 selects cases. x2, x4 and x6 are remote code on the hub; here:
    x2  stock Qwen3Model fed with an all-to-all padding mask (what the published modeling.py does)
    x4  transformers' own JinaEmbeddingsV3Model computes; its conversion table writes the published weight names
    x6  stock Lfm2Model whose attention and short convolutions are made bidirectional (what the published file does on SDPA)
"""
from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import make_goldens as g

HERE = Path(__file__).resolve().parent

CASES = {
    "x1_eurobert": dict(
        kind="eurobert", seed=201, hidden=48, layers=3, heads=4, kv_heads=2, head_dim=16, inter=80, max_pos=256, eps=1e-5,
        theta=250000.0, dense=[dict(out=32)], colbert=dict(query_length=32, document_length=64),
        what="EuroBERT: grouped-query attention with heads*head_dim != hidden, RMSNorm, SwiGLU, RoPE, bidirectional; config in "
             "the published spelling (rope_theta, auto_map); config_v5.json says the same in transformers-5 spelling."),
    "x2_qwen3_bidirectional": dict(
        kind="pplx", seed=202, hidden=48, layers=3, heads=4, kv_heads=2, head_dim=24, inter=72, max_pos=512, eps=1e-6,
        theta=1000000.0, dense=[dict(out=32)],
        colbert=dict(query_length=32, document_length=64, attend_to_expansion_tokens=True),
        what="pplx-embed-v1-late shape: Qwen3 blocks (q_norm/k_norm per head, own head_dim), all-to-all attention, attended "
             "query expansion; tokenizer without BOS and without special tokens around the text, so the prefix id goes behind "
             "the first text token; no mask token, EOS expands."),
    "x3_xmod": dict(
        kind="xmod", seed=203, hidden=48, layers=2, heads=4, inter=64, max_pos=100, languages=["de_DE", "en_XX", "fr_XX"],
        default_language="en_XX", dense=[dict(out=32)], prefixes=("[unused0]", "[unused1]"), stanford="facebook/xmod-base",
        colbert=dict(query_length=32, document_length=80),
        what="colbert-xm shape: X-MOD, three language adapters of which default_language is the second, HF_ColBERT format with "
             "'roberta.' prefix, pooler tensors present and unused."),
    "x4_jina_xlmr_rotary": dict(
        kind="jina", seed=204, hidden=48, layers=3, heads=3, inter=80, max_pos=194, theta=10000.0, dense=[dict(out=32)],
        prefixes=("[QueryMarker]", "[DocumentMarker]"), stanford="jinaai/jina-embeddings-v3-xlm-large-pairs-vol5",
        colbert=dict(query_length=32, document_length=80, attend_to_expansion_tokens=True),
        what="jina-colbert-v2 shape: XLM-R with rotary positions, fused Wqkv, HF_ColBERT format, config.json WITHOUT model_type, "
             "attended query expansion."),
    "x6_lfm2_bidirectional": dict(
        kind="lfm2bi", seed=206, hidden=48, layers=4, heads=4, kv_heads=2, inter=120, multiple_of=16, max_pos=512,
        layer_types=["conv", "full_attention", "conv", "full_attention"], theta=1000000.0, eps=1e-5, dense=[dict(out=32)],
        colbert=dict(query_length=32, document_length=64),
        what="LFM2.5-ColBERT shape: Lfm2BidirectionalModel, all-to-all attention over real keys, centred short convolution that "
             "does NOT zero masked rows. d_emb holds documents encoded one by one; d_emb_batch what one padded batch gives (pad "
             "rows leak into the last real rows through the convolution)."),
}


SURPRISES = {
    "x1_eurobert": [
        "auto_map points at remote code, yet transformers uses its own class: model_type decides, auto_map is to be ignored.",
        "clf_pooling / classifier_pooling, is_decoder and the *_token strings in config.json have no effect here."],
    "x2_qwen3_bidirectional": [
        "No BOS: the prefix id is inserted at index 1, that is BEHIND the first text token (behind the first pad for an empty text).",
        "config.json says nothing that would make a stock Qwen3 bidirectional except model_type and use_bidirectional_attention.",
        "The pad id of the tokenizer (0) differs from the expansion id (EOS, 2): documents are padded with 2 as well."],
    "x3_xmod": [
        "output.LayerNorm is applied twice per layer: before the adapter (adapter_reuse_layer_norm) and after it.",
        "The published antoinelouis/colbert-xm has vocab_size 250002 and no [unused*] tokens: there PyLate adds random rows. Here "
        "the two tokens are in tokenizer.json and in the embedding table."],
    "x4_jina_xlmr_rotary": [
        "config.json has no model_type: position_embedding_type=rotary or auto_map must decide.",
        "No position table: the mask token's rows and every other row get RoPE positions 0..n-1."],
    "x6_lfm2_bidirectional": [
        "Masked rows are NOT zeroed before the convolution (the published ColBERT copy does that on flash-attention only), unlike "
        "case p and unlike LFM2.5-Embedding: in a padded batch the last real row of a document mixes in pad rows, so document "
        "rows depend on the batch (d_emb_batch); queries are always padded to the full length and do not."],
}


# =========================================================================== local stand-ins for remote code
def register_local():
    import torch
    from transformers import AutoConfig, AutoModel, Lfm2Config, Lfm2Model, Qwen3Config, Qwen3Model

    def pad_mask(x, att):
        """4D additive mask: every query row sees every key whose attention is 1."""
        if att is None:
            return None
        m = torch.zeros(att.shape[0], 1, att.shape[1], att.shape[1], dtype=x.dtype)
        return m.masked_fill(att[:, None, None, :] == 0, torch.finfo(x.dtype).min)

    class PPLXQwen3Config(Qwen3Config):
        model_type = "bidirectional_pplx_qwen3"

    class PPLXQwen3Model(Qwen3Model):
        config_class = PPLXQwen3Config

        def __init__(self, config):
            super().__init__(config)
            for layer in self.layers:
                layer.self_attn.is_causal = False

        def forward(self, input_ids=None, attention_mask=None, **kw):
            x = self.embed_tokens(input_ids)
            return super().forward(inputs_embeds=x, attention_mask={"full_attention": pad_mask(x, attention_mask)},
                                   use_cache=False)

    class Lfm2BiConfig(Lfm2Config):
        model_type = "lfm2bi_local"

    class Lfm2BidirectionalModel(Lfm2Model):
        config_class = Lfm2BiConfig

        def __init__(self, config):
            super().__init__(config)
            for layer in self.layers:
                if layer.is_attention_layer:
                    layer.self_attn.is_causal = False

        def forward(self, input_ids=None, attention_mask=None, **kw):
            x = self.embed_tokens(input_ids)
            mask = pad_mask(x, attention_mask)
            pos = self.rotary_emb(x, torch.arange(x.shape[1])[None])
            for layer in self.layers:
                h = layer.operator_norm(x)
                if layer.is_attention_layer:
                    h = layer.self_attn(h, position_embeddings=pos, attention_mask=mask)[0]
                else:
                    c = layer.conv
                    b, gate, v = c.in_proj(h).transpose(1, 2).chunk(3, dim=1)
                    w = c.conv.weight
                    y = torch.nn.functional.conv1d(b * v, w, c.conv.bias, padding=w.shape[-1] // 2, groups=w.shape[0])
                    h = c.out_proj((gate * y[..., :x.shape[1]]).transpose(1, 2))
                x = x + h
                x = x + layer.feed_forward(layer.ffn_norm(x))
            from transformers.modeling_outputs import BaseModelOutput

            return BaseModelOutput(last_hidden_state=self.embedding_norm(x))

    for name, cfg, model in (("bidirectional_pplx_qwen3", PPLXQwen3Config, PPLXQwen3Model),
                             ("lfm2bi_local", Lfm2BiConfig, Lfm2BidirectionalModel)):
        AutoConfig.register(name, cfg, exist_ok=True)
        AutoModel.register(cfg, model, exist_ok=True)
    return dict(pplx=(PPLXQwen3Config, PPLXQwen3Model), lfm2bi=(Lfm2BiConfig, Lfm2BidirectionalModel))


# =========================================================================== tokenizers
def byte_tokenizer(profile, kind):
    """EuroBERT: Llama-3 shape, BOS and EOS around the text, <|mask|>. Qwen: NFC, one digit per piece, nothing added."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    euro = kind == "eurobert"
    digits = r"\p{N}{1,3}" if euro else r"\p{N}"
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|"
               r"\s*[\r\n]+|\s+(?!\S)|\s+")
    specials = (["<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"] if euro
                else ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok = Tokenizer(models.BPE(ignore_merges=euro))
    if not euro:
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(profile.training_text(), trainers.BpeTrainer(
        vocab_size=profile.LFM2_BPE["vocab_size"], special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    if euro:
        b, e = specials[:2]
        tok.post_processor = processors.TemplateProcessing(
            single=f"{b}:0 $A:0 {e}:0", pair=f"{b}:0 $A:0 {e}:0 $B:1 {e}:1",
            special_tokens=[(t, tok.token_to_id(t)) for t in (b, e)])
        mask = AddedToken(specials[2], lstrip=True, normalized=False, special=True)          # as published
        tok.add_special_tokens([mask])
        names = dict(bos_token=b, eos_token=e, pad_token=e, mask_token=mask, model_max_length=8192)
    else:
        tok.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
        names = dict(eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=131072)
    return PreTrainedTokenizerFast(tokenizer_object=tok, model_input_names=["input_ids", "attention_mask"], **names)


def make_tokenizer(profile, c):
    if c["kind"] in ("eurobert", "pplx"):
        return byte_tokenizer(profile, c["kind"])
    return g.lfm2_tokenizer(profile) if c["kind"] == "lfm2bi" else g.xlmr_tokenizer(profile)


# =========================================================================== backbones
def backbone(c, t, local):
    import transformers as tf

    kind, n = c["kind"], len(t)
    base = dict(vocab_size=n, hidden_size=c["hidden"], num_hidden_layers=c["layers"], num_attention_heads=c["heads"],
                intermediate_size=c["inter"], max_position_embeddings=c["max_pos"], pad_token_id=t.pad_token_id)
    rope = dict(rope_parameters={"rope_type": "default", "rope_theta": c.get("theta")})
    if kind == "eurobert":
        return tf.EuroBertModel(tf.EuroBertConfig(
            **base, **rope, num_key_value_heads=c["kv_heads"], head_dim=c["head_dim"], rms_norm_eps=c["eps"],
            bos_token_id=t.bos_token_id, eos_token_id=t.eos_token_id, mask_token_id=t.mask_token_id))
    if kind == "pplx":
        cfg, model = local["pplx"]
        return model(cfg(**base, **rope, num_key_value_heads=c["kv_heads"], head_dim=c["head_dim"], rms_norm_eps=c["eps"],
                         eos_token_id=t.eos_token_id, use_cache=False, tie_word_embeddings=True))
    if kind == "lfm2bi":
        cfg, model = local["lfm2bi"]
        return model(cfg(**base, **rope, num_key_value_heads=c["kv_heads"], block_multiple_of=c["multiple_of"],
                         layer_types=c["layer_types"], conv_L_cache=3, norm_eps=c["eps"], bos_token_id=t.bos_token_id,
                         eos_token_id=t.eos_token_id))
    ids = dict(bos_token_id=t.bos_token_id, eos_token_id=t.eos_token_id, type_vocab_size=1, layer_norm_eps=1e-5)
    if kind == "xmod":
        return tf.XmodModel(tf.XmodConfig(**base, **ids, languages=c["languages"], default_language=c["default_language"]))
    if kind == "jina":
        return tf.JinaEmbeddingsV3Model(tf.JinaEmbeddingsV3Config(**base, **ids, **rope))
    raise ValueError(kind)


def build(profile, name, c, dest, work, local):
    """PyLate creates and saves; then the files get the published spelling. Returns the folder the reference is run on."""
    import pylate.models as pm
    from sentence_transformers.models import Transformer

    base, raw = work / f"{name}_base", work / f"{name}_raw"
    for p in (base, raw, dest):
        shutil.rmtree(p, ignore_errors=True)
    t = make_tokenizer(profile, c)
    backbone(c, t, local).save_pretrained(base)
    t.save_pretrained(base)
    modules, width = [Transformer(str(base))], c["hidden"]
    for d in c["dense"]:
        modules.append(pm.Dense(in_features=width, out_features=d["out"], bias=d.get("bias", False),
                                activation_function=g.class_by_name("torch.nn.modules.linear.Identity")()))
        width = d["out"]
    kw = dict(c["colbert"])
    if c.get("prefixes"):
        kw |= dict(query_prefix=c["prefixes"][0], document_prefix=c["prefixes"][1])
    colbert = pm.ColBERT(modules=modules, device="cpu", **kw)
    g.fill(colbert[0].auto_model, c["seed"])
    for i in range(1, len(colbert)):
        g.fill(colbert[i], c["seed"] * 1000 + i)
    colbert.encode(["a first use"], is_query=True)
    colbert[0].auto_model._weight_conversions = None
    colbert.save(str(raw), create_model_card=False)
    shutil.copytree(raw, dest)
    cfg = g.read_json(raw / "config.json")
    if c["kind"] == "eurobert":
        edit_eurobert(c, dest, cfg)
    elif c["kind"] == "pplx":
        edit_pplx(dest, cfg)
    elif c["kind"] == "lfm2bi":
        cfg |= dict(model_type="lfm2", architectures=["Lfm2BidirectionalModel"], disable_flash_attention=True, auto_map={
            "AutoModel": "modeling_lfm2_bidirectional.Lfm2BidirectionalModel"})
        g.write_json(dest / "config.json", dict(sorted(cfg.items())))
    else:
        edit_stanford(c, dest, cfg)


def edit_eurobert(c, dest, cfg):
    g.write_json(dest.parent / "config_v5.json", cfg)
    new = {k: v for k, v in cfg.items() if k not in ("rope_parameters", "dtype", "is_causal", "use_cache", "classifier_pooling")}
    new |= dict(rope_theta=int(c["theta"]), rope_scaling=None, torch_dtype="float32", transformers_version="4.48.2",
                bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", pad_token="<|end_of_text|>", mask_token="<|mask|>",
                hidden_dropout=0.0, is_decoder=False, clf_pooling="late", auto_map={
                    "AutoConfig": "configuration_eurobert.EuroBertConfig", "AutoModel": "modeling_eurobert.EuroBertModel",
                    "AutoModelForMaskedLM": "EuroBERT/EuroBERT-210m--modeling_eurobert.EuroBertForMaskedLM"})
    g.write_json(dest / "config.json", dict(sorted(new.items())))


def edit_pplx(dest, cfg):
    cfg |= dict(architectures=["PPLXQwen3Model"], use_bidirectional_attention=True, auto_map={
        "AutoConfig": "configuration.PPLXQwen3Config", "AutoModel": "modeling.PPLXQwen3Model"})
    g.write_json(dest.parent / "config_v5.json", dict(sorted(cfg.items())))
    old = {k: v for k, v in cfg.items() if k not in ("rope_parameters", "dtype")}
    old |= dict(rope_theta=int(cfg["rope_parameters"]["rope_theta"]), rope_scaling=None, torch_dtype="float32",
                transformers_version="4.57.1")
    g.write_json(dest / "config.json", dict(sorted(old.items())))


def edit_stanford(c, dest, cfg):
    """HF_ColBERT files: 'roberta.' prefix, linear.weight in the root file, knobs in artifact.metadata."""
    from safetensors.torch import load_file, save_file

    state = load_file(dest / "model.safetensors")
    if c["kind"] == "jina":                     # transformers writes the published names back by itself
        assert "encoder.layers.0.mixer.Wqkv.weight" in state and "emb_ln.weight" in state
    new = {f"roberta.{k}": v.contiguous() for k, v in state.items()}
    new["linear.weight"] = load_file(dest / "1_Dense" / "model.safetensors")["linear.weight"]
    save_file(new, dest / "model.safetensors", metadata={"format": "pt"})
    keep = ("attention_probs_dropout_prob", "bos_token_id", "classifier_dropout", "eos_token_id", "hidden_act",
            "hidden_dropout_prob", "hidden_size", "initializer_range", "intermediate_size", "layer_norm_eps",
            "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "pad_token_id", "type_vocab_size", "vocab_size",
            "adapter_layer_norm", "adapter_reduction_factor", "adapter_reuse_layer_norm", "default_language", "languages",
            "ln_before_adapter", "pre_norm")
    new = {k: cfg[k] for k in keep if k in cfg} | dict(
        _name_or_path=c["stanford"], architectures=["HF_ColBERT"], torch_dtype="float32", use_cache=True, output_past=True)
    if c["kind"] == "xmod":
        new |= dict(model_type="xmod", position_embedding_type="absolute", transformers_version="4.37.2")
    else:                                                               # no model_type, as published
        flash = "jinaai/xlm-roberta-flash-implementation--"
        new |= dict(position_embedding_type="rotary", rotary_emb_base=c["theta"], emb_pooler=None, load_trained_adapters=False,
                    lora_adaptations=None, lora_alpha=1, lora_dropout_p=0.0, lora_main_params_trainable=False, lora_prompts=None,
                    lora_rank=4, matryoshka_dimensions=None, truncate_dim=None, use_flash_attn=True, transformers_version="4.43.2",
                    auto_map={"AutoConfig": flash + "configuration_xlm_roberta.XLMRobertaFlashConfig",
                              "AutoModel": flash + "modeling_xlm_roberta.XLMRobertaModel",
                              "AutoModelForMaskedLM": flash + "modeling_xlm_roberta.XLMRobertaForMaskedLM",
                              "AutoModelForPreTraining": flash + "modeling_xlm_roberta.XLMRobertaForPreTraining"})
    g.write_json(dest / "config.json", dict(sorted(new.items())))
    g.write_json(dest / "artifact.metadata", dict(
        query_token_id=c["prefixes"][0], doc_token_id=c["prefixes"][1], query_token="[Q]", doc_token="[D]", nbits=1,
        similarity="cosine", query_maxlen=c["colbert"]["query_length"], doc_maxlen=c["colbert"]["document_length"],
        attend_to_mask_tokens=c["colbert"].get("attend_to_expansion_tokens", False), interaction="colbert",
        dim=c["dense"][-1]["out"], mask_punctuation=True, checkpoint=c["stanford"]))
    for f in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (dest / f).unlink()
    shutil.rmtree(dest / "1_Dense")


# =========================================================================== reference arrays
def open_reference(out, work, name, c):
    """x4 and x6 are computed on the save under its transformers name: their published config needs remote code."""
    import pylate.models as pm

    path = work / f"{name}_raw" if c["kind"] in ("jina", "lfm2bi") else out / name / "checkpoint"
    return pm.ColBERT(str(path), device="cpu")


def arrays_of(model, inputs, c):
    import numpy as np
    import torch

    arrays, info, q, d = g.pylate_arrays(model, inputs["queries"], inputs["documents"], c)
    if c["kind"] == "lfm2bi":
        arrays["d_emb_batch"] = arrays["d_emb"]
        d = [model.encode([t], is_query=False)[0] for t in inputs["documents"]]
        arrays["d_emb"], off = g.ragged(d, np.float32)
        assert np.array_equal(off, arrays["d_off"])
        arrays["scores"] = g.maxsim(q, d)
        pooled, notes = g.pool_all(d, lambda E, k, p: model.pool_embeddings_hierarchical(
            [torch.from_numpy(E)], pool_factor=k, protected_tokens=p)[0].numpy())
        arrays |= pooled
        info["pooling"] = notes
    return arrays, info, q, d


def do_expect(out, work, profile, name, c):
    import copy

    import numpy as np

    case = out / name
    model = open_reference(out, work, name, c)
    limit = lambda length, pid: length - 1 if pid is not None else length
    qs, ds = g.make_inputs(profile, model.tokenizer, model.query_prefix, model.document_prefix,
                           limit(model.query_length, model.query_prefix_id),
                           limit(model.document_length, model.document_prefix_id), False)
    inputs = g.inputs_json(qs, ds)
    dropped = []
    if c["kind"] == "pplx":                     # a text without any token: PyLate alone raises, in a batch it does not
        for side, notes in (("queries", "query_notes"), ("documents", "document_notes")):
            is_query = side == "queries"
            for i in reversed(range(len(inputs[side]))):
                try:
                    model.encode([inputs[side][i]], is_query=is_query)
                except Exception as e:
                    dropped.append(dict(side=side, note=inputs[notes][i], text=inputs[side][i], raises=type(e).__name__,
                                        message=str(e).splitlines()[0][:160]))
                    del inputs[side][i], inputs[notes][i]
    g.write_json(case / "inputs.json", inputs, ascii_only=True)
    arrays, info, q, d = arrays_of(model, inputs, c)
    m64 = copy.deepcopy(model).double()
    one = c["kind"] == "lfm2bi"
    enc = lambda side, is_query: m64.encode(inputs[side], is_query=is_query, batch_size=1 if one and not is_query else 128)
    a = enc("queries", True) + enc("documents", False)
    gap = float(max(np.abs(x - y).max() for x, y in zip(a, list(q) + list(d)) if len(x)))
    info["float32_vs_float64_max_abs"] = dict(rows=gap, scores=float(
        np.abs(g.maxsim(a[:len(q)], a[len(q):]) - arrays["scores"]).max()))
    np.savez_compressed(case / "expected.npz", **arrays)
    g.write_json(case / "meta.json", dict(
        case=name, set=profile.NAME, what=c["what"],
        reference="pylate.models.ColBERT(checkpoint, device='cpu') over transformers 5.23.0, backbone class "
                  + type(model[0].auto_model).__name__ + ("" if c["kind"] not in ("jina", "lfm2bi") else
                                                          ", run on the same weights under their transformers names"),
        versions=g.versions("pylate", "sentence-transformers", "transformers", "tokenizers", "torch", "numpy", "scipy"),
        knobs=g.describe(model), counts=dict(queries=len(q), documents=len(d), query_rows=int(sum(map(len, q))),
                                             document_rows=int(sum(map(len, d))), dim=int(q[0].shape[1])),
        tolerance=g.tolerance(gap), sanity=info, raises=dropped + g.probe_raises(model, c), surprises=SURPRISES[name],
        files=g.tensors_of(case / "checkpoint")))


# =========================================================================== independent numpy float64 forward
def rms(x, w, eps):
    import numpy as np

    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def layer_norm(x, w, b, eps):
    import numpy as np

    m = x.mean(-1, keepdims=True)
    return (x - m) / np.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + eps) * w + b


def gelu(x, o):
    import numpy as np
    from scipy.special import erf

    if "tanh_gelu" in o:
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def rope(x, theta, o):
    """x [heads, n, head_dim]; halves, not neighbours."""
    import numpy as np

    if "no_rope" in o:
        return x
    h = x.shape[-1] // 2
    f = np.arange(x.shape[1])[:, None] * theta ** (-np.arange(h) / h)
    c, s = np.cos(f), np.sin(f)
    if "interleaved_rope" in o:
        a, b = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2], out[..., 1::2] = a * c - b * s, b * c + a * s
        return out
    a, b = x[..., :h], x[..., h:]
    return np.concatenate([a * c - b * s, b * c + a * s], -1)


def attend(q, k, v, att, o):
    """q [H,n,d], k and v [K,n,d]: head i uses kv head i // (H/K)."""
    import numpy as np

    r = len(q) // len(k)
    k, v = (np.tile(k, (r, 1, 1)), np.tile(v, (r, 1, 1))) if "tiled_kv" in o else (k.repeat(r, 0), v.repeat(r, 0))
    s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    n = s.shape[-1]
    ok = np.broadcast_to((att > 0)[None], (n, n)) if "mask_ignored" not in o else np.ones((n, n), bool)
    if "causal" in o:
        ok = ok & (np.tril(np.ones((n, n), bool)))
    s = np.where(ok[None], s, -1e30)
    e = np.exp(s - s.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, -1)


def heads(x, n):
    return x.reshape(len(x), n, -1).transpose(1, 0, 2)


def forward_llama(W, cfg, ids, att, o):
    """EuroBERT, Qwen3 (q_norm/k_norm present) and LFM2.5 (conv layers)."""
    import numpy as np

    H, K = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    eps = (cfg.get("rms_norm_eps") or cfg.get("norm_eps")) if "eps" not in o else o["eps"]
    theta = o.get("theta") or cfg.get("rope_theta") or cfg["rope_parameters"]["rope_theta"]
    lfm = cfg["model_type"] == "lfm2"
    n1, n2, fin = ("operator_norm", "ffn_norm", "embedding_norm") if lfm else ("input_layernorm", "post_attention_layernorm", "norm")
    x = W["embed_tokens.weight"][ids]
    silu = lambda z: z / (1 + np.exp(-z))
    for i in range(cfg["num_hidden_layers"]):
        L = lambda k: W[f"layers.{i}.{k}"]
        h = rms(x, L(n1 + ".weight"), eps)
        if lfm and cfg["layer_types"][i] == "conv":
            if "zero_masked" in o:
                h = h * att[:, None]
            b, gate, v = np.split(h @ L("conv.in_proj.weight").T, 3, axis=1)
            w, u = L("conv.conv.weight")[:, 0], b * v
            k = w.shape[1]
            left = k - 1 if "causal_conv" in o else k // 2
            p = np.pad(u, ((left, k), (0, 0)))
            y = sum(p[j:j + len(u)] * w[:, j] for j in range(k))
            a = (gate * y) @ L("conv.out_proj.weight").T
        else:
            qn, kn, out = ("q_layernorm", "k_layernorm", "out_proj") if lfm else ("q_norm", "k_norm", "o_proj")
            q, k, v = (heads(h @ L(f"self_attn.{p}_proj.weight").T, m) for p, m in (("q", H), ("k", K), ("v", K)))
            if f"layers.{i}.self_attn.{qn}.weight" in W and "no_qk_norm" not in o:
                if "qk_norm_after_rope" in o:
                    q, k = rms(rope(q, theta, o), L(f"self_attn.{qn}.weight"), eps), rms(rope(k, theta, o), L(f"self_attn.{kn}.weight"), eps)
                    o2 = dict(o, no_rope=1)
                else:
                    q, k, o2 = rms(q, L(f"self_attn.{qn}.weight"), eps), rms(k, L(f"self_attn.{kn}.weight"), eps), o
            else:
                o2 = o
            a = attend(rope(q, theta, o2), rope(k, theta, o2), v, att, o) @ L(f"self_attn.{out}.weight").T
        x = x + a
        h = rms(x, L(n2 + ".weight"), eps)
        g1, up, down = (("feed_forward.w1", "feed_forward.w3", "feed_forward.w2") if lfm
                        else ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"))
        if "swap_gate" in o:
            g1, up = up, g1
        x = x + (silu(h @ L(g1 + ".weight").T) * (h @ L(up + ".weight").T)) @ L(down + ".weight").T
    return x if "no_final_norm" in o else rms(x, W[fin + ".weight"], eps)


def forward_xmod(W, cfg, ids, att, o):
    import numpy as np

    W = {k.removeprefix("roberta."): v for k, v in W.items()}
    eps, pad = o.get("eps", cfg["layer_norm_eps"]), cfg["pad_token_id"]
    ln = lambda x, p: layer_norm(x, W[p + ".weight"], W[p + ".bias"], eps)
    lin = lambda x, p: x @ W[p + ".weight"].T + W[p + ".bias"]
    real = np.asarray(ids) != pad
    if "positions_from_mask" in o:
        real = real & (att > 0)
    pos = np.cumsum(real) * real + pad
    if "no_position_offset" in o:
        pos = np.arange(len(ids))
    e = "embeddings."
    x = W[e + "word_embeddings.weight"][ids] + W[e + "position_embeddings.weight"][pos]
    if "no_token_type" not in o:
        x = x + W[e + "token_type_embeddings.weight"][0]
    x = ln(x, e + "LayerNorm")
    lang = o.get("language", cfg["default_language"])
    for i in range(cfg["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        q, k, v = (heads(lin(x, p + f"attention.self.{n}"), cfg["num_attention_heads"]) for n in ("query", "key", "value"))
        x = ln(x + lin(attend(q, k, v, att, o), p + "attention.output.dense"), p + "attention.output.LayerNorm")
        h = x + lin(gelu(lin(x, p + "intermediate.dense"), o), p + "output.dense")
        if "no_adapter" in o:
            x = ln(h, p + "output.LayerNorm")
            continue
        n1 = ln(h, p + "output.LayerNorm")                              # adapter_reuse_layer_norm
        a = lin(gelu(lin(n1, p + f"output.adapter_modules.{lang}.dense1"), o), p + f"output.adapter_modules.{lang}.dense2")
        x = a + (h if "residual_before_norm" in o else n1)              # ln_before_adapter
        if "one_layer_norm" not in o:
            x = ln(x, p + "output.LayerNorm")                           # the same norm a second time
    return x


def forward_jina(W, cfg, ids, att, o):
    import numpy as np

    W = {k.removeprefix("roberta."): v for k, v in W.items()}
    eps, H = o.get("eps", cfg["layer_norm_eps"]), cfg["num_attention_heads"]
    ln = lambda x, p: layer_norm(x, W[p + ".weight"], W[p + ".bias"], eps)
    lin = lambda x, p: x @ W[p + ".weight"].T + W[p + ".bias"]
    theta = o.get("theta", cfg["rotary_emb_base"])
    x = W["embeddings.word_embeddings.weight"][ids]
    if "no_token_type" not in o:
        x = x + W["embeddings.token_type_embeddings.weight"][0]
    x = ln(x, "emb_ln")
    for i in range(cfg["num_hidden_layers"]):
        p = f"encoder.layers.{i}."
        qkv = lin(x, p + "mixer.Wqkv")
        if "per_head_qkv" in o:
            q, k, v = (z.reshape(len(x), -1) for z in np.moveaxis(qkv.reshape(len(x), H, 3, -1), 2, 0))
        else:
            q, k, v = np.split(qkv, 3, axis=1)
        q, k, v = heads(q, H), heads(k, H), heads(v, H)
        x = ln(x + lin(attend(rope(q, theta, o), rope(k, theta, o), v, att, o), p + "mixer.out_proj"), p + "norm1")
        x = ln(x + lin(gelu(lin(x, p + "mlp.fc1"), o), p + "mlp.fc2"), p + "norm2")
    return x


FORWARD = dict(eurobert=forward_llama, pplx=forward_llama, lfm2bi=forward_llama, xmod=forward_xmod, jina=forward_jina)
MISTAKES = dict(
    eurobert=dict(causal={}, mask_ignored={}, theta_10000=dict(theta=1e4), eps_1e_6=dict(eps=1e-6), no_rope={}, interleaved_rope={},
                  tiled_kv={}, swap_gate={}, no_final_norm={}),
    pplx=dict(causal={}, attend_off={}, theta_10000=dict(theta=1e4), eps_1e_5=dict(eps=1e-5), no_rope={}, interleaved_rope={},
              tiled_kv={}, swap_gate={}, no_final_norm={}, no_qk_norm={}, qk_norm_after_rope={}),
    lfm2bi=dict(causal={}, causal_conv={}, zero_masked={}, mask_ignored={}, theta_10000=dict(theta=1e4), eps_1e_6=dict(eps=1e-6),
                tiled_kv={}, no_qk_norm={}, qk_norm_after_rope={}),
    xmod=dict(causal={}, mask_ignored={}, no_adapter={}, first_language=dict(language="de_DE"), one_layer_norm={},
              residual_before_norm={}, positions_from_mask={}, no_position_offset={}, no_token_type={}, tanh_gelu={},
              eps_1e_12=dict(eps=1e-12)),
    jina=dict(causal={}, attend_off={}, theta_20000=dict(theta=2e4), no_rope={}, interleaved_rope={}, per_head_qkv={},
              no_token_type={}, tanh_gelu={}, eps_1e_12=dict(eps=1e-12)))


def do_check(out, name, c):
    """Compare the numpy forward with expected.npz, then count what each mistake would change."""
    import numpy as np
    from safetensors.numpy import load_file

    case = out / name
    ck, exp = case / "checkpoint", dict(np.load(case / "expected.npz"))
    W = {k: v.astype(np.float64) for k, v in load_file(ck / "model.safetensors").items()}
    D = W["linear.weight"] if "linear.weight" in W else load_file(ck / "1_Dense/model.safetensors")["linear.weight"].astype(np.float64)
    cfgs = [g.read_json(ck / "config.json")] + ([g.read_json(case / "config_v5.json")] if (case / "config_v5.json").exists() else [])

    def rows(cfg, o, label=None):
        res = {}
        for s in "qd":
            got, off = [], exp[f"{s}_ids_off"]
            for a, b in zip(off[:-1], off[1:]):
                att = exp[f"{s}_att"][a:b].copy()
                if label == "attend_off" and s == "q":                  # the expansion rows of this query get attention 0
                    real = exp["q_real"][a:b] if "q_real" in exp else None
                    att = att * (np.cumprod(exp["q_ids"][a:b][::-1] == exp["q_ids"][a:b][-1])[::-1] == 0) if real is None else real
                    att[:1] = 1
                x = FORWARD[c["kind"]](W, cfg, exp[f"{s}_ids"][a:b], att, o) @ D.T
                x = x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), 1e-12)
                got.append(x[exp[f"{s}_keep"][a:b] > 0])
            res[s] = np.concatenate(got)
        return res

    diffs = []
    for cfg in cfgs:
        r = rows(cfg, {})
        assert all(r[s].shape == exp[f"{s}_emb"].shape for s in "qd")
        diffs.append(max(float(np.abs(r[s] - exp[f"{s}_emb"]).max()) for s in "qd"))
    effect = {}
    for label, extra in MISTAKES[c["kind"]].items():
        r = rows(cfgs[0], extra or {label: 1}, label)
        effect[label] = {s: float(f"{np.abs(r[s] - exp[f'{s}_emb']).max():.2g}") for s in "qd"}
    tol = g.read_json(case / "meta.json")["tolerance"]["rows_max_abs"]
    ok = max(diffs) < tol
    print(f"{'ok  ' if ok else 'FAIL'} {name} numpy float64 against expected: {diffs} (tolerance {tol})")
    for k, v in effect.items():
        print(f"       {k:22s} q {v['q']:.2g} d {v['d']:.2g}{'   <-- not seen' if max(v.values()) < 2 * tol else ''}")
    meta = g.read_json(case / "meta.json")
    meta["sanity"]["numpy_float64_max_abs"] = max(diffs)
    meta["sanity"]["effect_of_mistakes_max_abs"] = effect
    g.write_json(case / "meta.json", meta)
    return not ok


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("step", choices="all build expect verify check".split())
    ap.add_argument("--out", type=Path, default=HERE)
    ap.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "more_goldens_work")
    ap.add_argument("--only", type=lambda s: s.split(","), default=None)
    args = ap.parse_args()
    out, work = args.out.resolve(), args.work
    profile = g.load_profile(HERE / "profile_public.py")
    steps = "build expect verify check".split() if args.step == "all" else [args.step]
    local = register_local() if steps != ["check"] else None
    if local:
        g.torch_setup()
    bad = 0
    for name, c in CASES.items():
        if args.only and not any(name.startswith(o) for o in args.only):
            continue
        for step in steps:
            print(step, name, flush=True)
            if step == "build":
                work.mkdir(parents=True, exist_ok=True)
                (out / name).mkdir(parents=True, exist_ok=True)
                build(profile, name, c, out / name / "checkpoint", work, local)
            elif step == "expect":
                do_expect(out, work, profile, name, c)
            elif step == "verify":
                inputs = g.read_json(out / name / "inputs.json")
                problems = g.same_npz(out / name / "expected.npz", arrays_of(open_reference(out, work, name, c), inputs, c)[0])
                print("ok  " if not problems else "FAIL", name, problems or "")
                bad += bool(problems)
            else:
                bad += do_check(out, name, c)
    return bad


if __name__ == "__main__":
    sys.exit(main())
