"""The command line, run as users run it: a process of its own, bytes in and bytes out."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Result, Run, command, jsonl, lines, read_terminal

import chandelier
from chandelier import ColBERT, MultiVectors, Ranked

GOLDENS = Path(__file__).parents[1] / "goldens"
CASE = GOLDENS / "a_bert_pylate"
CHECKPOINT = CASE / "checkpoint"
ROWS_MAX_ABS = 2e-5  # the tolerance of the golden files
QUERY = "which light keeps ships away from the rocks?"
TEXTS = ["The lighthouse keeps ships off the rocks.", "Bread and salt.", "日本の灯台 é", "The moon moves the sea."]

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes and terminals")


@pytest.fixture(scope="module")
def model() -> ColBERT:
    return ColBERT(CHECKPOINT)


def check_same(path: Path, expected: MultiVectors) -> None:
    stored = MultiVectors.load(path)
    np.testing.assert_array_equal(stored.offsets, expected.offsets)
    np.testing.assert_allclose(stored.data, expected.data, rtol=0, atol=ROWS_MAX_ABS)


# The command line itself


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.code, result.out, result.err) == (0, f"chandelier {importlib.metadata.version('chandelier')}\n", "")


def test_help_names_the_commands(run: Run) -> None:
    result = run("--help")
    assert (result.code, result.err) == (0, "")
    commands = result.out.partition("COMMAND\n")[2].splitlines()
    assert [line.split()[0] for line in commands] == ["encode", "rerank", "explain", "index", "search", "info"]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("encode", "--batch-tokens"),
        ("rerank", "--top-k"),
        ("explain", "--html"),
        ("index", "--skip-bad"),
        ("search", "--filter"),
        ("info", "--from-bert"),
    ],
)
def test_help_of_a_command(run: Run, name: str, option: str) -> None:
    result = run(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"usage: chandelier {name} ")
    assert option in result.out
    assert "MODEL" in result.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["COMMAND"]),
        (["find", "m"], ["'find'"]),
        (["--nonsense"], []),
        (["info"], ["MODEL"]),
        (["info", "m", "extra"], ["extra"]),
        (["encode", "m"], ["-o/--output"]),
        (["encode", "m", "-o", "x", "--nonsense"], ["--nonsense"]),
        (["encode", "m", "-o", "x", "--prompt", "p"], ["--prompt"]),
        (["encode", "m", "-o", "x", "--format", "csv"], ["csv"]),
        (["encode", "m", "-o", "x", "--threads", "0"], ["--threads", "'0'"]),
        (["encode", "m", "-o", "x", "--batch-tokens", "-1"], ["--batch-tokens", "'-1'"]),
        (["encode", "m", "-", "-o", "x", "-"], ["standard input can be read only once"]),
        (["rerank", "m"], ["--query"]),
        (["rerank", "m", "--query", "q", "-k", "0"], ["-k/--top-k", "'0'"]),
        (["rerank", "m", "--query", "q", "-k", "many"], ["-k/--top-k", "'many'"]),
        (["rerank", "m", "--query", "q", "-k", "1.5"], ["-k/--top-k", "'1.5'"]),
        (["explain", "m"], ["--query"]),
        (["explain", "m", "--query", "q", "--html"], ["--html"]),
        (["explain", "m", "--query", "q", "--html", "-"], ["--html", "standard output"]),
        (["explain", "m", "--query", "q", "-k", "0"], ["-k/--top-k", "'0'"]),
    ],
)
def test_usage_errors(run: Run, arguments: list[str], parts: list[str]) -> None:
    run(*arguments).check_usage_error(*parts)


# encode


def test_encode_agrees_with_the_goldens(run: Run, tmp_path: Path) -> None:
    inputs = json.loads((CASE / "inputs.json").read_bytes())
    expected = np.load(CASE / "expected.npz")
    for kind, key, options in (("documents", "d", []), ("queries", "q", ["--queries"])):
        source = tmp_path / f"{kind}.jsonl"
        source.write_bytes(jsonl({"text": text} for text in inputs[kind]))
        result = run("encode", CHECKPOINT, source, "-o", f"{kind}.safetensors", *options)
        assert (result.code, result.out) == (0, ""), result.err
        stored = MultiVectors.load(tmp_path / f"{kind}.safetensors")
        np.testing.assert_array_equal(stored.offsets, expected[f"{key}_off"])
        np.testing.assert_allclose(stored.data, expected[f"{key}_emb"], rtol=0, atol=ROWS_MAX_ABS)


def test_encode_leaves_the_file_a_summary_and_nothing_else(run: Run, tmp_path: Path, model: ColBERT) -> None:
    result = run("encode", CHECKPOINT, "-o", "out.safetensors", stdin=lines(TEXTS))
    assert (result.code, result.out) == (0, "")
    expected = model.encode_documents(TEXTS)
    check_same(tmp_path / "out.safetensors", expected)
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]
    # stderr is no terminal here: one line and no progress bar.
    facts = f"texts {len(TEXTS)}, rows {len(expected.data)}, dim {model.dim}, "
    assert result.err.startswith(f"chandelier: out.safetensors: {facts}")
    assert result.err.endswith(" s\n")
    assert result.err.count("\n") == 1
    assert "\r" not in result.err


def test_encode_json_summary(run: Run, tmp_path: Path, model: ColBERT) -> None:
    result = run("encode", CHECKPOINT, "--json", "-o", "out.safetensors", stdin=lines(TEXTS))
    assert (result.code, result.err) == (0, "")
    (summary,) = result.rows()
    assert summary.pop("seconds") >= 0
    rows = len(model.encode_documents(TEXTS).data)
    assert summary == {"texts": len(TEXTS), "rows": rows, "dim": model.dim, "output": "out.safetensors"}


def test_encode_queries_with_prompt_and_limits(run: Run, tmp_path: Path) -> None:
    checkpoint = GOLDENS / "v_prompts" / "checkpoint"
    options = ["--queries", "--prompt-name", "query", "--batch-tokens", "64", "--threads", "1"]
    result = run("encode", checkpoint, "-o", "out.safetensors", *options, stdin=lines(TEXTS))
    assert result.code == 0, result.err
    check_same(tmp_path / "out.safetensors", ColBERT(checkpoint).encode_queries(TEXTS, prompt_name="query"))


def test_encode_unknown_prompt(run: Run, tmp_path: Path) -> None:
    run("encode", CHECKPOINT, "-o", "out", "--prompt-name", "riddle", stdin=b"a\n").check_error("riddle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n\r\n", ["one", "two", ""]),
        (b"\none\n\n\ntwo\n\n", ["", "one", "", "", "two", ""]),
        (b"\xef\xbb\xbfone\ntwo\n", ["one", "two"]),
        (b"\n", [""]),
        (b"", []),
        (b"\xef\xbb\xbf", []),
        ("a\u2028b\x0bc\x85d\re\n".encode(), ["a\u2028b\x0bc\x85d\re"]),
        (b'{"text": "moon"}\n', ['{"text": "moon"}']),
    ],
)
def test_text_input(run: Run, tmp_path: Path, model: ColBERT, content: bytes, texts: list[str]) -> None:
    result = run("encode", CHECKPOINT, "-", "-o", "out.safetensors", stdin=content)
    assert result.code == 0, result.err
    check_same(tmp_path / "out.safetensors", model.encode_documents(texts))


def test_no_input_is_no_text(run: Run, tmp_path: Path, model: ColBERT) -> None:
    assert run("encode", CHECKPOINT, "-o", "out.safetensors").code == 0
    stored = MultiVectors.load(tmp_path / "out.safetensors")
    assert (len(stored), stored.data.shape) == (0, (0, model.dim))


def test_jsonl_input(run: Run, tmp_path: Path, model: ColBERT) -> None:
    content = b'\xef\xbb\xbf{"text": "one"}\r\n\r\n  \n{"text": "two\\nlines \\ud83d\\udc4d", "other": 1}\n{"text": ""}'
    result = run("encode", CHECKPOINT, "-o", "out.safetensors", "--format", "jsonl", stdin=content)
    assert result.code == 0, result.err
    check_same(tmp_path / "out.safetensors", model.encode_documents(["one", "two\nlines 👍", ""]))


def test_files_keep_their_order_and_have_their_own_formats(run: Run, tmp_path: Path, model: ColBERT) -> None:
    (tmp_path / "a.txt").write_bytes(b"from text\n")
    (tmp_path / "b.JSONL").write_bytes(jsonl([{"body": "from jsonl"}]))
    (tmp_path / "c.ndjson").write_bytes(jsonl([{"body": "from ndjson"}]))
    # Files before, between and after the options.
    arguments = ["a.txt", "-o", "out", "b.JSONL", "--field", "body", "c.ndjson", "-"]
    result = run("encode", CHECKPOINT, *arguments, stdin=b"end")
    assert result.code == 0, result.err
    check_same(tmp_path / "out", model.encode_documents(["from text", "from jsonl", "from ndjson", "end"]))


def test_format_overrides_the_suffix(run: Run, tmp_path: Path, model: ColBERT) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"plain\n")
    assert run("encode", CHECKPOINT, "a.jsonl", "--format", "text", "-o", "out").code == 0
    check_same(tmp_path / "out", model.encode_documents(["plain"]))


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b'{"text": "a"', ["not valid JSON", "column 13"]),
        (b"plain text", ["not valid JSON", "column 1"]),
        (b"[" * 100_000, ["not valid JSON"]),
        (b'["text"]', ["an array", "'text'"]),
        (b'"text"', ["a string"]),
        (b'{"body": "a", "id": 1}', ["no field 'text'", "'body', 'id'", "--field"]),
        (b"{}", ["no field 'text'", "nothing"]),
        (b'{"text": null}', ["'text' is null"]),
        (b'{"text": 3}', ["'text' is a number"]),
        (b'{"text": true}', ["'text' is a boolean"]),
        (b'{"text": "\\ud83d"}', ["surrogate"]),
        (b'{"text": "\xff"}', ["UTF-8"]),
    ],
)
def test_bad_jsonl_names_file_and_line(run: Run, tmp_path: Path, line: bytes, parts: list[str]) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    run("encode", CHECKPOINT, "bad.jsonl", "-o", "out").check_error("bad.jsonl:3: ", *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_bad_utf8_names_file_and_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    run("encode", CHECKPOINT, "latin.txt", "-o", "out").check_error("latin.txt:2: ", "not valid UTF-8", "byte 4")
    run("encode", CHECKPOINT, "-o", "out", stdin="é\n".encode("utf-16")).check_error("<stdin>:1: ", "not valid UTF-8")
    assert not (tmp_path / "out").exists()


def test_missing_things(run: Run, tmp_path: Path) -> None:
    run("encode", "./no-such-model", "-o", "out", stdin=b"a\n").check_error("no-such-model")
    run("info", "no-such-model", "--local-files-only").check_error("no-such-model", "local_files_only is set")
    run("encode", CHECKPOINT, "no-such-file.txt", "-o", "out").check_error("no-such-file.txt: ")
    run("rerank", CHECKPOINT, ".", "--query", "q").check_error(".: ")
    run("encode", CHECKPOINT, "-o", "no-such-folder/out", stdin=b"a\n").check_error("no-such-folder")
    run("encode", CHECKPOINT, "-o", tmp_path, stdin=b"a\n").check_error("not a regular file")
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_broken(run: Run, tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "broken", copy_function=shutil.copyfile)
    (tmp_path / "broken" / "config.json").write_bytes(b"{")
    run("info", "broken").check_error("config.json")


@posix
def test_output_that_is_no_regular_file_stays(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # stands for /dev/null as well, which must not become a file
    run("encode", CHECKPOINT, "-o", "fifo", stdin=b"a\n").check_error("fifo: not a regular file")
    assert (tmp_path / "fifo").is_fifo()


def test_output_is_replaced_at_success_only(run: Run, tmp_path: Path, model: ColBERT) -> None:
    (tmp_path / "out").write_bytes(b"precious")
    assert run("encode", CHECKPOINT, "-o", "out", stdin=b"caf\xe9\n").code == 1
    assert (tmp_path / "out").read_bytes() == b"precious"
    assert run("encode", CHECKPOINT, "-o", "out", stdin=b"a\n").code == 0
    check_same(tmp_path / "out", model.encode_documents(["a"]))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@posix
def test_output_through_a_link(run: Run, tmp_path: Path, model: ColBERT) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/out")
    assert run("encode", CHECKPOINT, "-o", "link", stdin=b"a\n").code == 0
    assert (tmp_path / "link").is_symlink()
    check_same(tmp_path / "folder" / "out", model.encode_documents(["a"]))


def test_from_bert_is_asked_for(run: Run, tmp_path: Path) -> None:
    bert = tmp_path / "bert"
    bert.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(CHECKPOINT / name, bert / name)
    (bert / "sentence_bert_config.json").write_bytes(b'{"max_seq_length": 40, "do_lower_case": false}')
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    (bert / "modules.json").write_text(json.dumps(modules))

    run("encode", "bert", "-o", "out", stdin=lines(TEXTS)).check_error()
    result = run("encode", "bert", "--from-bert", "-o", "out", stdin=lines(TEXTS))
    assert result.code == 0, result.err
    model = chandelier.from_bert(bert)
    check_same(tmp_path / "out", model.encode_documents(TEXTS))
    ranking = model.rerank(QUERY, TEXTS)
    hits = run("rerank", "bert", "--from-bert", "--query", QUERY, "--json", stdin=lines(TEXTS)).rows()
    assert [hit["index"] for hit in hits] == [hit.index for hit in ranking]


# rerank


def test_rerank_json(run: Run, model: ColBERT) -> None:
    result = run("rerank", CHECKPOINT, "--query", QUERY, "--json", stdin=lines(TEXTS))
    assert (result.code, result.err) == (0, "")
    hits = result.rows()
    ranking = model.rerank(QUERY, TEXTS)
    assert [list(hit) for hit in hits] == [["rank", "index", "score", "file", "line", "text"]] * len(TEXTS)
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    assert [(hit["index"], hit["text"]) for hit in hits] == [(hit.index, TEXTS[hit.index]) for hit in ranking]
    np.testing.assert_allclose([hit["score"] for hit in hits], [hit.score for hit in ranking], rtol=1e-5)
    assert "日本の灯台 é" in result.out  # as it is, not escaped


def test_rerank_for_people(run: Run, model: ColBERT) -> None:
    result = run("rerank", CHECKPOINT, "--query", QUERY, stdin=lines(TEXTS))
    assert (result.code, result.err) == (0, "")
    ranking = model.rerank(QUERY, TEXTS)
    shown = [line.split(maxsplit=2) for line in result.out.splitlines()]
    assert [(rank, text) for rank, _, text in shown] == [(str(n), TEXTS[hit.index]) for n, hit in enumerate(ranking, 1)]
    np.testing.assert_allclose([float(score) for _, score, _ in shown], [hit.score for hit in ranking], atol=2e-4)


def test_rerank_shows_every_text_in_one_whole_line(run: Run) -> None:
    wild = "first\nsecond\t\x1b[31mthird\u2028fourth " + "long " * 100
    result = run("rerank", CHECKPOINT, "--query", QUERY, "--format", "jsonl", stdin=jsonl([{"text": wild}]))
    assert result.code == 0, result.err
    assert result.out.endswith("first second [31mthird fourth " + "long " * 99 + "long\n")
    assert result.out.count("\n") == 1


@pytest.mark.parametrize(("option", "k"), [("-k", 1), ("--top-k", 3), ("-k", 100)])
def test_rerank_top_k(run: Run, model: ColBERT, option: str, k: int) -> None:
    hits = run("rerank", CHECKPOINT, "--query", QUERY, option, str(k), "--json", stdin=lines(TEXTS)).rows()
    assert [hit["index"] for hit in hits] == [hit.index for hit in model.rerank(QUERY, TEXTS)][:k]


def test_rerank_ids_are_passed_through(run: Run, tmp_path: Path) -> None:
    ids = ["doc-é", 7, 2**70, None, [1, {"a": 2}]]
    objects: list[dict[str, Any]] = [{"id": name, "body": f"text {n}"} for n, name in enumerate(ids)]
    objects.append({"body": "without"})
    (tmp_path / "docs.jsonl").write_bytes(jsonl(objects))
    result = run("rerank", CHECKPOINT, "--query", QUERY, "--field", "body", "docs.jsonl", "--json")
    assert result.code == 0, result.err
    hits = {hit["index"]: hit for hit in result.rows()}
    assert [hits[index]["id"] for index in range(len(ids))] == ids
    assert "id" not in hits[len(ids)]


def test_rerank_id_that_is_half_a_character(run: Run) -> None:
    content = b'{"id": "\\ud83d", "text": "a"}\n'
    result = run("rerank", CHECKPOINT, "--query", "q", "--json", "--format", "jsonl", stdin=content)
    assert result.code == 0, result.err
    assert result.rows()[0]["id"] == "\ud83d"


@pytest.mark.parametrize("options", [[], ["--json"], ["-k", "3"]])
def test_rerank_nothing(run: Run, options: list[str]) -> None:
    result = run("rerank", CHECKPOINT, "--query", QUERY, *options)
    assert (result.code, result.out) == (0, "")


# explain


def test_explain_for_people(run: Run, model: ColBERT) -> None:
    result = run("explain", CHECKPOINT, "--query", QUERY, "-k", "2", stdin=lines([*TEXTS, ""]))
    assert (result.code, result.err) == (0, "")
    cards = []
    for rank, hit in enumerate(model.rerank(QUERY, TEXTS, top_k=2), 1):
        text = model.explain(QUERY, TEXTS[hit.index]).to_text(color=False)
        assert text.count(f"  {QUERY}\n") == 1
        cards.append(text.replace(f"  {QUERY}\n", f"  {rank} · <stdin>:{hit.index + 1}\n"))
    assert result.out == "\n".join(cards)
    assert "[lighthouse]" in result.out or "[ships]" in result.out


def test_explain_json(run: Run, model: ColBERT) -> None:
    objects = [{"id": number, "text": text} for number, text in enumerate(TEXTS)]
    result = run("explain", CHECKPOINT, "--query", QUERY, "--json", "--format", "jsonl", stdin=jsonl(objects))
    assert (result.code, result.err) == (0, "")
    rows = result.rows()
    ranking = model.rerank(QUERY, TEXTS, top_k=3)
    assert [(row["rank"], row["index"], row["id"], row["file"], row["line"]) for row in rows] == [
        (rank, hit.index, hit.index, "<stdin>", hit.index + 1) for rank, hit in enumerate(ranking, 1)
    ], "three if not said otherwise"
    for row in rows:
        assert sum(match["similarity"] for match in row["matches"]) == pytest.approx(row["score"], abs=1e-4)
        assert row["seen"] == [0, len(row["text"])]
        explanation = model.explain(QUERY, row["text"])
        assert [match["document_token"] for match in row["matches"]] == [m.document_token for m in explanation.matches]
        places = [[span.start, span.end] for span in explanation.spans()]
        assert [[span["start"], span["end"]] for span in row["spans"]] == places


def test_explain_writes_a_page(run: Run, tmp_path: Path) -> None:
    (tmp_path / "<b>.txt").write_bytes(lines(["", *TEXTS]))
    result = run("explain", CHECKPOINT, "--query", QUERY, "-k", "4", "--html", "why.html", "<b>.txt")
    assert (result.code, result.out, result.err) == (0, "", f"chandelier: why.html: documents {len(TEXTS)}\n")
    html = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert html.count("<section") == len(TEXTS)
    assert html.count(f">{QUERY}</h") == 1, "said once"
    assert all(f" · &lt;b&gt;.txt:{line}</h2>" in html for line in range(2, 6))
    both = run("explain", CHECKPOINT, "--query", QUERY, "--html", "why.html", "--json", stdin=lines(TEXTS[:1]))
    assert (both.code, len(both.rows()), both.err) == (0, 1, "chandelier: why.html: documents 1\n")
    assert (tmp_path / "why.html").read_text(encoding="utf-8").count("<section") == 1


@posix
def test_explain_replaces_a_page_and_keeps_links_and_permissions(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    page = tmp_path / "folder" / "page.html"
    page.write_text("old")
    page.chmod(0o640)
    (tmp_path / "why.html").symlink_to(page)
    assert run("explain", CHECKPOINT, "--query", QUERY, "--html", "why.html", stdin=lines(TEXTS)).code == 0
    assert (tmp_path / "why.html").is_symlink()
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert page.stat().st_mode & 0o777 == 0o640
    assert list(page.parent.iterdir()) == [page]


@posix
def test_a_page_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    import resource

    (tmp_path / "docs.txt").write_bytes(lines(TEXTS))
    (tmp_path / "why.html").write_text("old")
    done = subprocess.run(
        command("explain", CHECKPOINT, "--query", QUERY, "--html", "why.html", "docs.txt"),
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    Result(done.returncode, done.stdout, done.stderr).check_error("why.html: file too large")
    assert (tmp_path / "why.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs.txt", "why.html"]


@pytest.mark.parametrize("name", ["rerank", "explain"])
def test_no_document_is_said(run: Run, tmp_path: Path, name: str) -> None:
    page = ["--html", "why.html"] if name == "explain" else []
    for stdin in (b"", b"\n \n\n"):
        result = run(name, CHECKPOINT, "--query", QUERY, *page, stdin=stdin)
        assert (result.code, result.out) == (0, "")
        assert result.err == "chandelier: no document: the input is empty, or each of its texts is\n"
        assert not list(tmp_path.iterdir())


def test_explain_errors(run: Run, tmp_path: Path) -> None:
    (tmp_path / "docs.txt").write_bytes(lines(TEXTS))
    start = ["explain", os.fspath(CHECKPOINT), "--query", QUERY]
    run(*start, "docs.txt", "--html", "docs.txt").check_error("would write over docs.txt", "--html")
    run(*start, "docs.txt", "--html", "no-such-folder/why.html").check_error("no-such-folder")
    run(*start, "docs.txt", "--html", ".").check_error("not a regular file", "--html")
    run(*start, "docs.txt", "--query-prompt-name", "riddle").check_error("riddle")
    assert (tmp_path / "docs.txt").read_bytes() == lines(TEXTS)
    result = run(*start)
    assert (result.code, result.out) == (0, "")


@posix
@pytest.mark.parametrize(("variable", "colors"), [("", True), ("1", False)])
def test_explain_colors_a_terminal(tmp_path: Path, variable: str, colors: bool) -> None:
    import pty

    (tmp_path / "docs.txt").write_bytes(lines(TEXTS[:1]))
    terminal, side = pty.openpty()
    arguments = command("explain", CHECKPOINT, "--query", QUERY, tmp_path / "docs.txt")
    process = subprocess.Popen(arguments, stdout=side, stderr=subprocess.PIPE, env={**os.environ, "NO_COLOR": variable})
    os.close(side)
    output = read_terminal(terminal)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert (b"\x1b[1;93m" in output) == colors


def test_explain_shows_a_bar_where_the_work_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from chandelier.cli import commands

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = {}
    for seconds, is_hidden in ((0.0, False), (0.6, False), (0.6, True)):
        monkeypatch.setattr("sys.stderr", stderr := Terminal())
        ranking = [Ranked(0, 1.0, None)] * 3
        for number, hit in enumerate(commands._with_bar(ranking, is_hidden=is_hidden)):
            assert hit is ranking[number]
            time.sleep(seconds)
        shown[seconds, is_hidden] = "explaining" in stderr.getvalue()
    assert shown == {(0.0, False): False, (0.6, False): True, (0.6, True): False}


# info


def test_info_json(run: Run, model: ColBERT) -> None:
    result = run("info", CHECKPOINT, "--json")
    assert (result.code, result.err) == (0, "")
    (facts,) = result.rows()
    assert facts == json.loads(json.dumps(model.info()))


def test_info_for_people(run: Run) -> None:
    result = run("info", CHECKPOINT)
    assert (result.code, result.err) == (0, "")
    table = result.out.splitlines()
    length = next(line for line in table if line.startswith("query_length "))
    assert length.split()[1] == "32"
    assert length.endswith("config_sentence_transformers.json: query_length")
    assert len([line for line in table if line.startswith("query_length ")]) == 1
    # The values stand in one column.
    dim = next(line for line in table if line.startswith("dim "))
    assert dim.split()[1] == "32"
    assert dim.index("32") == length.index("32")
    # The blank at the end of the prefix can be seen.
    assert any(line.startswith("query_prefix ") and '"[Q] "' in line for line in table)


# Streams and signals


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_utf8_whatever_the_locale(run: Run, locale: str) -> None:
    strict = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    arguments = ["rerank", os.fspath(CHECKPOINT), "--query", "Où est 灯台 ?", "--json"]
    plain = run(*arguments, stdin=lines(TEXTS))
    result = run(*arguments, stdin=lines(TEXTS), env=strict)
    assert (result.code, result.out) == (0, plain.out), result.err


@posix
def test_argument_that_is_not_utf8(run: Run) -> None:
    run("rerank", CHECKPOINT, "--query", os.fsdecode(b"caf\xe9")).check_usage_error("--query", "not valid UTF-8")


@posix
def test_broken_pipe_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "docs.txt").write_bytes(b"text\n" * 50)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        arguments = command("rerank", CHECKPOINT, "--query", QUERY, tmp_path / "docs.txt")
        done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_reported() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command("info", CHECKPOINT), stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"chandelier: error: no space left on device\n")


@posix
def test_interrupt_is_quiet(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    arguments = command("encode", CHECKPOINT, fifo, "-o", tmp_path / "out")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer = _open_when_read(fifo, process)
    try:
        time.sleep(0.5)  # a signal between the open and the read would be noticed after the read only
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        os.close(writer)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


def _open_when_read(fifo: Path, process: subprocess.Popen[bytes]) -> int:
    """Waits until the process reads the fifo, and so is past its imports; returns the end to write to."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)


@posix
def test_terminal_gets_shortened_lines(tmp_path: Path) -> None:
    import pty

    documents = tmp_path / "docs.txt"
    documents.write_bytes(lines(["short", "long " * 50, "灯台" * 50]))
    terminal, side = pty.openpty()
    process = subprocess.Popen(
        command("rerank", CHECKPOINT, "--query", QUERY, documents),
        stdout=side,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "40"},
    )
    os.close(side)
    output = read_terminal(terminal)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    by_start = {line.split()[2][:1]: line for line in output.decode().splitlines()}
    start = len(by_start["s"]) - len("short")
    assert by_start["s"].endswith("  short")
    assert len(by_start["l"]) == 40
    assert by_start["l"].endswith("…")
    wide = by_start["灯"][start:]
    assert wide.endswith("…")
    assert 40 - 1 <= start + 2 * (len(wide) - 1) + 1 <= 40  # a wide character takes two columns


def test_rerank_passes_over_empty_lines(run: Run) -> None:
    hits = run("rerank", CHECKPOINT, "--query", QUERY, "--json", stdin=b"\nParis is in France.\n   \nBread.\n").rows()
    assert sorted((hit["index"], hit["text"]) for hit in hits) == [(1, "Paris is in France."), (3, "Bread.")]


def test_encode_spares_what_it_reads(run: Run, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_bytes(b"bread\n")
    run("encode", CHECKPOINT, texts, "-o", texts).check_error("would write over")
    run("encode", CHECKPOINT, texts, "-o", CHECKPOINT / "new.safetensors").check_error("would write over")
    assert texts.read_bytes() == b"bread\n"
    assert not (CHECKPOINT / "new.safetensors").exists()
