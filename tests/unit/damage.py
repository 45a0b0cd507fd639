"""What the tests of damaged checkpoints share: how to damage a copy of a golden one, and what its error must name."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from chandelier import ColBERT, ModelError

GOLDENS = Path(__file__).parents[1] / "goldens"
TEXTS = ["The capital of France is Paris.", "a second, longer text about nothing at all"]

CONFIG = "config.json"
COLBERT = "config_sentence_transformers.json"
SENTENCE = "sentence_bert_config.json"
MODULES = "modules.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS = "model.safetensors"
DENSE = "1_Dense/config.json"
DENSE_WEIGHTS = "1_Dense/model.safetensors"

Floats = npt.NDArray[np.float32]
Damage = Callable[[Path], object]
Entries = dict[str, Any]


class Case(NamedTuple):
    """One damage, and what the error must name."""

    what: str
    damage: Damage
    file: str = ""  # the end of `ModelError.file`; its name must stand in the message
    key: str = ""  # part of `ModelError.key`; must stand in the message
    says: tuple[str, ...] = ()  # patterns to be found in the message, whatever the case
    at_encode: bool = False  # True where only the first encoding can know


def show(value: object) -> str | None:
    """The test id of a case."""
    return value.what if isinstance(value, Case) else None


def check(error: Exception, folder: Path, file: str = "", key: str = "", says: tuple[str, ...] = ()) -> None:
    """Holds an error to the file, the key and the words that it must name."""
    message = str(error).replace(str(folder), "")
    assert isinstance(error, Exception), f"a panic: {message}"
    for pattern in (re.escape(Path(file).name), re.escape(key), *says):
        assert re.search(pattern, message, re.IGNORECASE), f"nothing like {pattern!r} in {message!r}"
    assert not message.endswith("."), f"a full stop ends {message!r}"
    if file:
        named = Path(str(getattr(error, "file", None))).as_posix()
        assert f"/{named}".endswith(f"/{file}"), f".file is {named!r}"
    if key:
        assert key in str(getattr(error, "key", None))


def refused(folder: Path, case: Case) -> None:
    """Damages a checkpoint, which must not open any more."""
    case.damage(folder)
    with pytest.raises(ModelError) as caught:
        ColBERT(folder)
    check(caught.value, folder, case.file, case.key, case.says)


def sizes(*numbers: int) -> str:
    """A pattern for a shape, however it is written."""
    return r"\b" + r"\D{1,4}".join(map(str, numbers)) + r"\b"


# --- how to damage a checkpoint -------------------------------------------------------------------------------------


def write(file: str, content: bytes) -> Damage:
    """Replaces a file."""
    return lambda folder: (folder / file).write_bytes(content)


def remove(file: str) -> Damage:
    """Takes a file away."""
    return lambda folder: (folder / file).unlink()


def edit(file: str, change: Callable[[Any], object]) -> Damage:
    """Changes the value of a JSON file in place."""

    def damage(folder: Path) -> None:
        value = json.loads((folder / file).read_text(encoding="utf-8"))
        change(value)
        (folder / file).write_text(json.dumps(value), encoding="utf-8")

    return damage


def put(file: str, **keys: object) -> Damage:
    """Sets keys of a JSON object."""
    return edit(file, lambda value: value.update(keys))


def drop(file: str, key: str) -> Damage:
    """Takes a key out of a JSON object."""
    return edit(file, lambda value: value.pop(key))


def read_safetensors(path: Path) -> tuple[Entries, bytes]:
    """The header and the data of a safetensors file."""
    content = path.read_bytes()
    start = 8 + struct.unpack_from("<Q", content)[0]
    return json.loads(content[8:start]), content[start:]


def write_safetensors(path: Path, entries: Entries, data: bytes) -> None:
    """Writes header and data as they are given, right or wrong."""
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def entries(file: str, change: Callable[[Entries], object]) -> Damage:
    """Changes the header of a safetensors file and leaves its data."""

    def damage(folder: Path) -> None:
        header, data = read_safetensors(folder / file)
        change(header)
        write_safetensors(folder / file, header, data)

    return damage


def tensor(file: str, name: str, change: Callable[[Floats], npt.NDArray[Any]] | None) -> Damage:
    """Changes one tensor, or takes it away (`None`); the file stays well formed."""
    names = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64"}
    kinds = {name: kind for kind, name in names.items()}

    def damage(folder: Path) -> None:
        old, data = read_safetensors(folder / file)
        old.pop("__metadata__", None)
        new: Entries = {}
        chunks = b""
        for key, entry in old.items():
            begin, end = entry["data_offsets"]
            kind = kinds[entry["dtype"]]
            array: npt.NDArray[Any] = np.frombuffer(data[begin:end], dtype=kind).reshape(entry["shape"])
            if key == name:
                if change is None:
                    continue
                array = change(array.copy())
            span = [len(chunks), len(chunks) + array.nbytes]
            new[key] = {"dtype": names[array.dtype.name], "shape": list(array.shape), "data_offsets": span}
            chunks += array.tobytes()
        assert name in old, f"the golden checkpoint has no {name}"
        write_safetensors(folder / file, new, chunks)

    return damage


def both(first: Damage, second: Damage) -> Damage:
    """One damage that needs two files to change."""
    return lambda folder: (first(folder), second(folder))


def module(path: object, kind: object = "pylate.models.Dense.Dense") -> dict[str, object]:
    """An entry of modules.json."""
    return {"idx": 0, "name": "0", "path": path, "type": kind}


THE_TRANSFORMER = module("", "sentence_transformers.models.Transformer")
THE_DENSE = module("1_Dense")


def modules(*listed: object) -> Damage:
    """Rewrites modules.json."""
    return write(MODULES, json.dumps(listed).encode())


def copy_dense(to: str) -> Damage:
    """Puts a second, sound Dense folder beside the first."""
    return lambda folder: shutil.copytree(folder / "1_Dense", folder / to)
