"""What the package shows: every name listed, documented and where it says it is; nothing compiled left unused."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import chandelier
from chandelier import _core, exceptions

MODULES = sorted(module.name for module in pkgutil.walk_packages(chandelier.__path__, "chandelier."))
PYTHON = [name for name in MODULES if name not in ("chandelier._core", "chandelier.__main__")]
PARTS = [name.rpartition(".")[2] for name in PYTHON]
ERRORS = sorted(
    name for name, value in vars(exceptions).items() if inspect.isclass(value) and issubclass(value, Exception)
)


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """What a module defines itself and does not hide."""
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            yield name, value


def test_there_is_something_to_look_at() -> None:
    assert {"chandelier.models", "chandelier.maths", "chandelier.multivectors", "chandelier._core"} <= set(MODULES)
    assert len(ERRORS) >= 5


def test_all_is_sorted_and_true() -> None:
    names = chandelier.__all__
    assert len(names) == len(set(names))
    for name in names:
        assert hasattr(chandelier, name), name
    # Submodules become attributes by being imported; they need no listing.
    submodules = {name.rpartition(".")[2] for name in MODULES}
    shown = {name for name in vars(chandelier) if not name.startswith("_")} - submodules
    assert shown <= set(names), f"shown and not listed: {sorted(shown - set(names))}"


@pytest.mark.parametrize("name", PYTHON)
def test_a_module_lists_what_it_defines(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    if not hasattr(module, "__all__"):
        assert name.startswith("chandelier.cli") or not list(public(module)), f"{name} has no __all__"
        return
    for listed in module.__all__:
        assert hasattr(module, listed), listed


@pytest.mark.parametrize("name", sorted(set(chandelier.__all__) - {"__version__"}))
def test_every_public_name_is_documented_and_says_where_it_is(name: str) -> None:
    value = getattr(chandelier, name)
    doc = inspect.getdoc(value)
    assert doc, name
    if inspect.ismodule(value):
        return
    home = importlib.import_module(value.__module__)
    assert getattr(home, value.__qualname__) is value, f"{name} says {value.__module__}"
    if name != "build_info":  # the one that is the core's own
        assert value.__module__.removeprefix("chandelier.").partition(".")[0] in PARTS
    if inspect.isclass(value):
        for member, method in vars(value).items():
            if not member.startswith("_") and (callable(method) or isinstance(method, (property, classmethod))):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member} has no docstring"


def test_the_way_errors_descend() -> None:
    assert set(ERRORS) == set(exceptions.__all__)
    for name in ERRORS:
        error = getattr(exceptions, name)
        assert getattr(chandelier, name) is error, f"{name} is not exported"
        assert name in chandelier.__all__
        assert error.__module__ == "chandelier.exceptions"
        assert issubclass(error, chandelier.ChandelierError)
    assert issubclass(chandelier.ArgumentError, ValueError)
    assert issubclass(chandelier.ShapeError, ValueError)
    assert not issubclass(chandelier.ModelError, ValueError)
    assert not issubclass(chandelier.HubError, OSError)
    assert issubclass(chandelier.HubMissingError, chandelier.HubError)
    assert issubclass(chandelier.HubMissingError, FileNotFoundError)


FIELDS = {
    "ModelError": {"file": "config.json", "key": "hidden_size"},
    "ArgumentError": {"argument": "texts"},
    "HubError": {"repository": "house/plain", "revision": "main"},
    "HubMissingError": {"repository": "house/plain", "revision": "main"},
    "StoreError": {"store": "notes.db", "report": None},
    "PartialUpsertError": {"store": "notes.db", "report": chandelier.UpsertReport(failed={"a": "too long"})},
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_pickle_with_their_fields(name: str) -> None:
    fields = FIELDS.get(name, {})
    error = getattr(exceptions, name)("what came, what was wanted", **fields)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert str(again) == "what came, what was wanted"
        assert {field: getattr(again, field) for field in fields} == fields


def test_a_raised_error_pickles(tiny: chandelier.ColBERT) -> None:
    """As a process pool would send it back."""
    with pytest.raises(chandelier.ArgumentError) as caught:
        tiny.encode_documents(["text", 3])  # type: ignore[list-item]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.argument) == (str(caught.value), "texts")


def core_names_used() -> set[str]:
    """Every attribute of `_core` that the Python side names."""
    names = set()
    for name in [*PYTHON, "chandelier"]:
        for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(name)))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_core":
                names.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and node.module == "chandelier._core":
                names.update(alias.name for alias in node.names)
    return names


def test_everything_compiled_is_used_and_hidden() -> None:
    compiled = {name for name in vars(_core) if not name.startswith("__")} | {"__version__"}
    assert compiled, "nothing compiled"
    assert core_names_used() == compiled


@pytest.mark.parametrize(("name", "user"), [("Model", "models"), ("Muvera", "prefetch"), ("Candidates", "recall")])
def test_every_compiled_method_is_used(name: str, user: str) -> None:
    compiled = getattr(_core, name)
    assert compiled.__module__ == "chandelier._core"
    members = {member for member in vars(compiled) if not member.startswith("_")}
    source = inspect.getsource(importlib.import_module(f"chandelier.{user}"))
    used = {n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)}
    assert members <= used, f"compiled and not used: {sorted(members - used)}"


def test_version_and_build() -> None:
    info = chandelier.build_info()
    assert info["version"] == chandelier.__version__
    assert chandelier.__version__.count(".") >= 2
    assert {"profile", "kernels"} <= info.keys()
