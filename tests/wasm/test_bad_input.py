"""Whatever comes in, an Error with the core's message comes out, and the module goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from javascript import JavaScriptError, Node
from missing import missing

from chandelier import ChandelierError, ColBERT, from_bert

GOLDENS = Path(__file__).parents[1] / "goldens"
TINY = GOLDENS / "a_bert_pylate" / "checkpoint"
REGRESSIONS = Path(__file__).parents[2] / "rust" / "fuzz" / "regressions"
ALL_FILES = sorted(path.relative_to(TINY).as_posix() for path in TINY.rglob("*") if path.is_file())
OPTIONAL = {
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
}
NAMES = {"ModelError", "MissingError", "ArgumentError"}


@pytest.fixture(scope="module")
def tiny(node: Node) -> Iterator[Node]:
    """A small model is open, as `kept.tiny`, and gives the same after every test of this file as before."""
    encode = "return kept.rows(kept.tiny.encodeDocuments(['still the same?']))"
    node.evaluate("kept.tiny = new chandelier.ColBERT(kept.read(argument))", str(TINY))
    before = node.evaluate(encode)
    yield node
    after = node.evaluate(encode)
    assert before["data"].tolist() == after["data"].tolist()


def open_folder(node: Node, folder: Path, options: dict[str, Any] | None = None) -> None:
    code = "new chandelier.ColBERT(kept.read(argument.folder), argument.options ?? undefined).free()"
    node.evaluate(code, {"folder": str(folder), "options": options})


def refused_as_in_python(node: Node, folder: Path) -> JavaScriptError | None:
    """The error, whose message is that of Python about the same folder; none if it opens here as there."""
    try:
        ColBERT(folder)
    except FileNotFoundError as error:
        wanted = f"{Path(error.filename).relative_to(folder).as_posix()}: {error.strerror}"
    except ChandelierError as error:
        wanted = str(error).replace(f"{folder}/", "")
    else:
        open_folder(node, folder)
        return None
    with pytest.raises(JavaScriptError) as caught:
        open_folder(node, folder)
    assert caught.value.message == wanted
    assert caught.value.name in NAMES
    return caught.value


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "checkpoint"))


@pytest.mark.parametrize("file", ALL_FILES)
def test_a_missing_file(tiny: Node, copy: Path, file: str) -> None:
    (copy / file).unlink()
    error = refused_as_in_python(tiny, copy)
    assert (error is None) == (file in OPTIONAL)
    assert error is None or file in error.message


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("file", ALL_FILES)
def test_a_truncated_file(tiny: Node, copy: Path, file: str, part: float) -> None:
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[: int(len(content) * part)])
    error = refused_as_in_python(tiny, copy)
    assert error is not None
    assert file in error.message


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "1_Dense/model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("other", ["h_modernbert_v5", "l_xlmr_pylate"])
def test_a_file_of_another_model(tiny: Node, copy: Path, file: str, other: str) -> None:
    shutil.copyfile(GOLDENS / other / "checkpoint" / file, copy / file)
    refused_as_in_python(tiny, copy)


def test_files_that_are_no_checkpoint(tiny: Node, copy: Path) -> None:
    (copy / "config.json").write_text("<!doctype html><title>Not found</title>")
    error = refused_as_in_python(tiny, copy)
    assert error is not None
    assert "not valid JSON" in error.message


@pytest.mark.parametrize("case", ["x6_lfm2_bidirectional"])
def test_what_is_refused_by_name(tiny: Node, case: str) -> None:
    error = refused_as_in_python(tiny, GOLDENS / case / "checkpoint")
    assert error is not None
    assert error.name == "ModelError"


def test_a_bare_transformer_wants_to_be_asked_for(tiny: Node, copy: Path) -> None:
    for file in ("modules.json", "config_sentence_transformers.json"):
        (copy / file).unlink()
    shutil.rmtree(copy / "1_Dense")
    refused_as_in_python(tiny, copy)
    code = """
        const model = new chandelier.ColBERT(kept.read(argument), { fromBert: true });
        const { dim, fingerprint } = model;
        model.free();
        return { dim, fingerprint };
    """
    bare = from_bert(copy)
    assert tiny.evaluate(code, str(copy)) == {"dim": bare.dim, "fingerprint": bare.fingerprint}


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*/*")), ids=lambda path: path.name)
def test_what_fuzzing_once_found(tiny: Node, tmp_path: Path, path: Path) -> None:
    line, content = path.read_bytes().split(b"\n", 1)
    case, name = line.decode().split("/", 1)
    assert "#" not in name
    folder = Path(shutil.copytree(GOLDENS / case / "checkpoint", tmp_path / "checkpoint"))
    (folder / name).write_bytes(content)
    code = """
        let model;
        try {
            model = new chandelier.ColBERT(kept.read(argument));
            for (const text of ["What is a [MASK], naïve 東京?", "🍞 isn't hard."]) {
                model.encodeDocuments([text]).free();
            }
            return "nothing";
        } catch (error) {
            return error.name;
        } finally {
            model?.free();
        }
    """
    assert tiny.evaluate(code, str(folder)) in {"nothing", "ModelError"}


def test_a_library_that_panics_again_and_again(tiny: Node, copy: Path) -> None:
    """Nothing of the stack may be lost, and no lock stay taken."""
    panicking = panicking_tokenizer(copy)
    with pytest.raises(JavaScriptError, match="gave up") as caught:
        open_folder(tiny, panicking)
    assert caught.value.name == "ModelError"
    code = """
        const files = kept.read(argument);
        let count = 0;
        for (let i = 0; i < 2000; i++) {
            try { new chandelier.ColBERT(files).free(); } catch (error) { count += error.message.includes("gave up"); }
        }
        return count;
    """
    assert tiny.evaluate(code, str(panicking)) == 2000


def panicking_tokenizer(folder: Path) -> Path:
    """A charsmap whose size overflows makes the tokenizers library panic when it is read."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": ""}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def test_a_document_of_100000_words(tiny: Node) -> None:
    code = """
        const rows = kept.tiny.encodeDocuments([argument]);
        const { offsets } = rows;
        rows.free();
        return offsets[1];
    """
    assert tiny.evaluate(code, "word " * 100_000) == 180


WRONG = {
    "new chandelier.ColBERT()": ("ArgumentError", "files: got undefined, wanted an object of paths and Uint8Arrays"),
    "new chandelier.ColBERT(null)": ("ArgumentError", "files: got null"),
    "new chandelier.ColBERT([])": ("ArgumentError", "files: got an array"),
    "new chandelier.ColBERT({})": ("ArgumentError", "files: got none"),
    "new chandelier.ColBERT('models/tiny')": ("ArgumentError", 'files: got "models/tiny"'),
    "new chandelier.ColBERT({ 'config.json': '{}' })": (
        "ArgumentError",
        'files["config.json"]: got "{}", wanted a Uint8Array',
    ),
    "new chandelier.ColBERT({ 'config.json': new ArrayBuffer(2) })": (
        "ArgumentError",
        "got ArrayBuffer, wanted a Uint8Array",
    ),
    "new chandelier.ColBERT({ '../config.json': new Uint8Array(2) })": ("ArgumentError", '"../config.json"'),
    "new chandelier.ColBERT({}, { dtype: 'float16' })": (
        "ArgumentError",
        'dtype: got "float16", wanted "float32" or "int8"',
    ),
    "new chandelier.ColBERT({}, { dtype: 8 })": ("ArgumentError", "dtype: got 8, wanted a string"),
    "new chandelier.ColBERT({}, { querylength: 8 })": ("ArgumentError", 'options: got "querylength"'),
    "new chandelier.ColBERT({}, { queryLength: 0 })": (
        "ArgumentError",
        "queryLength: got 0, wanted a whole number from 1",
    ),
    "new chandelier.ColBERT({}, { queryLength: 2.5 })": ("ArgumentError", "queryLength: got 2.5"),
    "new chandelier.ColBERT({}, { queryLength: 2 ** 40 })": ("ArgumentError", "queryLength: got 1099511627776"),
    "new chandelier.ColBERT({}, { fromBert: 'yes' })": ("ArgumentError", 'fromBert: got "yes", wanted true or false'),
    "new chandelier.ColBERT({}, 'int8')": ("ArgumentError", 'options: got "int8", wanted an object of options'),
    "kept.tiny.encodeQueries('one text')": ("ArgumentError", 'texts: got "one text", wanted an array of strings'),
    "kept.tiny.encodeQueries()": ("ArgumentError", "texts: got undefined"),
    "kept.tiny.encodeDocuments(['a', 7])": ("ArgumentError", "texts[1]: got 7, wanted a string"),
    "kept.tiny.encodeDocuments(['a', , 'b'])": ("ArgumentError", "texts[1]: got undefined"),
    "kept.tiny.encodeDocuments(['\\ud83d'])": ("ArgumentError", "half a surrogate pair"),
    "kept.tiny.encodeDocuments(['a'], { poolFactor: 0.5 })": ("ArgumentError", "pool_factor: got 0.5"),
    "kept.tiny.encodeDocuments(['a'], { poolFactor: NaN })": ("ArgumentError", "pool_factor: got NaN"),
    "kept.tiny.encodeDocuments(['a'], { protectedTokens: -1 })": ("ArgumentError", "protectedTokens: got -1"),
    "kept.tiny.explain('a')": ("ArgumentError", "document: got undefined, wanted a string"),
    "chandelier.MultiVectors.fromParts([1], [0, 1], 1)": ("ArgumentError", "data: got an array, wanted a Float32Array"),
    "chandelier.MultiVectors.fromParts(new Float32Array(3), new Uint32Array([0, 1]), 2)": ("ShapeError", "3"),
    "chandelier.MultiVectors.fromParts(new Float32Array(2), new Uint32Array([0, 9]), 2)": ("ShapeError", "9"),
    "chandelier.MultiVectors.fromParts(new Float32Array(2), new Uint32Array([]), 2)": ("ShapeError", "offsets"),
    "chandelier.MultiVectors.fromParts(new Float32Array(2), new Uint32Array([0, 1]), 0)": (
        "ArgumentError",
        "dim: got 0",
    ),
    "chandelier.maxsim(kept.tiny.encodeQueries(['a', 'b']), kept.tiny.encodeDocuments(['a']))": (
        "ArgumentError",
        "2 queries",
    ),
    "chandelier.maxsim(kept.tiny.encodeQueries(['a']))": ("Error", "MultiVectors"),
    "chandelier.maxsim({}, [])": ("Error", "MultiVectors"),
    "const rows = kept.tiny.encodeQueries(['a']); rows.free(); rows.data": ("Error", "null pointer"),
    "const rows = kept.tiny.encodeQueries(['a']); rows.free(); chandelier.poolTokens(rows, 2)": ("Error", ""),
    (
        "chandelier.maxsim(kept.tiny.encodeQueries(['a']),"
        " chandelier.MultiVectors.fromParts(new Float32Array(4), new Uint32Array([0, 1]), 4))"
    ): ("ShapeError", "4"),
    (
        "chandelier.maxsim(chandelier.MultiVectors.fromParts(new Float32Array([NaN, 1]), new Uint32Array([0, 1]), 2),"
        " chandelier.MultiVectors.fromParts(new Float32Array(2), new Uint32Array([0, 1]), 2))"
    ): ("ArgumentError", "finite"),
    "chandelier.poolTokens(kept.tiny.encodeDocuments(['a b c']))": ("ArgumentError", "poolFactor: got undefined"),
}


@pytest.mark.parametrize("code", WRONG)
def test_wrong_arguments(tiny: Node, code: str) -> None:
    name, message = WRONG[code]
    with pytest.raises(JavaScriptError) as caught:
        tiny.evaluate(code)
    assert caught.value.name == name
    assert message in caught.value.message
    assert not caught.value.message.endswith(".")


DETACHED = """
    const detached = array => (structuredClone(array, { transfer: [array.buffer] }), array);
    const thrower = { get dtype() { throw new Error("the caller's own"); } };
"""
LEAVE_THE_MODULE = {
    "new chandelier.ColBERT({ 'config.json': detached(new Uint8Array(9)) })": (
        "ArgumentError",
        "memory was transferred",
    ),
    "chandelier.MultiVectors.fromParts(detached(new Float32Array(9)), new Uint32Array([0]), 1)": (
        "ArgumentError",
        "data: got",
    ),
    "new chandelier.ColBERT({}, thrower)": ("Error", "the caller's own"),
    "const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); new chandelier.ColBERT(proxy)": (
        "TypeError",
        "revoked",
    ),
    "kept.tiny.encodeDocuments({ constructor: { name: 8 } })": ("ArgumentError", "texts: got"),
}


@pytest.mark.parametrize("code", LEAVE_THE_MODULE)
def test_what_is_thrown_on_the_way_takes_nothing_along(tiny: Node, code: str) -> None:
    """Whatever ends a call, its stack is given back: a few hundred would exhaust it."""
    name, message = LEAVE_THE_MODULE[code]
    again = f"""
        {DETACHED}
        let thrown;
        for (let i = 0; i < 2000; i++) {{
            try {{ {code}; }} catch (error) {{ thrown = error; }}
        }}
        return [thrown.name, thrown.message];
    """
    found = tiny.evaluate(again)
    assert found[0] == name
    assert message in found[1]


def test_memory_that_is_exhausted_is_told_and_can_be_freed(package: Path) -> None:
    """Wherever in a call it happens; and the model, which was borrowed meanwhile, goes on."""
    fill = """
        const rows = 1 << 22, full = [];
        for (let pieces = 64; pieces >= 1; pieces /= 4) {
            try {
                for (;;) full.push(chandelier.MultiVectors.fromParts(
                    new Float32Array(rows * pieces / 64), new Uint32Array([0, rows * pieces / 64]), 1));
            } catch (error) {
                if (error.name !== "ArgumentError" && error.name !== "MemoryError") throw error;
            }
        }
        const text = "word ".repeat(1 << 21), found = [];
        for (const call of [
            () => model.encodeDocuments([text]),
            () => model.tokenizeDocuments([text]),
            () => model.explain("word", text),
            () => model.encodeDocuments(Array(20000).fill("a few words")),
        ]) {
            try { call(); found.push("nothing"); } catch (error) { found.push(error.name); }
        }
        full.forEach(held => held.free());
        const { offsets } = model.encodeDocuments(["still the same?"]);
        model.free();
        return { found, rows: offsets[1] };
    """
    program = shutil.which("node") or missing("no Node on the PATH: apt-get install nodejs")
    with Node(program, package) as node:  # whose memory stays large
        code = "const model = new chandelier.ColBERT(kept.read(argument));" + fill
        answer = node.evaluate(code, str(TINY))
    assert set(answer["found"]) == {"MemoryError"}
    assert answer["rows"] == 9


def test_a_tensor_that_32_bits_cannot_count_is_refused_by_name(tiny: Node, copy: Path) -> None:
    header = json.dumps({"huge": {"dtype": "F32", "shape": [1 << 27, 1], "data_offsets": [0, 1 << 29]}}).encode()
    (copy / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(JavaScriptError, match=r"model.safetensors.*512 MiB or more.*float16") as caught:
        open_folder(tiny, copy)
    assert caught.value.name == "ModelError"
