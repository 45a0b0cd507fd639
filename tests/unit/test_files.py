"""What stands in place of a file, and what saving leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chandelier import ArgumentError, ColBERT, ModelError, MultiVectors, ShapeError, maxsim

GOLDEN = Path(__file__).parents[1] / "goldens" / "a_bert_pylate" / "checkpoint"
VECTORS = MultiVectors.from_arrays([np.eye(3)])
FILES = [
    "modules.json",
    "config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "1_Dense/config.json",
    "1_Dense/model.safetensors",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN, tmp_path / "checkpoint")


@pytest.mark.parametrize("file", FILES)
def test_a_pipe_is_refused_and_does_not_hang(folder: Path, file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    with pytest.raises(ModelError, match="pipe") as caught:
        ColBERT(folder)
    assert caught.value.file == str(folder / file)


@pytest.mark.parametrize("file", FILES)
def test_a_link_that_leads_nowhere_is_damage_and_not_absence(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (folder / file).symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=file.rpartition("/")[2]):
        ColBERT(folder)


def test_a_file_is_no_checkpoint(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is a file; wanted the folder"):
        ColBERT(folder / "config.json")


def test_saving_keeps_permissions_and_links(tmp_path: Path) -> None:
    target, link = tmp_path / "private.safetensors", tmp_path / "link"
    VECTORS.save(target)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    target.chmod(0o600)
    link.symlink_to(target)
    VECTORS.astype("float16").save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert MultiVectors.load(target) == VECTORS.astype("float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "private.safetensors"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """A real limit on the size of files, in a process of its own."""
    target = tmp_path / "vectors.safetensors"
    VECTORS.save(target)
    code = (
        "import resource, signal, sys, numpy as np, chandelier\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    chandelier.MultiVectors.from_arrays([np.ones((1000, 64))]).save(sys.argv[1])\n"
        "except OSError as error:\n    print(error.filename)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(target)
    assert MultiVectors.load(target) == VECTORS
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_dangling_link_is_no_place_to_save(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="link"):
        VECTORS.save(tmp_path / "link")


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentError, match="float32 cannot hold"):
        MultiVectors.from_arrays([np.full((1, 2), 1e300)])
    with pytest.raises(ArgumentError, match="float16 cannot hold"):
        MultiVectors.from_arrays([np.full((1, 2), 1e6)]).astype("float16")
    with pytest.raises(ArgumentError, match="masked"):
        maxsim(np.ma.masked_array(np.eye(2), [[True, False], [False, False]]), [np.eye(2)])


def test_what_is_read_only_stays_read_only() -> None:
    for vectors in (ColBERT(GOLDEN).encode_documents(["bread"]), VECTORS):
        with pytest.raises(ValueError, match="WRITEABLE"):
            vectors.data.flags.writeable = True


def test_a_document_without_rows_is_named() -> None:
    model = ColBERT(GOLDEN, skiplist_words=["[CLS]", "[SEP]", "[D] ", "the"])
    with pytest.raises(ShapeError, match=r"documents\[0\]: got no tokens"):
        model.rerank("moon", ["the the", "moon"])


MAPPED = """
import resource, sys
import numpy as np
from chandelier import MultiVectors, maxsim, top_k

documents = MultiVectors.load(sys.argv[1], mmap=True)
query = np.eye(4, 128, dtype=np.float32)
maxsim(query, documents[:1])  # threads and buffers
resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))
scores = maxsim(query, documents)
best, found = top_k(query, documents, 2)
print(len(documents), documents.data.nbytes >> 20, best.tolist(), found.tolist(), scores[best].tolist())
"""


def test_a_mapped_file_is_scored_in_less_memory_than_it_has(tmp_path: Path) -> None:
    # 1 GB of float16, most of it a hole in the file, in a process that may take 200 MB; the arithmetic is real.
    path, texts, tokens = tmp_path / "large", 4000, 1000
    header = {
        "offsets": {"dtype": "I64", "shape": [texts + 1], "data_offsets": [0, 8 * (texts + 1)]},
        "data": {
            "dtype": "F16",
            "shape": [texts * tokens, 128],
            "data_offsets": [8 * (texts + 1), 8 * (texts + 1) + texts * tokens * 256],
        },
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text) + 8 * (texts + 1)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + (np.arange(texts + 1) * tokens).tobytes())
        file.truncate(start + texts * tokens * 256)
        for document, value in [(3999, 0.5), (17, 0.25)]:
            file.seek(start + document * tokens * 256)
            file.write(np.full(128, value, np.float16).tobytes())
    done = subprocess.run([sys.executable, "-c", MAPPED, str(path)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split(maxsplit=2) == ["4000", "976", "[3999, 17] [2.0, 1.0] [2.0, 1.0]\n"]


def test_a_mapped_file_is_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    for vectors in [
        MultiVectors.from_arrays([np.eye(3), np.ones((2, 3))]),
        MultiVectors.from_arrays([np.eye(5)]).astype("float16"),
        MultiVectors.from_arrays([], dim=7),
    ]:
        vectors.save(path)
        mapped = MultiVectors.load(path, mmap=True)
        assert mapped == vectors == MultiVectors.load(path)
        assert not mapped.data.flags.writeable
        VECTORS.save(path)  # replaces the file: what is mapped stays
        assert mapped == vectors


def test_rows_that_cannot_be_mapped_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    VECTORS.save(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    shifted = (length + 1).to_bytes(8, "little") + content[8 : 8 + length] + b" " + content[8 + length :]
    path.write_bytes(shifted)
    assert MultiVectors.load(path) == VECTORS
    with pytest.raises(ModelError, match="wanted a multiple of 4") as caught:
        MultiVectors.load(path, mmap=True)
    assert caught.value.key == "data"
