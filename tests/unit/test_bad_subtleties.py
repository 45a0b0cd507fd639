"""Checkpoints that were opened in some other way, blamed on the wrong file, or ended the process: one test a defect."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import COLBERT, CONFIG, SENTENCE, WEIGHTS, Case, Damage, edit, put, refused, show, tensor, write
from test_bad_pickles import (
    DENSE_BIN,
    HOOKS,
    PICKLE,
    PROTOCOL_2,
    VALUES,
    archive,
    linear,
    name,
    state_dict,
    storage,
    text,
)
from test_bad_pickles import tensor as pickled

from chandelier import ColBERT, ModelError

Copy = Callable[[str], Path]

SHARDED, PICKLED, STANFORD, SIX = "g_bert_sharded", "f_bert_pytorch_bin", "d_bert_stanford", "n_st6_mve"
MODERN, QWEN3 = "h_modernbert_v5", "x2_qwen3_bidirectional"
INDEX = "model.safetensors.index.json"
OTHER_ORDER = {"byteorder": b"big", "data/0": VALUES.astype(">f4").tobytes()}


def lengthened(member: str, size: int) -> Damage:
    """The Dense's weights in an archive whose index says that a member, stored, has another size than its bytes."""
    # A storage of 650 numbers, of which the archive holds 640.
    program = state_dict(("linear.weight", pickled(storage(elements=650), at=10)))
    content = bytearray(archive(program, {"data/0": VALUES.tobytes()}))
    entry = content.rindex(f"archive/{member}".encode()) - 46
    assert content[entry : entry + 4] == b"PK\x01\x02"
    struct.pack_into("<I", content, entry + 24, size)
    return write(DENSE_BIN, bytes(content))


DEFECTS = [
    # The numbers are read the wrong way round. torch.load swaps their bytes.
    (PICKLED, Case("big-endian numbers", linear(pickled(), OTHER_ORDER), DENSE_BIN, says=("byteorder", "big"))),
    # The bytes of the next member count as numbers.
    (PICKLED, Case("a member longer than it is", lengthened("data/0", 2600), DENSE_BIN)),
    # The seventh argument of _rebuild_tensor_v2 may say that the numbers are to be negated.
    (
        PICKLED,
        Case(
            "a negated tensor",
            linear(pickled().replace(HOOKS + b"tR", HOOKS + b"}" + text("neg") + b"\x88stR")),
            DENSE_BIN,
            PICKLE,
        ),
    ),
    # "internal error: linear 48 -> 0", with a stack of addresses.
    (STANFORD, Case("no row", tensor(WEIGHTS, "linear.weight", lambda w: w[:0]), WEIGHTS, "linear.weight")),
    # The tokenizer's own arguments: special tokens, padding, truncation. sentence-transformers 6 follows them.
    (
        SIX,
        Case("processing_kwargs", put(SENTENCE, processing_kwargs={"text": {"add_special_tokens": False}}), SENTENCE),
    ),
    (
        SIX,
        Case(
            "another output",
            put(SENTENCE, modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}}),
            SENTENCE,
            "modality_config",
        ),
    ),
    (
        SIX,
        Case(
            "another method",
            put(SENTENCE, modality_config={"text": {"method": "get_text_features", "method_output_name": None}}),
            SENTENCE,
            "modality_config",
        ),
    ),
    # sentence-transformers 6 refuses these two itself.
    (SIX, Case("an unknown key", edit(SENTENCE, lambda s: s["query_expansion"].update(mode=1)), SENTENCE, "mode")),
    (SIX, Case("query_length below the expansion", put(SENTENCE, query_length=8), SENTENCE, "query_length")),
    # Bases of the rotary embedding that are not given by kind of layer are passed over for the default ones.
    (
        MODERN,
        Case(
            "flat", put(CONFIG, rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 5.0}), CONFIG, "rope"
        ),
    ),
    (QWEN3, Case("one layer type of three", put(CONFIG, layer_types=["full_attention"]), CONFIG, "layer_types")),
    (QWEN3, Case("causal after all", put(CONFIG, use_bidirectional_attention=False), CONFIG, "use_bidirectional")),
    # Refused, and blamed on a file that has nothing to do with it, or on the folder.
    (
        SHARDED,
        Case(
            "an unlisted tensor",
            edit(INDEX, lambda index: index["weight_map"].pop("encoder.layer.2.output.dense.weight")),
            INDEX,
            "encoder.layer.2.output.dense.weight",
        ),
    ),
    (SHARDED, Case("an empty weight_map", put(INDEX, weight_map={}), INDEX)),
]


@pytest.mark.parametrize(("golden", "case"), DEFECTS, ids=show)
def test_it_is_refused(golden: str, case: Case, copy_golden: Copy) -> None:
    refused(copy_golden(golden), case)


def test_a_passage_prompt_waits_for_its_name(copy_golden: Copy) -> None:
    """sentence-transformers 6 always has a prompt "document", empty if need be, which comes before "passage"."""
    folder = copy_golden(SIX)
    put(COLBERT, prompts={"query": "[Q] ", "passage": "[D] "})(folder)
    model = ColBERT(folder)
    np.testing.assert_array_equal(
        model.encode_documents(["bread"]).data, model.encode_documents(["bread"], prompt="").data
    )


def test_weights_that_are_no_numbers_are_blamed_on_a_file_that_is_there(copy_golden: Copy) -> None:
    folder = copy_golden(PICKLED)
    linear(pickled(), {"data/0": np.full_like(VALUES, np.nan).tobytes()})(folder)
    with pytest.raises(ModelError) as caught:
        ColBERT(folder).encode_documents(["bread"])
    assert Path(caught.value.file).exists()


def test_a_message_is_short(copy_golden: Copy) -> None:
    folder = copy_golden(PICKLED)
    write(DENSE_BIN, archive(PROTOCOL_2 + name("a" * 1_000_000, "b")))(folder)
    with pytest.raises(ModelError) as caught:
        ColBERT(folder)
    assert len(str(caught.value)) < 10_000


def many_sizes(folder: Path) -> None:
    """2 MB: a shape of a million sizes, remembered, of 200 tensors that each copy it."""
    shape = b"(" + b"K\x01" * 1_000_000 + b"tq\x01"
    call = name("torch._utils", "_rebuild_tensor_v2") + b"(h\x02K\x00h\x01h\x01tR"
    write(DENSE_BIN, archive(PROTOCOL_2 + storage() + b"q\x02" + shape + b"(" + call * 200 + b"t."))(folder)


def many_marks(folder: Path) -> None:
    """40 MB of marks, each 48 times as large on the stack."""
    write(DENSE_BIN, archive(PROTOCOL_2 + b"(" * 40_000_000 + b"."))(folder)


def many_tokens(folder: Path) -> None:
    """Rotary positions without a table: a query may be filled up to 2 * 10**9 tokens."""
    put(CONFIG, max_position_embeddings=4_000_000_000)(folder)
    put(COLBERT, query_length=2_000_000_000, do_query_expansion=True)(folder)


OPENER = "import sys; from chandelier import ColBERT; ColBERT(sys.argv[1], threads=1).encode_queries(['bread'])"


@pytest.mark.parametrize(("golden", "damage"), [(PICKLED, many_sizes), (PICKLED, many_marks), (MODERN, many_tokens)])
def test_a_small_file_cannot_end_the_process(golden: str, damage: Damage, copy_golden: Copy) -> None:
    folder = copy_golden(golden)
    damage(folder)
    limit = 1_500_000_000
    done = subprocess.run(
        [sys.executable, "-c", OPENER, folder],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        env={"PYTHONPATH": ":".join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 1, done.returncode
    assert "ModelError" in done.stderr
