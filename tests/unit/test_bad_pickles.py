"""Weights in pytorch_model.bin: a pickle is a program, and nothing of it is run.

Every pickle here is written by hand, a few bytes at a time, so that no PyTorch is needed. What is well formed opens and
gives what was written; what asks for anything but tensors, or is damaged, is refused by name, quickly and in little
memory.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from damage import DENSE, GOLDENS, TEXTS, WEIGHTS, Case, check, put, refused, show, sizes, write
from safetensors.numpy import save_file

from chandelier import ColBERT, ModelError

BIN = "pytorch_model.bin"
DENSE_BIN = "1_Dense/pytorch_model.bin"
PICKLE = "data.pkl"
ROWS, COLUMNS = 20, 32  # of linear.weight

Bytes = Callable[[bytes], bytes]


@pytest.fixture
def folder(copy_golden: Callable[[str], Path]) -> Path:
    """A copy of the checkpoint whose weights are pickled, 32 hidden and a Dense 32 -> 20."""
    return copy_golden("f_bert_pytorch_bin")


# --- how to write a pickle, and the archive around it ---------------------------------------------------------------

PROTOCOL_2 = b"\x80\x02"
PROTOCOL_4 = b"\x80\x04"
STOP = b"."
REDUCE = b"R"


def text(value: str) -> bytes:
    """BINUNICODE."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    """BININT, or LONG1 where it does not fit."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def tuple_of(*parts: bytes) -> bytes:
    """MARK ... TUPLE."""
    return b"(" + b"".join(parts) + b"t"


def name(module: str, what: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{what}\n".encode()


HOOKS = name("collections", "OrderedDict") + b")R"


def storage(kind: str = "FloatStorage", key: str = "0", elements: int = ROWS * COLUMNS) -> bytes:
    """BINPERSID: the elements stand beside the pickle."""
    return tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), number(elements)) + b"Q"


def tensor(
    kept: bytes | None = None,
    shape: tuple[int, ...] = (ROWS, COLUMNS),
    strides: tuple[int, ...] = (COLUMNS, 1),
    at: int = 0,
) -> bytes:
    """A call of _rebuild_tensor_v2, as torch.save writes it."""
    numbers = [tuple_of(*map(number, sizes)) for sizes in (shape, strides)]
    arguments = tuple_of(storage() if kept is None else kept, number(at), *numbers, b"\x89", HOOKS)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + REDUCE


def state_dict(*items: tuple[str, bytes]) -> bytes:
    """A dictionary by name, as a whole program."""
    pairs = b"".join(text(key) + value for key, value in items)
    return PROTOCOL_2 + b"}(" + pairs + b"u" + STOP


def archive(
    program: bytes, members: dict[str, bytes] | None = None, *, compressed: bool = False, extra: str = ""
) -> bytes:
    """What torch.save makes of a program and its storages."""
    if members is None:
        members = {"data/0": np.arange(ROWS * COLUMNS, dtype="<f4").tobytes()}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as file:
        for member, data in {f"data.pkl{extra}": program, "byteorder": b"little", **members, "version": b"3\n"}.items():
            file.writestr(f"archive/{member}", data)
    return content.getvalue()


def dense(program: bytes, members: dict[str, bytes] | None = None) -> Callable[[Path], object]:
    """Replaces the Dense's weights."""
    return write(DENSE_BIN, archive(program, members))


def linear(value: bytes, members: dict[str, bytes] | None = None) -> Callable[[Path], object]:
    """Replaces the Dense's weight and leaves the rest sound."""
    return dense(state_dict(("linear.weight", value)), members)


# --- what is sound opens, and gives what was written ----------------------------------------------------------------


def directions(folder: Path) -> npt.NDArray[np.float32]:
    """The rows of the documents."""
    return np.asarray(ColBERT(folder).encode_documents(TEXTS).data)


VALUES = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype("<f4")
HALVES = VALUES.astype("<f2")
BFLOATS = (VALUES.view("<u4") & 0xFFFF0000).view("<f4")

# (what, the tensor, its storage, what the weight is then)
SOUND: list[tuple[str, bytes, bytes, npt.NDArray[Any]]] = [
    ("as torch.save writes it", tensor(), VALUES.tobytes(), VALUES),
    (
        "a parameter",
        name("torch._utils", "_rebuild_parameter") + tuple_of(tensor(), b"\x88", HOOKS) + REDUCE,
        VALUES.tobytes(),
        VALUES,
    ),
    ("half precision", tensor(storage("HalfStorage")), HALVES.tobytes(), HALVES),
    ("bfloat16", tensor(storage("BFloat16Storage")), (BFLOATS.view("<u4") >> 16).astype("<u2").tobytes(), BFLOATS),
    ("a part of its storage", tensor(storage(elements=700), at=60), bytes(240) + VALUES.tobytes(), VALUES),
]


@pytest.mark.parametrize(("what", "value", "stored", "weight"), SOUND, ids=[case[0] for case in SOUND])
def test_a_sound_pickle_gives_what_was_written(
    what: str, value: bytes, stored: bytes, weight: npt.NDArray[Any], folder: Path
) -> None:
    pickletools.dis(state_dict(("linear.weight", value)), io.StringIO())
    linear(value, {"data/0": stored})(folder)
    found = directions(folder)
    # The same numbers in a safetensors file, which another reader reads, give the same rows.
    (folder / DENSE_BIN).unlink()
    save_file({"linear.weight": weight.astype(np.float32)}, folder / "1_Dense" / WEIGHTS)
    np.testing.assert_array_equal(found, directions(folder))


def test_what_stands_beside_the_tensors_is_nobodys_business(folder: Path) -> None:
    # A counter, a fraction, a nested dictionary, and the versions that PyTorch notes as attributes.
    nested = b"}" + text("a") + number(1) + b"s"
    beside = [("step", number(7)), ("rate", b"G" + bytes(8)), ("nested", nested), ("none", b"N")]
    program = state_dict(("linear.weight", tensor()), *beside)[:-1] + b"}" + text("_metadata") + b"}sb" + STOP
    dense(program)(folder)
    assert ColBERT(folder).dim == ROWS


# --- the archive ----------------------------------------------------------------------------------------------------


def damaged(file: str, change: Bytes) -> Callable[[Path], object]:
    """Changes the bytes of a file."""
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


# What torch.save wrote before 1.6: a magic number, a version and the machine, each a pickle, and then the storages.
LEGACY = b"".join(
    PROTOCOL_2 + part + STOP
    for part in (b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", b"M\xe9\x03", b"}" + text("little_endian") + b"\x88s")
)

ARCHIVES = [
    *(
        Case(f"{file}: {what}", damaged(file, change), file, says=("archive",))
        for file in (BIN, DENSE_BIN)
        for what, change in {
            "1 byte": lambda content: content[:1],
            "cut in half": lambda content: content[: len(content) // 2],
            "the last byte lost": lambda content: content[:-1],
            "its index lost": lambda content: content[: content.rindex(b"PK\x01\x02")],
            "no zip": lambda content: b"x" * len(content),
            "a pointer instead": lambda content: b"version 1\noid sha256:0000000000000000\nsize 453464\n",
            "as PyTorch 1.5 wrote it": lambda content: LEGACY,
            "a bare pickle": lambda content: state_dict(("linear.weight", tensor())),
        }.items()
    ),
    Case("0 bytes", write(DENSE_BIN, b""), DENSE_BIN),
    Case("an archive without a pickle", write(DENSE_BIN, archive(b"", extra=".txt")), DENSE_BIN, says=(PICKLE,)),
    Case(
        "two pickles",
        dense(state_dict(("linear.weight", tensor())), {"data/0": bytes(2560), "more/data.pkl": b"."}),
        DENSE_BIN,
        says=(PICKLE,),
    ),
    Case(
        "compressed",
        write(DENSE_BIN, archive(state_dict(("linear.weight", tensor())), compressed=True)),
        DENSE_BIN,
        PICKLE,
        ("compressed",),
    ),
    Case("an empty pickle", dense(b""), DENSE_BIN, PICKLE, ("cut short",)),
    Case("a pickle cut short", dense(state_dict(("linear.weight", tensor()))[:-40]), DENSE_BIN, PICKLE),
    Case("no tensor", dense(state_dict(("step", number(3)))), DENSE_BIN, PICKLE, ("no tensors",)),
    Case(
        "a nested state dict", dense(state_dict(("state_dict", b"}" + text("a") + tensor() + b"s"))), DENSE_BIN, PICKLE
    ),
    Case("a bare tensor", dense(PROTOCOL_2 + tensor() + STOP), DENSE_BIN, PICKLE, ("a tensor", "dictionary")),
    Case("a number", dense(PROTOCOL_2 + number(3) + STOP), DENSE_BIN, PICKLE, ("dictionary",)),
    Case("an empty stack", dense(PROTOCOL_2 + STOP), DENSE_BIN, PICKLE),
    Case("text that is not UTF-8", dense(PROTOCOL_2 + b"}X\x02\x00\x00\x00\xff\xfeNs."), DENSE_BIN, PICKLE),
    Case("what was never remembered", dense(PROTOCOL_2 + b"}h\x07."), DENSE_BIN, PICKLE, (r"\b7\b",)),
    Case(
        "the same name twice",
        dense(state_dict(("linear.weight", tensor()), ("linear.weight", tensor()))),
        DENSE_BIN,
        "linear.weight",
    ),
    Case("another name", dense(state_dict(("weight", tensor()))), DENSE_BIN, "linear.weight", ("no such tensor",)),
]


# --- tensors that are not what they say -----------------------------------------------------------------------------

TENSORS = [
    *(
        Case(what, linear(value, members), DENSE_BIN, "linear.weight", says)
        for what, value, members, says in [
            ("its storage not there", tensor(), {}, ("storage", r"\b0\b")),
            ("another storage there", tensor(storage(key="7")), None, ("storage", r"\b7\b")),
            ("a path for a storage", tensor(storage(key="../../data/0")), None, (r"\.\./\.\./data/0",)),
            ("a storage cut short", tensor(), {"data/0": bytes(2559)}, ("beyond",)),
            ("an empty storage", tensor(), {"data/0": b""}, ("beyond",)),
            ("more than its storage says", tensor(storage(elements=639)), None, ("beyond",)),
            ("an offset past the end", tensor(at=1), None, ("beyond",)),
            ("an offset near 2**32", tensor(at=2**32 - 1), None, ("beyond",)),
            ("columns stored", tensor(strides=(1, ROWS)), None, ("strides", r"\b20\b", "contiguous")),
            ("one row repeated", tensor(strides=(0, 1)), None, ("strides",)),
            ("every second column", tensor(strides=(64, 2)), {"data/0": bytes(2560 * 4)}, ("strides",)),
            ("fewer strides than sizes", tensor(strides=(1,)), None, ("shape", "strides")),
            ("more strides than sizes", tensor(shape=(640,), strides=(32, 1)), None, ("strides",)),
            ("another shape", tensor(shape=(COLUMNS, ROWS), strides=(ROWS, 1)), None, (sizes(32, 20), sizes(20, 32))),
            ("a flat shape", tensor(shape=(640,), strides=(1,)), None, (sizes(640), sizes(20, 32))),
            ("no shape", tensor(shape=(), strides=()), None, (sizes(20, 32),)),
            ("no rows", tensor(shape=(0, 32)), None, (sizes(0, 32), sizes(20, 32))),
            (
                "sizes whose product overflows",
                tensor(shape=(2**32 - 1,) * 3, strides=((2**32 - 1) ** 2 % 2**31,) * 3),
                None,
                (),
            ),
            (
                "sizes whose true product is 0",
                tensor(shape=(2**31, 2**31, 0), strides=(0, 0, 1)),
                None,
                (),
            ),
        ]
    ),
    *(
        Case(
            f"{kind}s", linear(tensor(storage(kind)), {"data/0": bytes(8 * 640)}), DENSE_BIN, "linear.weight", (dtype,)
        )
        for kind, dtype in [
            ("DoubleStorage", "F64"),
            ("LongStorage", "I64"),
            ("IntStorage", "I32"),
            ("ShortStorage", "I16"),
            ("CharStorage", "I8"),
            ("ByteStorage", "U8"),
            ("BoolStorage", "BOOL"),
        ]
    ),
    *(
        Case(what, linear(value), DENSE_BIN, PICKLE, says)
        for what, value, says in [
            ("a size of -1", tensor(shape=(-1, COLUMNS)), ("-1",)),
            ("a size of 2**32", tensor(shape=(2**32, COLUMNS)), ("4294967296",)),
            ("a stride of -32", tensor(strides=(-32, 1)), ("-32",)),
            ("an offset of -1", tensor(at=-1), ("-1",)),
            ("a storage of -1", tensor(storage(elements=-1)), ("-1",)),
            ("a storage of 2**62", tensor(storage(elements=2**62)), ()),
            ("a size that is a text", tensor().replace(number(ROWS), text("20"), 1), ("string",)),
            ("a storage that is a number", tensor(number(3)), ()),
            (
                "a storage without a type",
                tensor(storage().replace(name("torch", "FloatStorage"), text("f"))),
                ("storage",),
            ),
            ("a storage elsewhere", tensor(storage().replace(text("storage"), text("module"))), ("storage",)),
            ("a storage by its name only", tensor(text("0") + b"Q"), ("string",)),
            ("a complex storage", tensor(storage("ComplexFloatStorage")), (r"torch\.ComplexFloatStorage",)),
        ]
    ),
]


# --- programs that ask for more than tensors ------------------------------------------------------------------------

SYSTEM = name("os", "system")

# (what, the program that runs a command of the shell, what it must be refused for)
CALLS: list[tuple[str, Bytes, str]] = [
    ("os.system", lambda command: PROTOCOL_2 + SYSTEM + command + b"\x85R.", r"os\.system"),
    ("posix.system", lambda command: b"cposix\nsystem\n(" + command + b"tR.", r"posix\.system"),
    ("before a dictionary", lambda command: PROTOCOL_2 + SYSTEM + command + b"\x85R0}.", r"os\.system"),
    ("as a weight", lambda command: state_dict(("linear.weight", SYSTEM + command + b"\x85R")), r"os\.system"),
    ("INST", lambda command: b"(" + command + b"ios\nsystem\n.", "0x69"),
    ("OBJ", lambda command: b"(" + SYSTEM + command + b"o.", r"os\.system"),
    ("STACK_GLOBAL", lambda command: PROTOCOL_4 + text("os") + text("system") + b"\x93" + command + b"\x85R.", "0x93"),
    ("protocol 4", lambda command: PROTOCOL_4 + b"\x8c\x02os\x8c\x06system\x93" + command + b"\x94\x85R.", "0x8c"),
]


@pytest.mark.parametrize(("what", "program", "named"), CALLS, ids=[case[0] for case in CALLS])
def test_a_program_is_refused_and_not_run(what: str, program: Bytes, named: str, folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = program(text(f"touch {marker}"))
    pickle.loads(content)  # what follows proves nothing unless the program does what it says
    assert marker.exists()
    marker.unlink()
    for file in (BIN, DENSE_BIN):
        original = (folder / file).read_bytes()
        (folder / file).write_bytes(archive(content))
        with pytest.raises(ModelError) as caught:
            ColBERT(folder)
        check(caught.value, folder, file, PICKLE, (named,))
        (folder / file).write_bytes(original)
    assert not marker.exists()


NAMES = [
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("__builtin__", "eval"),
    ("__main__", "<lambda>"),
    ("subprocess", "Popen"),
    ("os", ""),
    ("torch", "load"),
    ("torch", "FloatStorage.from_file"),
    ("torch.storage", "_load_from_bytes"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_qtensor"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch.nn.modules.linear", "Linear"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("collections", "OrderedDict.fromkeys"),
    ("Collections", "OrderedDict"),
]


@pytest.mark.parametrize(("module", "what"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_every_other_name_is_refused(module: str, what: str, folder: Path) -> None:
    # Not even called: to name it is enough.
    dense(state_dict(("linear.weight", tensor()), ("other", name(module, what))))(folder)
    with pytest.raises(ModelError) as caught:
        ColBERT(folder)
    check(caught.value, folder, DENSE_BIN, PICKLE, (re.escape(f"{module}.{what}"),))


ODD = [
    Case("a call of a text", linear(text("f") + b")R"), DENSE_BIN, PICKLE, ("string",)),
    Case(
        "a call with a text",
        linear(HOOKS[:-2] + text("x") + b"R"),
        DENSE_BIN,
        PICKLE,
        ("string",),
    ),
    Case("a call of a storage's type", linear(name("torch", "FloatStorage") + b")R"), DENSE_BIN, PICKLE),
    Case(
        "a dictionary of items",
        linear(HOOKS[:-2] + tuple_of(text("x")) + b"R"),
        DENSE_BIN,
        PICKLE,
    ),
    Case("a tensor without arguments", linear(name("torch._utils", "_rebuild_tensor_v2") + b")R"), DENSE_BIN, PICKLE),
    Case("the attributes of a tensor", linear(tensor() + b"}b"), DENSE_BIN, PICKLE, ("attributes",)),
    Case("an item in a tensor", linear(tensor() + text("a") + number(1) + b"s"), DENSE_BIN, PICKLE, ("dictionary",)),
    Case(
        "a key without a value", dense(PROTOCOL_2 + b"}(" + text("a") + b"u."), DENSE_BIN, PICKLE, ("without a value",)
    ),
    Case("SETITEMS without a mark", dense(PROTOCOL_2 + b"}u."), DENSE_BIN, PICKLE),
    Case("TUPLE without a mark", dense(PROTOCOL_2 + b"}t."), DENSE_BIN, PICKLE),
    Case("TUPLE3 of one", dense(PROTOCOL_2 + b"}\x87."), DENSE_BIN, PICKLE),
    Case("SETITEM of nothing", dense(PROTOCOL_2 + b"s."), DENSE_BIN, PICKLE),
    Case("a list", dense(PROTOCOL_2 + b"]."), DENSE_BIN, PICKLE, ("0x5d",)),
    Case("an unknown operation", dense(PROTOCOL_2 + b"\xff."), DENSE_BIN, PICKLE, ("0xff",)),
    Case(
        "a whole number of 255 bytes",
        dense(PROTOCOL_2 + b"\x8a\xff" + b"\x01" * 255 + b"."),
        DENSE_BIN,
        PICKLE,
        ("255",),
    ),
    Case("a wider Dense", put(DENSE, out_features=21), DENSE_BIN, "linear.weight", (sizes(21, 32),)),
]

CASES = [*ARCHIVES, *TENSORS, *ODD]


@pytest.mark.parametrize("case", CASES, ids=show)
def test_damaged_pickled_weights_are_refused(case: Case, folder: Path) -> None:
    refused(folder, case)


# --- little memory, little time -------------------------------------------------------------------------------------


def doubling(levels: int) -> bytes:
    """Tuples of twice the tuple before: 2**levels of them if they were copied."""
    return b")q\x00" + b"h\x00h\x00\x86q\x00" * levels


def hostile() -> dict[str, bytes]:
    """Archives that are small and ask for much."""
    wide = b"(" + b"h\x00" * 1000 + b"tq\x00"
    first = b"(" + b"K\x01" * 1000 + b"tq\x00"
    pickles = {
        "2**40 tuples": PROTOCOL_2 + doubling(40) + STOP,
        "1000**7 numbers": PROTOCOL_2 + first + wide * 6 + STOP,
        "1000**30 numbers": PROTOCOL_2 + first + wide * 29 + STOP,
        "a million tuples deep": PROTOCOL_2 + b")" + b"\x85" * 1_000_000 + STOP,
        "a million tuples deep, by marks": PROTOCOL_2 + b"(" * 1_000_000 + b"t" * 1_000_000 + STOP,
        "a dictionary in itself": PROTOCOL_2 + b"}q\x00" + (text("a") + b"h\x00s") * 2 + STOP,
        "dictionaries in dictionaries": PROTOCOL_2 + b"}q\x00" + (b"}" + text("a") + b"h\x00sq\x00") * 100_000 + STOP,
        "attributes of attributes": PROTOCOL_2 + b"}q\x00" + b"}h\x00b" * 100_000 + STOP,
        "a text of 4 GB": PROTOCOL_2 + b"}X\xff\xff\xff\xff" + b"a" * 100 + STOP,
        "a name without an end": PROTOCOL_2 + b"c" + b"a" * 1_000_000,
        "a million names cut short": PROTOCOL_2 + b"c" * 1_000_000,
        "a million marks": PROTOCOL_2 + b"(" * 1_000_000 + STOP,
        "a million memories": PROTOCOL_2
        + b"}"
        + b"".join(b"r" + struct.pack("<I", 4099 * i) for i in range(200_000))
        + STOP,
        "BINUNICODE8 of 2**63": PROTOCOL_4 + b"\x8d" + struct.pack("<Q", 2**63) + STOP,
        "BINBYTES8 of 2**40": PROTOCOL_4 + b"\x8e" + struct.pack("<Q", 2**40) + STOP,
        "LONG4 of 2 GB": PROTOCOL_2 + b"\x8b" + struct.pack("<i", 2**31 - 1) + STOP,
        "a frame of 2**63": PROTOCOL_4 + b"\x95" + struct.pack("<Q", 2**63) + STOP,
        "a tensor of 2**96 numbers": state_dict(("linear.weight", tensor(shape=(2**32 - 1,) * 3, strides=(0, 0, 0)))),
        "a tensor of 2**32 rows of none": state_dict(("linear.weight", tensor(shape=(2**32 - 1, 0), strides=(1, 1)))),
    }
    content = archive(state_dict(("linear.weight", tensor())))
    end = content.rindex(b"PK\x05\x06")
    length, start = struct.unpack_from("<II", content, end + 12)
    # A zip64 index says how many files there are, and stands before the old one, which then says nothing.
    index = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 2**60, 2**60, length, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    nothing = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0)
    zips = {
        "an index of 65,535 files": content[: end + 8] + b"\xff\xff\xff\xff" + content[end + 12 :],
        "an index past the end": content[: end + 16] + b"\xff\xff\xff\xff" + content[end + 20 :],
        "an index of 2**60 files": content[:end] + index + locator + nothing,
    }
    return {**{what: archive(program) for what, program in pickles.items()}, **zips}


HOSTILE = hostile()

# Opens the checkpoint with each archive in the place of its Dense's, in 1.5 GB at most, and says what came of it.
OPENER = """
import json, os, resource, sys, time
from chandelier import ColBERT
folder, place, *archives = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000,) * 2)
for archive in archives:
    os.replace(archive, place)
    start = time.perf_counter()
    try:
        ColBERT(folder, threads=1)
        kind, message, file = "nothing", "", ""
    except Exception as error:
        kind, message, file = type(error).__name__, str(error), str(getattr(error, "file", ""))
    print(json.dumps([kind, message[:500], len(message), file, time.perf_counter() - start]), flush=True)
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What came of each hostile archive: kind, message and length of the message, its file, and the seconds it took."""
    root = tmp_path_factory.mktemp("hostile")
    folder = shutil.copytree(GOLDENS / "f_bert_pytorch_bin" / "checkpoint", root / "checkpoint")
    archives = [root / str(number) for number in range(len(HOSTILE))]
    for file, content in zip(archives, HOSTILE.values(), strict=True):
        file.write_bytes(content)
    command = [sys.executable, "-c", OPENER, folder, folder / DENSE_BIN, *archives]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    last = [*HOSTILE, "nothing"][len(found)]
    assert done.returncode == 0, f"{last!r} ended the process with {done.returncode}: {done.stderr[-500:]}"
    return dict(zip(HOSTILE, found, strict=True))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_small_file_cannot_ask_for_much(what: str, opened: dict[str, list[Any]]) -> None:
    kind, message, length, file, seconds = opened[what]
    assert kind == "ModelError", f"{kind}: {message}"
    assert file.endswith(DENSE_BIN)
    assert length < 2000, f"a message of {length} characters"
    assert seconds < 2
