"""Hub names: the real client in processes of its own, against a hub on the loopback."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import chandelier
from chandelier import ColBERT

_spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
assert _spec is not None
assert _spec.loader is not None
hub_server = sys.modules["hub_server"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hub_server)
Repository, files_of = hub_server.Repository, hub_server.files_of

GOLDENS = Path(__file__).parents[1] / "goldens"
NEWER = hasattr(huggingface_hub, "get_cached_repo_tree")  # a client that keeps the lists of files that it has seen
TEXTS = ["Paris is the capital of France.", "", "ships, rocks; fog"]
PLAIN = files_of(GOLDENS / "a_bert_pylate" / "checkpoint")
# What lies beside a model in real repositories, and is not for us.
JUNK = {
    **dict.fromkeys([".gitattributes", "README.md", "vocab.txt", "assets/picture.png", "similarity.csv"], b"prose"),
    **dict.fromkeys(["pytorch_model.bin", "1_Dense/pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"], b"twice"),
    **dict.fromkeys(["onnx/model.onnx", "onnx/config.json", "onnx/tokenizer.json", "openvino/model.xml"], b"exports"),
    **dict.fromkeys(["training_args.bin", "optimizer.pt", "adapter_model.safetensors", "9_Dense/config.json"], b"left"),
    "model-00001-of-00002.safetensors": b"of an index that is not there",
}

# Reads the calls from stdin and prints what each came to. `{"pickle": true}` opens what a pickle of the model opens.
WORKER = """
import copy, json, pickle, sys, warnings
from concurrent.futures import ThreadPoolExecutor
import chandelier, chandelier.hub
texts, calls, threads = json.load(sys.stdin)

def attempt(call):
    name, snapshot, pickled = call.pop("name"), call.pop("snapshot", False), call.pop("pickle", False)
    from_bert = call.pop("from_bert", False)
    report = {"name": name}
    try:
        if snapshot:
            found = chandelier.hub.snapshot(name, chandelier.hub.HubOptions(**call))
            return {**report, **found._asdict()}
        model = (chandelier.from_bert if from_bert else chandelier.ColBERT)(name, **call)
        assert copy.deepcopy(model) is model
        if pickled:
            data = pickle.dumps(model)
            report["secret"] = b"good" in data
            model = pickle.loads(data)
        rows = [each.tolist() for each in model.encode_documents(texts)]
        fields = dict(revision=model.revision, shown=model.info().get("revision"), model=model.name, repr=repr(model))
        fields["arguments"] = model.arguments
        return {**report, "rows": rows, "folder": model._path, "fingerprint": model.fingerprint, **fields}
    except Exception as error:
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error) and again.__dict__ == error.__dict__
        kinds = [kind.__name__ for kind in type(error).__mro__]
        fields = {name: getattr(error, name, None) for name in ("repository", "revision", "argument")}
        return {**report, "error": str(error), "kinds": kinds, **fields}

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with ThreadPoolExecutor(threads) as pool:
        reports = list(pool.map(attempt, calls))
told = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
places = [each.filename for each in caught if issubclass(each.category, UserWarning)]
print(json.dumps({"reports": reports, "warnings": told, "places": places}))
"""


def environment(hub: Any, home: Path, **switches: str) -> dict[str, str]:
    """A user's environment in which the hub is ours; the switches of whoever runs the tests are gone."""
    ours = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    theirs = re.compile(r"(HF|HUGGING|TRANSFORMERS)_.*|.*_proxy", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not theirs.fullmatch(name)}
    return {**kept, **ours, **switches}


class World:
    """A hub, an empty cache, and processes that use them."""

    def __init__(self, hub: Any, home: Path) -> None:
        self.hub = hub
        self.home = home
        self.warnings: list[str] = []
        self.places: list[str] = []

    def run(self, *calls: dict[str, Any], threads: int = 1, **switches: str) -> list[dict[str, Any]]:
        """Opens models in a new process."""
        self.hub.requests.clear()
        self.hub.tokens.clear()
        done = subprocess.run(
            [sys.executable, "-c", WORKER],
            input=json.dumps([TEXTS, calls, threads]),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=self.home,
            env=environment(self.hub, self.home, **switches),
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        self.warnings, self.places = told["warnings"], told["places"]
        reports: list[dict[str, Any]] = told["reports"]
        return reports

    def open(self, name: str, switches: Mapping[str, str] | None = None, **arguments: Any) -> dict[str, Any]:
        (report,) = self.run({"name": name, **arguments}, **(switches or {}))
        return report

    def blobs(self) -> list[Path]:
        return sorted(self.home.glob("hub/models--*/blobs/*"))


@pytest.fixture(scope="module")
def module_hub() -> Iterator[Any]:
    with hub_server.serve() as hub:
        yield hub


@pytest.fixture
def world(module_hub: Any, tmp_path: Path) -> World:
    module_hub.repositories.clear()
    module_hub.repositories["house/plain"] = Repository.of({**PLAIN, **JUNK})
    return World(module_hub, tmp_path)


@pytest.fixture(scope="module")
def local() -> dict[str, Any]:
    """What the folder itself gives."""
    model = ColBERT(GOLDENS / "a_bert_pylate" / "checkpoint")
    assert model.revision is None
    return {
        "rows": [rows.tolist() for rows in model.encode_documents(TEXTS)],
        "fingerprint": model.fingerprint,
    }


def same(report: dict[str, Any], local: dict[str, Any]) -> bool:
    return "error" not in report and {key: report[key] for key in local} == local


def test_a_name_opens_as_its_folder_does(world: World, local: dict[str, Any]) -> None:
    first = world.open("house/plain")
    commit = world.hub.repositories["house/plain"].branches["main"]
    assert same(first, local), first
    assert world.warnings == []
    assert (first["revision"], first["shown"], first["model"]) == (commit, commit, "house/plain")
    assert first["repr"].startswith("ColBERT('house/plain', ")
    assert Path(first["folder"]) == world.home / "hub" / "models--house--plain" / "snapshots" / commit
    # Each once, and nothing else.
    assert sorted(world.hub.fetched()) == sorted(PLAIN)
    # Settings stand before any weight, the weights of all modules come together at the end.
    assert all(name.endswith(".safetensors") for name in world.hub.fetched()[-2:])

    second = world.open("house/plain")
    assert same(second, local)
    assert world.hub.asked() == ["GET /api/models/house/plain/revision/main"], "one question, no download"

    # Asking nobody: by argument, by each switch of the hub's, and all of them without a request.
    for switches, arguments in (
        ({}, {"local_files_only": True}),
        ({"HF_HUB_OFFLINE": "1"}, {}),
        ({"TRANSFORMERS_OFFLINE": "1"}, {}),
        ({"HF_HUB_OFFLINE": "1"}, {"revision": commit}),
    ):
        offline = world.open("house/plain", switches, **arguments)
        assert same(offline, local), offline
        assert offline["revision"] == commit
        assert world.hub.asked() == []
        assert world.warnings == []


def test_modules_in_folders(world: World) -> None:
    files = files_of(GOLDENS / "u_st_modules" / "checkpoint")
    world.hub.repositories["house/modules"] = Repository.of({**JUNK, "config.json": b"{}", **files})
    report = world.open("house/modules")
    theirs = ColBERT(GOLDENS / "u_st_modules" / "checkpoint")
    assert report.get("rows") == [rows.tolist() for rows in theirs.encode_documents(TEXTS)], report
    assert sorted(world.hub.fetched()) == sorted([*files, "config.json"])


@pytest.mark.parametrize(
    ("case", "added", "dropped"),
    [
        ("d_bert_stanford", {}, ["vocab.txt"]),
        ("f_bert_pytorch_bin", {}, []),
        ("g_bert_sharded", {"pytorch_model.bin": b"-", "model-00006-of-00006.safetensors": b"-"}, [*JUNK]),
        # One file wins over shards, as it does when it is read.
        ("a_bert_pylate", {"model.safetensors.index.json": b"{}", "pytorch_model.bin.index.json": b"{}"}, []),
        (
            "n_st6_mve",
            {"2_MultiVectorMask/model.onnx": b"-", "added_tokens.json": b"{}"},
            ["2_MultiVectorMask/model.onnx"],
        ),
    ],
)
def test_the_files_of_every_format(world: World, case: str, added: dict[str, bytes], dropped: list[str]) -> None:
    """The choice of files alone: what the core makes of them is its own affair."""
    files = files_of(GOLDENS / case / "checkpoint")
    wanted = set(files) | ({"added_tokens.json"} & set(added))
    world.hub.repositories["house/case"] = Repository.of({**added, **files})
    report = world.open("house/case", snapshot=True)
    assert "error" not in report, report
    assert sorted(world.hub.fetched()) == sorted(wanted - set(dropped))
    for name in world.hub.fetched():
        assert (Path(report["folder"]) / name).read_bytes() == {**added, **files}[name]
    again = world.open("house/case", {"HF_HUB_OFFLINE": "1"}, snapshot=True)
    assert again == report


def test_names_that_a_pattern_would_read_otherwise(world: World) -> None:
    """A module's folder may hold characters that the client's patterns give a meaning."""
    modules = json.loads(PLAIN["modules.json"])
    modules[1]["path"] = "1_[D]ense*"
    files = {name.replace("1_Dense/", "1_[D]ense*/"): data for name, data in PLAIN.items()}
    decoys = {"1_Dense/config.json": b"{}", "1_[D]enseX/config.json": b"{}", "1_Dense2/model.safetensors": b""}
    world.hub.repositories["house/odd"] = Repository.of(
        {**files, **decoys, "modules.json": json.dumps(modules).encode()}
    )
    assert "rows" in world.open("house/odd")
    assert sorted(world.hub.fetched()) == sorted(files)


def test_revisions(world: World, local: dict[str, Any]) -> None:
    repository = world.hub.repositories["house/plain"]
    first = repository.branches["main"]
    settings = json.loads(PLAIN["config_sentence_transformers.json"])
    changed = {**PLAIN, "config_sentence_transformers.json": json.dumps({**settings, "document_length": 5}).encode()}
    second = repository.add(changed)
    repository.branches["v1"] = repository.branches["refs/pr/1"] = first
    reports = world.run(
        {"name": "house/plain"},
        {"name": "house/plain", "revision": "v1"},
        {"name": "house/plain", "revision": "refs/pr/1"},
        {"name": "house/plain", "revision": first},
        {"name": "house/plain", "revision": second},
    )
    assert [report.get("revision") for report in reports] == [second, first, first, first, second], reports
    assert all(same(reports[index], local) for index in (1, 2, 3))
    assert reports[0]["rows"] == reports[4]["rows"] != local["rows"]
    # What both commits share is fetched once.
    assert world.hub.fetched().count("model.safetensors") == 1

    # Offline every name stands where it stood.
    repository.branches["main"] = first
    names = [None, "v1", "refs/pr/1", first, second]
    offline = world.run(*({"name": "house/plain", "revision": name} for name in names), HF_HUB_OFFLINE="1")
    assert [report.get("revision") for report in offline] == [second, first, first, first, second], offline
    # Online the branch is followed, and from then on that is where it stands.
    assert world.open("house/plain")["revision"] == first
    assert world.open("house/plain", local_files_only=True)["revision"] == first


def test_cache_dir(world: World, local: dict[str, Any]) -> None:
    report = world.open("house/plain", cache_dir="elsewhere")
    assert same(report, local), report
    assert Path(report["folder"]).is_relative_to(world.home / "elsewhere")
    assert not (world.home / "hub" / "models--house--plain").exists()
    kept = world.open("house/plain", cache_dir=str(world.home / "elsewhere"), local_files_only=True)
    assert same(kept, local)
    assert "HubMissingError" in world.open("house/plain", local_files_only=True)["kinds"]


def test_what_an_adapter_pickles_opens_the_same_commit_when_it_is_needed(world: World) -> None:
    code = """if True:
        import pickle
        from pathlib import Path
        from chandelier import ColBERT
        from chandelier.shared import SHARED, ModelHandle
        if not Path("pickled").exists():
            model = ColBERT("house/plain", token="good")
            Path("pickled").write_bytes(pickle.dumps(ModelHandle(model)))
            print(model.revision)
        else:
            pickled = Path("pickled").read_bytes()
            handle = pickle.loads(pickled)
            assert not SHARED.models and b"good" not in pickled
            print(handle.open().revision)
        """
    repository = world.hub.repositories["house/plain"]
    first = repository.branches["main"]
    revisions = []
    for _ in range(2):
        arguments: dict[str, Any] = dict(cwd=world.home, env=environment(world.hub, world.home), timeout=60, check=True)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **arguments)
        revisions.append(done.stdout.strip())
        repository.add({**PLAIN, "README.md": b"a new commit"})
    assert revisions == [first, first]


def test_a_pickle_opens_the_same_commit_and_holds_no_token(world: World, local: dict[str, Any]) -> None:
    repository = world.hub.repositories["house/plain"]
    repository.token = "good"
    first = repository.branches["main"]
    report = world.open("house/plain", {"HF_TOKEN": "good"}, token="good", pickle=True, threads=1)
    assert same(report, local), report
    assert report["secret"] is False
    assert report["arguments"] == {"model_name_or_path": "house/plain", "revision": first, "threads": 1}
    given = {"model_name_or_path": "house/plain", "revision": "main"}
    assert world.open("house/plain", token="good", revision="main")["arguments"] == given, "no token, nothing resolved"
    if NEWER:
        assert same(world.open("house/plain", token="good", pickle=True, threads=1), local), "the cache is enough"
    assert "Bearer good" in world.hub.tokens
    # The branch moves on; a folder of the hub's name comes to be; the pickle means what it meant.
    code = (
        "import pickle, sys, chandelier; from pathlib import Path; Path('pickled').write_bytes("
        "pickle.dumps(chandelier.ColBERT('house/plain', document_length=20, cache_dir='hub')))"
    )
    switches = environment(world.hub, world.home, HF_TOKEN="good")
    subprocess.run([sys.executable, "-c", code], cwd=world.home, env=switches, timeout=60, check=True)
    (world.home / "house" / "plain").mkdir(parents=True)
    repository.add({**PLAIN, "README.md": b"a new commit"})
    code = (
        "import pickle; from pathlib import Path; model = pickle.loads(Path('../pickled').read_bytes());"
        "print(model.revision, model.name, model.document_length)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=world.home / "house",
        env={**switches, "HF_HUB_OFFLINE": "1"},
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [first, "house/plain", "20"]


def test_a_commit_that_is_cached_whole_asks_nobody(world: World, local: dict[str, Any]) -> None:
    commit = world.open("house/plain")["revision"]
    report = world.open("house/plain", revision=commit, pickle=True)
    assert same(report, local), report
    if NEWER:
        assert world.hub.asked() == []
    else:  # without a listing the hub is asked what the commit holds
        assert set(world.hub.asked()) == {f"GET /api/models/house/plain/revision/{commit}"}


def test_a_folder_needs_no_hub(world: World, local: dict[str, Any]) -> None:
    """Even one that is called like a repository; and a revision for it is a misunderstanding."""
    shutil.copytree(GOLDENS / "a_bert_pylate" / "checkpoint", world.home / "house" / "plain")
    reports = world.run(
        {"name": "house/plain"},
        {"name": "./house/plain", "token": "good", "cache_dir": "elsewhere", "local_files_only": True},
        {"name": "house/plain", "revision": "main"},
    )
    assert same(reports[0], local)
    assert same(reports[1], local)
    assert reports[0]["revision"] is None
    assert "ArgumentError" in reports[2]["kinds"]
    assert reports[2]["argument"] == "revision"
    assert "a folder has no revisions" in reports[2]["error"]
    assert world.hub.asked() == []


PATHS = ["/no/such/model", "./no-such-model", "../model", "~/model", "a/b/c", "model/", "house\\model", ".", "a//b"]
NO_NAMES = ["two words", "no--such", "no..such", "model.git", "-model", "x" * 97, "house/a:b"]


def test_what_is_a_path_asks_nobody(world: World) -> None:
    (world.home / "afile").write_bytes(b"")
    names = [*PATHS, *NO_NAMES, "afile"]
    for report in world.run(*({"name": name} for name in names)):
        assert "FileNotFoundError" in report["kinds"], report
        assert "HubError" not in report["kinds"], report
    assert world.hub.asked() == []


def test_a_path_object_is_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        ColBERT(Path("house/plain"))
    assert not isinstance(caught.value, chandelier.HubError)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("revision", ""),
        ("revision", "a b"),
        ("revision", "../../refs"),
        ("revision", 3),
        ("token", "hf_secret\n"),
        ("token", ""),
        ("token", 3),
        ("cache_dir", 3),
        ("local_files_only", "yes"),
    ],
)
def test_arguments_that_are_refused(argument: str, value: object) -> None:
    with pytest.raises(chandelier.ArgumentError) as caught:
        ColBERT("house/plain", **{argument: value})  # type: ignore[arg-type]
    assert caught.value.argument == argument
    assert argument in str(caught.value)
    assert "hf_secret" not in str(caught.value)


def test_a_token_is_not_shown() -> None:
    assert "hf_secret" not in repr(chandelier.hub.HubOptions(token="hf_secret"))


def test_tokens(world: World, local: dict[str, Any]) -> None:
    world.hub.repositories["house/plain"].token = "good"
    assert "HubMissingError" in world.open("house/plain")["kinds"]
    assert same(world.open("house/plain", {"HF_TOKEN": "good"}), local)
    assert world.hub.tokens == {"Bearer good"}
    # The argument wins, and False is none at all.
    assert "(401)" in world.open("house/plain", {"HF_TOKEN": "good"}, token="bad")["error"]
    assert "HubMissingError" in world.open("house/plain", {"HF_TOKEN": "good"}, token=False)["kinds"]


# --- failures -------------------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Callable[[], Any], dict[str, Any], str, list[str]]] = {
    "house/nowhere": (lambda: None, {}, "HubMissingError", ["no such repository", "private", "HF_TOKEN"]),
    "nowhere": (lambda: None, {}, "HubMissingError", ["no such repository", "folder of the name 'nowhere'"]),
    "house/private": (lambda: Repository.of(PLAIN, token="good"), {}, "HubMissingError", ["private", "HF_TOKEN"]),
    "house/branch": (lambda: Repository.of(PLAIN), {"revision": "v9"}, "HubMissingError", ["no such branch"]),
    "house/commit": (lambda: Repository.of(PLAIN), {"revision": "0" * 40}, "HubMissingError", ["no such branch"]),
    "house/gated": (lambda: Repository.of(PLAIN, gated=True), {}, "HubError", ["must be granted", "/house/gated"]),
    "house/token": (lambda: Repository.of(PLAIN), {"token": "bad"}, "HubError", ["token is not valid", "401"]),
    "house/forbidden": (lambda: Repository.of(PLAIN, refuse=(403, {})), {}, "HubError", ["403", "token may read"]),
    "house/broken": (lambda: Repository.of(PLAIN, refuse=(500, {})), {}, "HubError", ["answered 500", "try again"]),
    "house/busy": (lambda: Repository.of(PLAIN, refuse=(429, {})), {}, "HubError", ["answered 429", "try again"]),
    "house/teapot": (lambda: Repository.of(PLAIN, refuse=(418, {})), {}, "HubError", ["answered 418"]),
    "house/slow": (lambda: Repository.of(PLAIN, stall=25), {}, "HubError", ["could not be reached", "check the net"]),
    "house/cut": (lambda: Repository.of(PLAIN, choke=True), {}, "HubError", ["model.safetensors|broke off"]),
    "house/altered": (lambda: Repository.of(PLAIN, alter=True), {}, "HubError", ["SHA-256", "deleted"]),
    "house/spelt": (
        lambda: Repository.of(PLAIN, alter_small=True),
        {},
        "HubError",
        ["other bytes than git", "deleted"],
    ),
    "house/short": (lambda: Repository.of(PLAIN, shorten=True), {}, "HubError", ["size|bytes instead"]),
    "house/onnx": (
        lambda: Repository.of({"config.json": b"{}", "tokenizer.json": b"{}", "onnx/model.onnx": b"-"}),
        {},
        "HubError",
        ["holds no model", "lacks model.safetensors"],
    ),
    "house/keras": (
        lambda: Repository.of({n: d for n, d in PLAIN.items() if n != "model.safetensors"} | {"tf_model.h5": b"-"}),
        {},
        "HubError",
        ["lacks model.safetensors"],
    ),
    "house/shards": (
        lambda: Repository.of(
            {n: d for n, d in files_of(GOLDENS / "g_bert_sharded" / "checkpoint").items() if "00003" not in n}
        ),
        {},
        "HubError",
        ["lacks model-00003-of-00005.safetensors"],
    ),
    "house/empty": (lambda: Repository.of({"README.md": b"-"}), {}, "HubError", ["holds no model"]),
}


@pytest.fixture(scope="module")
def failures(module_hub: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every failure at once in one process, since the client takes its time with some."""
    world = World(module_hub, tmp_path_factory.mktemp("failures"))
    module_hub.repositories.clear()
    for name, (make, *_) in FAILURES.items():
        if (repository := make()) is not None:
            module_hub.repositories[name] = repository
    calls = [{"name": name, **arguments} for name, (_, arguments, *_) in FAILURES.items()]
    reports = world.run(*calls, threads=6, HF_HUB_ETAG_TIMEOUT="8", HF_HUB_DOWNLOAD_TIMEOUT="8")
    blobs = {name: world.home / "hub" / f"models--{name.replace('/', '--')}" / "blobs" for name in FAILURES}
    return {report["name"]: (report, blobs[report["name"]]) for report in reports} | {"": world.warnings}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_what_happened(failures: dict[str, Any], name: str) -> None:
    report, _ = failures[name]
    _, arguments, kind, parts = FAILURES[name]
    assert report.get("kinds", ["nothing"])[0] == kind, report
    assert ("FileNotFoundError" in report["kinds"]) is (kind == "HubMissingError")
    assert "ChandelierError" in report["kinds"]
    revision = arguments.get("revision", "main")
    assert (report["repository"], report["revision"]) == (name, revision)
    assert report["error"].startswith(f"{name!r} (revision {revision!r}): ")
    assert "\n" not in report["error"]
    assert "bad" not in report["error"], "the token is nobody's business"
    for part in parts:
        assert re.search(part, report["error"]), report["error"]
    assert failures[""] == []


@pytest.mark.parametrize("name", ["house/altered", "house/spelt", "house/short"])
def test_what_arrived_damaged_does_not_stay(failures: dict[str, Any], name: str) -> None:
    """Neither as a file of the snapshot nor as one that a later download would link."""
    _, blobs = failures[name]
    good = {hub_server._facts(file, data)["blobId"] for file, data in PLAIN.items()}
    good |= {hub_server._facts(file, data).get("lfs", {}).get("sha256") for file, data in PLAIN.items()}
    for blob in blobs.iterdir():
        if blob.name in good:
            assert blob.read_bytes() in PLAIN.values(), blob


def test_damage_heals(world: World, local: dict[str, Any]) -> None:
    repository = world.hub.repositories["house/plain"]
    repository.alter = True
    assert "SHA-256" in world.open("house/plain")["error"]
    repository.alter = False
    assert same(world.open("house/plain"), local)


def test_a_connection_that_is_cut_is_taken_up_again(world: World, local: dict[str, Any]) -> None:
    world.hub.repositories["house/plain"].cut = 1
    report = world.open("house/plain")
    if not NEWER and "error" in report:  # an older client gives up, and goes on when it is called again
        assert "broke off" in report["error"]
        fetched = world.hub.fetched()
        report = world.open("house/plain")
        world.hub.requests[:0] = [("GET", f"/x/at/0/{name}", "") for name in fetched]
    assert same(report, local), report
    large = [name for name in world.hub.fetched() if name.endswith(".safetensors")]
    assert len(large) == 3, "two files, one of them twice"


def test_a_hub_that_is_away_leaves_the_cache(world: World, local: dict[str, Any]) -> None:
    commit = world.open("house/plain")["revision"]
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody listens there
    report = world.open("house/plain", away)
    assert same(report, local), report
    assert report["revision"] == commit
    assert len(world.warnings) == 1, world.warnings
    for part in ("'house/plain'", "could not be reached", commit, "from the cache"):
        assert part in world.warnings[0]
    assert world.places == ["<string>"], "the warning points at the caller"
    # The same for a hub in disorder, but not for one that says no.
    world.hub.repositories["house/plain"].refuse = (503, {})
    assert same(world.open("house/plain"), local)
    assert "answered 503" in world.warnings[0]
    world.hub.repositories["house/plain"].refuse = (403, {})
    assert "HubError" in world.open("house/plain")["kinds"]
    # Nothing cached: the error is that of the connection.
    report = world.open("house/other", away)
    assert report["kinds"][0] == "HubError"
    assert "could not be reached" in report["error"]
    assert "127.0.0.1:9" in report["error"]


@pytest.mark.parametrize(
    ("switches", "arguments", "named"),
    [
        ({"HF_HUB_OFFLINE": "1"}, {}, "HF_HUB_OFFLINE is set"),
        ({"TRANSFORMERS_OFFLINE": "1"}, {}, "TRANSFORMERS_OFFLINE is set"),
        ({"HF_HUB_OFFLINE": "1"}, {"local_files_only": True}, "local_files_only is set"),
    ],
)
def test_offline_and_not_cached(world: World, switches: dict[str, str], arguments: dict[str, Any], named: str) -> None:
    report = world.open("house/plain", switches, **arguments)
    assert report["kinds"][0] == "HubMissingError", report
    assert named in report["error"]
    assert "the cache does not hold it" in report["error"]
    assert world.hub.asked() == []


HOLES = [
    *("config_sentence_transformers.json", "tokenizer.json", "config.json", "1_Dense/config.json"),
    *("1_Dense/model.safetensors", "model.safetensors"),
]


@pytest.mark.parametrize("listed", [True, False])
def test_a_snapshot_with_a_hole(world: World, listed: bool) -> None:
    """Whether the client knows the repository's files (it is newer) or not."""
    # Only a listing tells that there was a list of modules.
    lost = {f"house/hole{number}": name for number, name in enumerate([*HOLES, *["modules.json"] * listed])}
    world.hub.repositories.update({repository: Repository.of(PLAIN) for repository in lost})
    for report in world.run(*({"name": name, "snapshot": True} for name in lost), threads=4):
        assert "error" not in report, report
        folder = Path(report["folder"])
        (folder / lost[report["name"]]).unlink()
        if not listed:
            shutil.rmtree(folder.parents[1] / "trees", ignore_errors=True)
        elif not (folder.parents[1] / "trees").exists():
            pytest.skip("this client keeps no listing")
    for report in world.run(*({"name": name, "local_files_only": True} for name in lost)):
        assert report["kinds"][0] == "HubMissingError", report
        assert f"incomplete, it lacks {lost[report['name']]}" in report["error"]
    # Online the hole is closed, from what the cache still has of it.
    assert all("rows" in report for report in world.run(*({"name": name} for name in lost)))
    assert world.hub.fetched() == []


def test_a_killed_download_is_taken_up_again(world: World, local: dict[str, Any]) -> None:
    """Killed while the weights come: the settings stand, offline says what is lacking, online goes on."""
    world.hub.repositories["house/plain"].choke = True
    command = [sys.executable, "-c", "import chandelier; chandelier.ColBERT('house/plain')"]
    switches = environment(world.hub, world.home)
    with subprocess.Popen(command, cwd=world.home, env=switches, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 40
        while not any(path.startswith("/blobs/") for _, path, _ in world.hub.requests):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    report = world.open("house/plain", local_files_only=True)
    assert report["kinds"][0] == "HubMissingError", report
    world.hub.repositories["house/plain"].choke = False
    assert same(world.open("house/plain"), local)


def test_a_full_or_closed_cache_is_the_systems_error(world: World) -> None:
    (world.home / "closed").write_bytes(b"a file where a folder is wanted")
    report = world.open("house/plain", cache_dir="closed")
    assert report["kinds"][0] != "HubError"
    assert "OSError" in report["kinds"], report


def test_from_bert_takes_a_name(world: World) -> None:
    bare = {
        name: PLAIN[name] for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    world.hub.repositories["bare"] = Repository.of({**bare, **JUNK})
    report = world.open("bare", from_bert=True, pickle=True)
    assert len(report["rows"][0][0]) == 48, report
    assert report["revision"] == world.hub.repositories["bare"].branches["main"]
    assert sorted(world.hub.fetched()) == sorted(bare)


def command_line(world: World, *arguments: str, **switches: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chandelier", *arguments],
        input="the moon\n",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=world.home,
        env=environment(world.hub, world.home, **switches),
    )


def test_the_command_line(world: World) -> None:
    repository = world.hub.repositories["house/plain"]
    repository.branches["v1"] = commit = repository.branches["main"]
    repository.token = "good"
    done = command_line(world, "info", "house/plain", "--revision", "v1", "--json", HF_TOKEN="good")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["revision"] == commit
    done = command_line(world, "encode", "house/plain", "--revision", "v1", "--local-files-only", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert (world.home / "out").is_file()
    failed = [
        (("info", "house/plain"), "private"),
        (("rerank", "house/plain", "--query", "q", "--revision", "v9", "--local-files-only"), "local_files_only"),
        (("info", ".", "--revision", "v1"), "revision"),
        (("info", "./nowhere"), "nowhere"),
    ]
    for arguments, part in failed:
        done = command_line(world, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("chandelier: error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        assert part in done.stderr
