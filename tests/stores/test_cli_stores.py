"""``chandelier index`` and ``chandelier search``: processes of their own where they matter, `main` for the tables."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Result, Run, command, jsonl, read_terminal

from chandelier import ColBERT, Document, LocalStore, MeanVector, Muvera
from chandelier.plaid import PlaidStore
from chandelier.qdrant import QdrantStore

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder on the path
from loopback import Fault, QdrantLoopback

GOLDENS = Path(__file__).parents[1] / "goldens"
CHECKPOINT = GOLDENS / "a_bert_pylate" / "checkpoint"
OTHER = GOLDENS / "d_bert_stanford" / "checkpoint"
QUERY = "which light keeps ships away from the rocks?"
OBJECTS: list[dict[str, Any]] = [
    {"id": "a", "text": "The lighthouse keeps ships off the rocks.", "lang": "en", "year": 2021},
    {"id": "b c", "text": "Bread and salt.", "lang": "en", "year": 2019, "by": {"name": "Zoë", "tags": ["x", None]}},
    {"id": "灯台", "text": "日本の灯台 é", "lang": "ja", "count": 2**60},
    {"id": 7, "text": "The moon moves the sea."},
]
DOCUMENTS = [
    Document(str(each["id"]), each["text"], {k: v for k, v in each.items() if k not in ("id", "text")})
    for each in OBJECTS
]

NO_URLS = [
    "",
    "http://",
    "ftp://host",
    "localhost:6333",
    ":memory:",
    "http://host:99999",
    "http://host:port",
    "/folder",
]

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes and terminals")


@pytest.fixture
def model(tiny: ColBERT) -> ColBERT:
    return tiny


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Documents as JSONL."""
    path = tmp_path / "notes.jsonl"
    path.write_bytes(jsonl(OBJECTS))
    return path


@pytest.fixture
def store(tmp_path: Path, model: ColBERT) -> Path:
    """A file with the same documents."""
    path = tmp_path / "notes.db"
    with LocalStore(model, path) as made:
        made.upsert(DOCUMENTS)
    return path


def stored(path: Path, model: ColBERT) -> list[Document]:
    with LocalStore(model, path) as store:
        return list(store.iterate())


# index


def test_index_twice_and_search(run: Run, notes: Path, tmp_path: Path, model: ColBERT) -> None:
    (tmp_path / "more.txt").write_bytes("one line\n\n  \nanother é line\r\n".encode())
    for _ in range(2):
        result = run("index", CHECKPOINT, "notes.jsonl", "--store", "notes.db", "more.txt")
        assert (result.code, result.out) == (0, "")
        assert result.err.startswith("chandelier: notes.db: stored 6, ")
        assert result.err.endswith(" s\n")
        assert result.err.count("\n") == 1
    texts = {1: "one line", 4: "another é line"}
    expected = [Document(f"more.txt:{n}", text, {"file": "more.txt", "line": n}) for n, text in texts.items()]
    assert stored(tmp_path / "notes.db", model) == [*DOCUMENTS, *expected]

    found = run("search", CHECKPOINT, "--store", "notes.db", "--query", QUERY, "--json")
    assert (found.code, found.err) == (0, "")
    with LocalStore(model) as store:
        store.upsert([*DOCUMENTS, *expected])
        hits = store.search(QUERY)
    assert [hit["rank"] for hit in found.rows()] == [1, 2, 3, 4, 5, 6]
    assert [(hit["id"], hit["text"], hit["metadata"]) for hit in found.rows()] == [
        (hit.id, hit.text, hit.metadata) for hit in hits
    ]
    assert [hit["score"] for hit in found.rows()] == pytest.approx([hit.score for hit in hits], rel=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["more.txt", "notes.db", "notes.jsonl"]


def test_index_replaces_what_has_changed(call: Run, notes: Path, store: Path, model: ColBERT) -> None:
    notes.write_bytes(jsonl([{"id": "a", "text": "Fog."}, {"id": "new", "text": "Rain."}]))
    result = call("index", CHECKPOINT, notes, "--store", store, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.rows() == [
        {"stored": ["a", "new"], "failed": {}, "duplicates": [], "without_rows": [], "truncated": [], "unknown": []}
    ]
    assert [(each.id, each.text, dict(each.metadata)) for each in stored(store, model)][-2:] == [
        ("a", "Fog.", {}),
        ("new", "Rain.", {}),
    ]
    assert len(stored(store, model)) == 5


def test_index_reads_jsonl_from_standard_input(run: Run, tmp_path: Path, model: ColBERT) -> None:
    content = jsonl([{"key": 1, "body": "one", "id": "mine"}, {"key": "1", "body": "again"}, {"key": "", "body": ""}])
    options = ["--format", "jsonl", "--field", "body", "--id-field", "key", "--pool-factor", "2"]
    result = run("index", CHECKPOINT, "--store", "notes.db", *options, stdin=content)
    assert result.code == 0, result.err
    assert result.err.startswith("chandelier: notes.db: stored 2, given more than once 1, ")
    assert stored(tmp_path / "notes.db", model) == [Document("1", "again"), Document("", "")]


def test_index_pools(call: Run, notes: Path, tmp_path: Path, model: ColBERT) -> None:
    options = ["--pool-factor", "2", "--protected-tokens", "2", "--threads", "1"]
    assert call("index", CHECKPOINT, notes, "--store", "pooled.db", *options).code == 0
    with LocalStore(model, tmp_path / "pooled.db") as pooled:
        found = pooled.get(["a"], with_vectors=True)[0].vectors
    (expected,) = model.encode_documents([OBJECTS[0]["text"]], pool_factor=2, protected_tokens=2)
    assert found is not None
    assert found == pytest.approx(expected, abs=2e-5)


BAD_LINES = [
    (b'{"id": "x", "text": "a"', ["not valid JSON", "column"]),
    (b'["x"]', ["an array, not a JSON object"]),
    (b'{"id": "x", "body": "a"}', ["no field 'text', only 'id', 'body'", "--field"]),
    (b'{"id": "x", "text": null}', ["field 'text' is null"]),
    (b'{"text": "a", "key": 1}', ["no field 'id', only 'text', 'key'", "--id-field"]),
    (b'{"id": null, "text": "a"}', ["field 'id' is null, not a string or a whole number"]),
    (b'{"id": 1.5, "text": "a"}', ["field 'id' is a number, not a string or a whole number"]),
    (b'{"id": true, "text": "a"}', ["field 'id' is a boolean"]),
    (b'{"id": ["x"], "text": "a"}', ["field 'id' is an array"]),
    (b'{"id": "\\ud83d", "text": "a"}', ["id: got a lone surrogate at character 0"]),
    (b'{"id": "x", "text": "\\ud83d"}', ["lone surrogate"]),
    (b'{"id": "x", "text": "\xff"}', ["not valid UTF-8 at byte 22"]),
    (b"[" * 100_000, ["not valid JSON"]),
    (b'{"id": ' + b"9" * 5000 + b', "text": "a"}', ["not valid JSON"]),
]


@pytest.mark.parametrize(("line", "parts"), BAD_LINES)
def test_a_bad_line_ends_the_work_when_all_before_it_is_stored(
    call: Run, tmp_path: Path, model: ColBERT, line: bytes, parts: list[str]
) -> None:
    (tmp_path / "bad.jsonl").write_bytes(jsonl(OBJECTS[:2]) + b"\n" + line + b"\n" + jsonl(OBJECTS[2:]))
    result = call("index", CHECKPOINT, "bad.jsonl", "--store", "notes.db")
    result.check_error("bad.jsonl:4: ", *parts, "; stored 2 before it")
    assert stored(tmp_path / "notes.db", model) == DOCUMENTS[:2]


def test_bad_lines_are_skipped_if_asked(run: Run, tmp_path: Path, model: ColBERT) -> None:
    bad = [line for line, _ in BAD_LINES]
    (tmp_path / "bad.jsonl").write_bytes(jsonl(OBJECTS[:2]) + b"\n".join(bad) + b"\n" + jsonl(OBJECTS[2:]))
    arguments = ["index", os.fspath(CHECKPOINT), "bad.jsonl", "--store", "notes.db", "--skip-bad"]
    result = run(*arguments)
    assert (result.code, result.out) == (1, "")
    *refused, last = result.err.splitlines()
    assert last == f"chandelier: error: notes.db: stored 4, refused {len(bad)}"
    for number, (line, (_, parts)) in enumerate(zip(refused, BAD_LINES, strict=True), 3):
        assert line.startswith(f"chandelier: refused: bad.jsonl:{number}: ")
        assert line.count("bad.jsonl") == 1
        assert all(part in line for part in parts)
    assert stored(tmp_path / "notes.db", model) == DOCUMENTS

    report = run(*arguments, "--json")
    assert report.code == 1
    assert report.err == f"chandelier: error: notes.db: stored 4, refused {len(bad)}\n"
    (facts,) = report.rows()
    assert facts["stored"] == [document.id for document in DOCUMENTS]
    assert list(facts["failed"]) == [f"bad.jsonl:{number}" for number in range(3, 3 + len(bad))]


def test_what_the_store_refuses_does_not_keep_the_others_out(call: Run, tmp_path: Path, model: ColBERT) -> None:
    bad = [{"id": "nan", "text": "a", "v": float("nan")}, {"id": "big", "text": "a", "v": [2**63]}]
    (tmp_path / "notes.jsonl").write_bytes(jsonl([OBJECTS[0], *bad, OBJECTS[1]]))
    result = call("index", CHECKPOINT, "notes.jsonl", "--store", "notes.db")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        "chandelier: refused: nan: metadata['v']: got nan, wanted a finite float, or None",
        "chandelier: refused: big: metadata['v'][0]: got an integer beyond 64 bits, wanted a smaller one, or a str",
        "chandelier: error: notes.db: stored 2, refused 2",
    ]
    assert stored(tmp_path / "notes.db", model) == DOCUMENTS[:2]


def test_many_refusals_are_counted(call: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"{}\n" * 1234)
    result = call("index", CHECKPOINT, "bad.jsonl", "--store", "notes.db", "--skip-bad")
    assert result.code == 1
    shown = result.err.splitlines()
    assert len(shown) == 22
    assert shown[-2:] == [
        "chandelier: refused: 1,214 more, which --json names",
        "chandelier: error: notes.db: stored 0, refused 1,234",
    ]


def test_no_text_drives_the_terminal(call: Run, tmp_path: Path) -> None:
    wild = "\x1b[31m\x9b2J\nnext\u2028\x07"
    objects = [{"id": f"id{wild}", "text": f"text{wild}"}, {"id": f"bad{wild}", "text": "a", f"key{wild}": 2**70}]
    (tmp_path / "wild.jsonl").write_bytes(jsonl(objects) + f'{{"{wild}": 1}}\n'.encode() + jsonl([{f"only{wild}": 1}]))
    indexed = call("index", CHECKPOINT, "wild.jsonl", "--store", "n.db", "--skip-bad")
    assert indexed.code == 1
    ended = call("index", CHECKPOINT, "wild.jsonl", "--store", "n.db")
    assert ended.code == 1
    found = [call("search", CHECKPOINT, "--store", "n.db", "--query", QUERY, *more) for more in ([], ["--explain"])]
    assert [result.code for result in found] == [0, 0]
    assert found[0].out.endswith("  id [31m 2J next  text [31m 2J next\n")
    for text in (indexed.err, ended.err, found[0].out, found[1].out):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text), repr(text)


def test_names_that_are_wrong_show_before_the_work(call: Run, notes: Path, tmp_path: Path) -> None:
    before = notes.read_bytes()
    arguments = ("index", CHECKPOINT, "notes.jsonl")
    call(*arguments, "typo.jsonl", "--store", "n.db").check_error("typo.jsonl: no such file")
    call(*arguments, ".", "--store", "n.db").check_error(".: is a folder; name its files: ./*.txt --format whole")
    call(*arguments, "--store", "no-such-folder/n.db").check_error("no-such-folder")
    call(*arguments, "--store", "notes.jsonl").check_error("would write over notes.jsonl", "--store")
    call(*arguments, "--store", ".").check_error("not a regular file", "--store")
    call("index", CHECKPOINT, "-", "--format", "text", "--store", "n.db").check_error("standard input")
    call("index", "./no-such-model", "notes.jsonl", "--store", "n.db").check_error("no-such-model")
    assert notes.read_bytes() == before
    assert list(tmp_path.iterdir()) == [notes]


def test_a_file_that_is_no_store_stays_as_it_is(call: Run, notes: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_bytes(b"Dear reader, " * 1000)
    call("index", CHECKPOINT, notes, "--store", "letter.txt").check_error("letter.txt", "is not a database")
    call("search", CHECKPOINT, "--query", QUERY, "--store", "letter.txt").check_error("letter.txt")
    assert (tmp_path / "letter.txt").read_bytes() == b"Dear reader, " * 1000


def test_an_unreadable_line_of_a_later_file_keeps_the_first(call: Run, notes: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    result = call("index", CHECKPOINT, notes, "latin.txt", "--store", "n.db")
    result.check_error("latin.txt:2: not valid UTF-8 at byte 4", "stored 5 before it")


@posix
def test_a_full_disk_says_what_is_stored(run: Run, tmp_path: Path, model: ColBERT) -> None:
    import resource

    objects = [{"id": str(number), "text": f"fog {number} " * 40} for number in range(1500)]
    (tmp_path / "many.jsonl").write_bytes(jsonl(objects))
    arguments = ["index", os.fspath(CHECKPOINT), "many.jsonl", "--store", "n.db"]
    size = 12 << 20  # of 512 documents of 85 rows of 32 floats one portion fits, and two do not
    done = subprocess.run(
        command(*arguments, "--json"),
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    result = Result(done.returncode, done.stdout, done.stderr)
    assert result.code == 1
    (report,) = result.rows()
    before = len(report["stored"])
    assert 0 < before < 1500
    assert result.err.startswith("chandelier: error: ")
    assert f"; stored {before:,}" in result.err
    assert result.err.endswith(" before it\n")
    assert len(stored(tmp_path / "n.db", model)) == before
    assert run(*arguments).code == 0
    assert sorted(int(each.id) for each in stored(tmp_path / "n.db", model)) == list(range(1500))


@posix
def test_a_stream_is_stored_as_it_comes_and_resumed_after_ctrl_c(run: Run, tmp_path: Path, model: ColBERT) -> None:
    objects = [{"id": str(number), "text": f"fog {number}"} for number in range(2000)]
    process = subprocess.Popen(
        command("index", CHECKPOINT, "--format", "jsonl", "--store", tmp_path / "n.db"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(jsonl(objects[:1200]))
    process.stdin.flush()
    deadline = time.monotonic() + 60
    count = 0
    while count < 1024:  # the input has not ended, and only a part of it is still held in memory
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
        if (tmp_path / "n.db").exists():
            with contextlib.suppress(Exception), LocalStore(model, tmp_path / "n.db") as store:
                count = store.count()
    time.sleep(0.3)  # until it waits for more input
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert len(stored(tmp_path / "n.db", model)) == count == 1024

    resumed = run("index", CHECKPOINT, "--format", "jsonl", "--store", "n.db", stdin=jsonl(objects))
    assert resumed.code == 0, resumed.err
    assert [int(each.id) for each in stored(tmp_path / "n.db", model)] == list(range(2000))


@posix
def test_a_bar_on_a_terminal(notes: Path, tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # a bar in no columns is not drawn
    process = subprocess.Popen(
        command("index", CHECKPOINT, notes, "--store", tmp_path / "n.db"), stdout=subprocess.PIPE, stderr=side
    )
    os.close(side)
    shown = read_terminal(terminal).decode()
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"")
    assert "storing: 4 documents" in shown
    assert shown.rstrip().splitlines()[-1].startswith("chandelier: ")


# search


def test_search_for_people(run: Run, store: Path, model: ColBERT) -> None:
    result = run("search", CHECKPOINT, "--store", "notes.db", "--query", QUERY, "-k", "3")
    assert (result.code, result.err) == (0, "")
    with LocalStore(model, store) as opened:
        hits = opened.search(QUERY, 3)
    widest = max(4 if hit.id == "灯台" else len(hit.id) for hit in hits)  # in columns
    cells = [hit.id + " " * (widest - (4 if hit.id == "灯台" else len(hit.id))) for hit in hits]
    assert result.out.splitlines() == [
        f"{rank}  {hit.score:.4f}  {cell}  {hit.text}"
        for rank, (hit, cell) in enumerate(zip(hits, cells, strict=True), 1)
    ]


def test_a_long_id_does_not_push_the_texts_away(call: Run, tmp_path: Path, model: ColBERT) -> None:
    with LocalStore(model, tmp_path / "n.db") as store:
        store.upsert([Document("a", "same"), Document("x" * 100, "same")])
    shown = call("search", CHECKPOINT, "--store", "n.db", "--query", QUERY).out.splitlines()
    assert [line.split()[2:] for line in shown] == [["a", "same"], ["x" * 100, "same"]]
    assert shown[0].endswith("  a  same")


@pytest.mark.parametrize(
    ("filter", "ids"),
    [
        ('{"lang": "en"}', {"a", "b c"}),
        ('{"year": {"$gte": 2020}}', {"a"}),
        ('{"by.name": "Zoë"}', {"b c"}),
        ('{"$or": [{"lang": "ja"}, {"lang": {"$exists": false}}]}', {"灯台", "7"}),
        ("{}", {"a", "b c", "灯台", "7"}),
    ],
)
def test_search_filters(call: Run, store: Path, filter: str, ids: set[str]) -> None:
    result = call("search", CHECKPOINT, "--store", store, "--query", QUERY, "--filter", filter, "--json")
    assert (result.code, result.err) == (0, "")
    assert {hit["id"] for hit in result.rows()} == ids


@pytest.mark.parametrize(
    ("filter", "parts"),
    [
        ('{"year": {"$like": 2}}', ["filter.year.$like: unknown operator"]),
        ('{"$or": [{"lang": "en"}, {"year": {"$gt": "x"}}]}', ["filter.$or[1].year.$gt: got str"]),
        ('{"year": NaN}', ["filter.year: got nan"]),
        ('{"lang": "\\ud83d"}', ["filter.lang: got a lone surrogate"]),
    ],
)
def test_a_bad_filter_names_the_path(call: Run, store: Path, filter: str, parts: list[str]) -> None:
    call("search", CHECKPOINT, "--store", store, "--query", QUERY, "--filter", filter).check_error(*parts)


@pytest.mark.parametrize(
    ("filter", "part"),
    [
        ('{"lang": "en"', "Expecting ',' delimiter at character 14"),
        ("lang=en", "Expecting value at character 1"),
        ('{"lang": "Zoë", }', "at character 17"),
        ("null", "null, not a JSON object of fields"),
        ('["lang"]', "an array, not a JSON object of fields"),
        ("[" * 100_000, "not valid JSON"),
        ('{"year": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_a_filter_that_is_no_json_names_the_position(call: Run, filter: str, part: str) -> None:
    result = call("search", "m", "--store", "n.db", "--query", "q", "--filter", filter)
    result.check_usage_error("argument --filter: ", part)


def test_search_explains(run: Run, store: Path, model: ColBERT) -> None:
    arguments = ["search", os.fspath(CHECKPOINT), "--store", "notes.db", "--query", QUERY, "-k", "2", "--explain"]
    with LocalStore(model, store) as opened:
        hits = opened.search(QUERY, 2, explain=True)
    shown = run(*arguments)
    assert (shown.code, shown.err) == (0, "")
    cards = []
    for rank, hit in enumerate(hits, 1):
        assert hit.explanation is not None
        text = hit.explanation.to_text(color=False)
        cards.append(text.replace(f"  {QUERY}\n", f"  {rank} · {hit.id}\n"))
    assert shown.out == "\n".join(cards)

    rows = run(*arguments, "--json").rows()
    assert [row["id"] for row in rows] == [hit.id for hit in hits]
    for row, hit in zip(rows, hits, strict=True):
        assert hit.explanation is not None
        assert row["seen"] == [0, len(row["text"])]
        assert [match["document_token"] for match in row["matches"]] == [
            m.document_token for m in hit.explanation.matches
        ]
        assert sum(match["similarity"] for match in row["matches"]) == pytest.approx(row["score"], abs=1e-4)
        places = [[span.start, span.end] for span in hit.explanation.spans()]
        assert [[span["start"], span["end"]] for span in row["spans"]] == places


@posix
@pytest.mark.parametrize(("variable", "colors"), [("", True), ("1", False)])
def test_search_on_a_terminal(store: Path, variable: str, colors: bool) -> None:
    import pty

    for more in ([], ["--explain", "-k", "1"]):
        terminal, side = pty.openpty()
        environment = {**os.environ, "COLUMNS": "30", "NO_COLOR": variable}
        arguments = command("search", CHECKPOINT, "--store", store, "--query", QUERY, *more)
        process = subprocess.Popen(arguments, stdout=side, stderr=subprocess.PIPE, env=environment)
        os.close(side)
        output = read_terminal(terminal).decode()
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
        if more:
            assert ("\x1b[1;93m" in output) == colors
        else:
            assert all(len(line) <= 30 for line in output.splitlines())
            assert "…" in output
            assert "\x1b" not in output


def test_nothing_found_is_said(call: Run, store: Path, tmp_path: Path, model: ColBERT) -> None:
    LocalStore(model, tmp_path / "empty.db").close()
    arguments = ("search", CHECKPOINT, "--query", QUERY, "--store")
    filtered = call(*arguments, store, "--filter", '{"lang": "xx"}', "--json")
    assert (filtered.code, filtered.out) == (0, "")
    assert filtered.err == "chandelier: nothing found: no document passes the filter\n"
    empty = call(*arguments, "empty.db")
    assert (empty.code, empty.out) == (0, "")
    assert empty.err == "chandelier: nothing found: no document is stored\n"


def test_search_makes_no_store(call: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("no-such.db", "empty"):
        call("search", CHECKPOINT, "--query", QUERY, "--store", name).check_error(f"{name}: no such store", "index")
    call("search", CHECKPOINT, "--query", QUERY, "--store", "no-such-folder/n.db").check_error("no such store")
    call("search", CHECKPOINT, "--query", QUERY, "--store", ".").check_error("is a folder")
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("empty", 0)]


def test_a_store_of_another_model(call: Run, notes: Path, store: Path) -> None:
    before = store.read_bytes()
    for arguments in (("search", OTHER, "--query", QUERY), ("index", OTHER, notes)):
        call(*arguments, "--store", store).check_error("fingerprint", "a_bert_pylate", "d_bert_stanford")
    assert store.read_bytes() == before


# The command line itself


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["index", "m"], ["--store --plaid --qdrant --weaviate"]),
        (["search", "m", "--query", "q"], ["--store --plaid --qdrant --weaviate"]),
        (["search", "m", "--store", "s"], ["--query"]),
        (["search", "m", "notes.jsonl", "--query", "q", "--store", "s"], ["notes.jsonl"]),
        (["index", "m", "--store", "s", "--qdrant", "http://h"], ["not allowed with"]),
        (["index", "m", "--store", "s", "--plaid", "d"], ["not allowed with"]),
        (["index", "m", "--plaid", "d", "--collection", "c"], ["goes with --qdrant and --weaviate, not with --plaid"]),
        (["index", "m", "--qdrant", "http://h"], ["--collection", "--qdrant"]),
        (
            ["index", "m", "--store", "s", "--collection", "c"],
            ["goes with --qdrant and --weaviate, not with --store"],
        ),
        (["index", "m", "--store", "s", "--prefetch", "none"], ["--prefetch: goes with --qdrant"]),
        (["index", "m", "--store", "s", "--grpc"], ["--grpc: goes with --qdrant"]),
        (["index", "m", "--store", "s", "--grpc-port", "1"], ["--grpc-port: goes with --qdrant and --weaviate"]),
        (
            ["search", "m", "--query", "q", "--store", "s", "--depth", "5"],
            ["--depth: goes with --plaid and --qdrant and --weaviate"],
        ),
        (
            ["search", "m", "--query", "q", "--store", "s", "--timeout", "5"],
            ["--timeout: goes with --qdrant and --weaviate"],
        ),
        (["search", "m", "--query", "q", "--store", "s", "-k", "0"], ["-k/--top-k", "'0'"]),
        (["index", "m", "--qdrant", "http://h", "--collection", "c", "--prefetch", "fast"], ["--prefetch", "'fast'"]),
        (["index", "m", "--store", "s", "--qdrant", "http://h", "--weaviate", "http://h"], ["not allowed with"]),
        (["index", "m", "--weaviate", "http://h"], ["--collection: --weaviate needs the name of a collection"]),
        (["index", "m", "--store", "s", "--muvera"], ["--muvera: goes with --weaviate, not with --store"]),
        (["index", "m", "--qdrant", "http://h", "--collection", "c", "--tenant", "t"], ["--tenant: goes with --weav"]),
        (["index", "m", "--weaviate", "http://h", "--collection", "C", "--grpc"], ["--grpc: goes with --qdrant, not"]),
        (["index", "m", "--weaviate", "http://h", "--collection", "C", "--prefetch", "mean"], ["--prefetch: goes wi"]),
        (["search", "m", "--query", "q", "--weaviate", "http://h", "--collection", "C", "--muvera"], ["--muvera"]),
        (["index", "m", "--weaviate", "http://h/v1", "--collection", "C"], ["--weaviate", "more than a host"]),
        (["index", "m", "--weaviate", "http://h?key=k", "--collection", "C"], ["--weaviate", "more than a host"]),
        (["index", "m", "--weaviate", "http://me:key@h", "--collection", "C"], ["WEAVIATE_API_KEY"]),
        *((["index", "m", "--weaviate", url, "--collection", "C"], ["--weaviate", "no URL"]) for url in NO_URLS),
        (["index", "m", "-", "-", "--store", "s"], ["standard input can be read only once"]),
        *((["index", "m", "--qdrant", url, "--collection", "c"], ["--qdrant", "no URL"]) for url in NO_URLS),
        (["index", "m", "--qdrant", "http://me:key@host", "--collection", "c"], ["QDRANT_API_KEY"]),
    ],
)
def test_usage_errors(call: Run, arguments: list[str], parts: list[str]) -> None:
    call(*arguments).check_usage_error(*parts)


@pytest.mark.parametrize("name", ["index", "search"])
def test_help_is_light_and_says_what_a_user_has_to_know(run: Run, name: str) -> None:
    code = """
import sys
from chandelier.cli import main
try:
    main([sys.argv[1], "--help"])
except SystemExit:
    heavy = {"sqlite3", "qdrant_client", "weaviate", "tqdm", "chandelier.store"}
    print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, timeout=60, check=True)
    *text, imported = done.stdout.splitlines()
    assert imported == "[]"
    words = " ".join(" ".join(text).split())
    facts = {
        "index": ["FILE:LINE", "replaces the one with the same id", "--skip-bad goes on", '7 and "7" are the same'],
        "search": ['{"lang": "en", "year": {"$gte": 2020}}', "$exists", "QDRANT_API_KEY", "WEAVIATE_API_KEY"],
    }
    assert all(fact in words for fact in facts[name]), words


# PLAID


def test_plaid(run: Run, notes: Path, tmp_path: Path, model: ColBERT) -> None:
    """So many documents that there is an index; what is indexed again becomes a second segment, and is found."""
    many = [{"id": f"n{i}", "text": f"note {i} of many", "i": i} for i in range(600)]
    (tmp_path / "many.jsonl").write_bytes(jsonl(many))
    first = run("index", CHECKPOINT, "many.jsonl", "--plaid", "index")
    assert (first.code, first.out) == (0, "")
    assert re.fullmatch(r"chandelier: index: stored 600, 1 segment, [\d.]+ s\n", first.err)
    second = run("index", CHECKPOINT, notes, "--plaid", "index")
    assert re.fullmatch(r"chandelier: index: stored 4, 2 segments, [\d.]+ s\n", second.err)
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["documents.db", "optimize.lock", "segments"]

    options = ("--json", "--filter", '{"i": {"$exists": false}}', "--depth", "20")
    found = run("search", CHECKPOINT, "--plaid", "index", "--query", QUERY, *options)
    assert (found.code, found.err) == (0, "")
    with PlaidStore(tmp_path / "index", model) as store, LocalStore(model, datatype="float16") as local:
        assert store.count() == 604
        local.upsert(DOCUMENTS)
        assert [hit["id"] for hit in found.rows()] == [hit.id for hit in local.search(QUERY)]


def test_few_documents_need_no_index(call: Run, notes: Path, tmp_path: Path) -> None:
    result = call("index", CHECKPOINT, notes, "--plaid", "index")
    assert result.err.startswith("chandelier: index: stored 4, 0 segments, ")
    found = call("search", CHECKPOINT, "--plaid", "index", "--query", QUERY, "--json").rows()
    assert sorted(hit["id"] for hit in found) == ["7", "a", "b c", "灯台"]


def test_plaid_refusals(call: Run, notes: Path, tmp_path: Path) -> None:
    missing = call("search", CHECKPOINT, "--plaid", tmp_path, "--query", QUERY)
    missing.check_error(f"{tmp_path}: no such store; chandelier index makes one")
    other = call("index", CHECKPOINT, notes, "--plaid", tmp_path)
    other.check_error(f"{tmp_path}: holds 'notes.jsonl' and no store; name an empty folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.jsonl"]
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "segments").touch()
    failed = call("index", CHECKPOINT, notes, "--plaid", "index")
    failed.check_error("index: the index cannot be written", "stored 4 before it")
    assert call("search", CHECKPOINT, "--plaid", "index", "--query", QUERY, "--top-k", "1").code == 0


# Qdrant


@pytest.fixture
def server() -> Iterator[QdrantLoopback]:
    with QdrantLoopback() as server:
        yield server


@pytest.fixture
def there(server: QdrantLoopback) -> list[str]:
    return ["--qdrant", f"http://127.0.0.1:{server.rest_port}", "--collection", "notes"]


@pytest.mark.parametrize(
    ("prefetch", "grpc", "encoder"),
    [(None, True, None), ("none", True, None), ("mean", False, MeanVector), ("muvera", True, Muvera)],
)
def test_qdrant(
    run: Run,
    call: Run,
    notes: Path,
    model: ColBERT,
    server: QdrantLoopback,
    there: list[str],
    prefetch: str | None,
    grpc: bool,
    encoder: Callable[[int], Any] | None,
) -> None:
    if grpc:
        there += ["--grpc", "--grpc-port", str(server.grpc_port)]
    chandelier = call if grpc else run
    for options in ([] if prefetch is None else ["--prefetch", prefetch], []):  # the second time as it was made
        result = chandelier("index", CHECKPOINT, "notes.jsonl", *there, *options)
        assert (result.code, result.out) == (0, ""), result.err
        assert result.err.startswith("chandelier: collection notes: stored 4, ")
        assert result.err.count("\n") == 1
    assert {call.protocol for call in server.calls if call.operation == "upsert"} == {"grpc" if grpc else "rest"}

    with contextlib.closing(server.connect()) as client:
        made = None if encoder is None else encoder(model.dim)
        with QdrantStore(client, "notes", model, prefetch=made) as store:  # refuses a collection of another prefetch
            assert store.count() == 4
            assert sorted(store.iterate(), key=lambda each: each.id) == sorted(DOCUMENTS, key=lambda each: each.id)
            hits = store.search(QUERY, 2, filter={"lang": "en"}, depth=5)
    options = ["-k", "2", "--filter", '{"lang": "en"}', "--depth", "5", "--timeout", "20", "--json"]
    found = chandelier("search", CHECKPOINT, "--query", QUERY, *there, *options)
    assert (found.code, found.err) == (0, "")
    assert [(hit["id"], hit["metadata"]) for hit in found.rows()] == [(hit.id, hit.metadata) for hit in hits]
    assert [hit["score"] for hit in found.rows()] == pytest.approx([hit.score for hit in hits], rel=1e-5)


def test_a_prefetch_that_was_made_in_python(
    call: Run, model: ColBERT, server: QdrantLoopback, there: list[str]
) -> None:
    with contextlib.closing(server.connect()) as client:
        muvera = Muvera(model.dim, ksim=2, dprojections=4, repetitions=3, seed=7)
        QdrantStore(client, "notes", model, prefetch=muvera).upsert(DOCUMENTS)
    found = call("search", CHECKPOINT, "--query", QUERY, *there, "--json")
    assert (found.code, len(found.rows())) == (0, 4), found.err


def test_qdrant_refusals(call: Run, notes: Path, server: QdrantLoopback, there: list[str]) -> None:
    index, search = ("index", CHECKPOINT, notes, *there), ("search", CHECKPOINT, "--query", QUERY, *there)
    call(*search).check_error("no collection 'notes'", "chandelier index makes one")
    with contextlib.closing(server.connect()) as client:
        assert not client.collection_exists("notes"), "a search made it"
    assert call(*index, "--prefetch", "mean").code == 0
    call(*index, "--prefetch", "none").check_error("prefetch mean-32", "no prefetch")
    call("search", OTHER, "--query", QUERY, *there).check_error("collection 'notes'")
    call("search", CHECKPOINT, "--query", "q", "--qdrant", "http://h ost", "--collection", "c").check_error("h ost")
    call(*search, "--depth", "3", "-k", "4").check_error("depth: got 3 with k=4")
    server.kill()
    begun = time.monotonic()
    call(*search).check_error(there[1], "Connection refused")
    call(*index).check_error(there[1], "Connection refused")
    assert time.monotonic() - begun < 10, "a mistyped URL shows at once"


def test_a_server_that_fails_in_the_middle(
    call: Run, tmp_path: Path, server: QdrantLoopback, there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chandelier.qdrant.failures.FIRST_WAIT", 0.01)
    objects = [{"id": str(number), "text": f"fog {number}"} for number in range(600)]
    (tmp_path / "many.jsonl").write_bytes(jsonl(objects))
    server.faults += [Fault("upsert"), *[Fault("upsert", status=503)] * 7]  # the first portion is stored
    failed = call("index", CHECKPOINT, "many.jsonl", *there)
    failed.check_error("collection 'notes' of http://127.0.0.1:", ": 503: ", "; stored 512 before it")
    again = call("index", CHECKPOINT, "many.jsonl", *there, "--json")
    assert (again.code, len(again.rows()[0]["stored"])) == (0, 600), again.err
    with contextlib.closing(server.connect()) as client:
        assert client.count("notes").count == 600


def test_the_key_comes_from_the_environment_only(call: Run, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantLoopback(api_key="open sesame") as server:
        there = ("--qdrant", f"http://127.0.0.1:{server.rest_port}", "--collection", "notes")
        monkeypatch.delenv("QDRANT_API_KEY", raising=False)
        call("index", CHECKPOINT, notes, *there).check_error("401", "Must provide an API key")
        monkeypatch.setenv("QDRANT_API_KEY", "friend")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            wrong = call("index", CHECKPOINT, notes, *there)
        assert wrong.code == 1
        assert "Invalid API key" in wrong.err
        assert "friend" not in wrong.err
        monkeypatch.setenv("QDRANT_API_KEY", "open sesame")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            right = call("index", CHECKPOINT, notes, *there)
        assert right.code == 0, right.err
        assert "insecure connection" in right.err, "a key over plain HTTP"


def test_without_the_extra_one_line_says_what_to_install(run: Run, notes: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['qdrant_client'] = None; from chandelier.cli import main; sys.exit(main())"
    arguments = ["index", os.fspath(CHECKPOINT), os.fspath(notes), "--qdrant", "http://h", "--collection", "c"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=60, check=False)
    Result(done.returncode, done.stdout, done.stderr).check_error("pip install 'chandelier[qdrant]'")


def test_whole_files(call: Run, tmp_path: Path) -> None:
    """A folder of texts: each file is a document, its name the id."""
    (tmp_path / "a.txt").write_text("Bread needs flour.\n\nAnd water.", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes("\ufeffParis is in France.".encode())
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    files = ["a.txt", "b.txt", "latin.txt"]
    result = call("index", CHECKPOINT, *files, "--format", "whole", "--store", "n.db", "--skip-bad", "--json")
    (report,) = result.rows()
    assert (result.code, report["stored"], list(report["failed"])) == (1, ["a.txt", "b.txt"], ["latin.txt"])
    found = call("search", CHECKPOINT, "--store", "n.db", "--query", "flour", "-k", "2", "--json").rows()
    assert {(row["id"], row["text"], row["metadata"]["file"]) for row in found} == {
        ("a.txt", "Bread needs flour.\n\nAnd water.", "a.txt"),
        ("b.txt", "Paris is in France.", "b.txt"),
    }
    stopped = call("index", CHECKPOINT, *reversed(files), "--format", "whole", "--store", "m.db")
    stopped.check_error("latin.txt: ", "stored 0 before it")


def test_tables_are_not_taken_for_texts(call: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text\n1,bread\n", encoding="utf-8")
    refused = call("index", CHECKPOINT, "t.csv", "--store", "n.db")
    refused.check_error("t.csv: got .csv, wanted text or JSONL; convert it, or say --format text")
    assert call("index", CHECKPOINT, "t.csv", "--store", "n.db", "--format", "text").code == 0
