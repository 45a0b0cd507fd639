"""A store in plain JSON, for files that say which store to use: `store.description`, and `open_store` back from it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from chandelier.exceptions import ArgumentError
from chandelier.models import ColBERT
from chandelier.shared import checked_settings, shared_model
from chandelier.store.protocol import Store

__all__ = ["checked_description", "description_of", "open_store"]

STORES = {
    "LocalStore": "chandelier.store.local",
    "QdrantEdgeStore": "chandelier.qdrant_edge",
    "QdrantStore": "chandelier.qdrant",
}
ENCODERS = {
    "Bm25": "chandelier.store.points.sparse",
    "MeanVector": "chandelier.prefetch",
    "Muvera": "chandelier.prefetch",
}
"""What a description may name, and where it is: nothing else is ever imported for one."""


def open_store(description: Mapping[str, Any]) -> Store:
    """Open the store that a description names, with the model and the encoders in it.

    The model is the one of `chandelier.shared.shared_model`. Close the store when it is no longer needed; the client
    that was made for a `QdrantStore` is closed with it.

    Args:
        description: What `store.description` was, of a `LocalStore` with a path, a `QdrantEdgeStore` or a
            `QdrantStore` of a server or a folder. A server's key is never in it: it comes from `QDRANT_API_KEY`, and
            is sent where the description says, so open none that you do not trust.

    Raises:
        ArgumentError: If it is not such a description; it names the place.
        ModuleNotFoundError: If the store needs an extra that is not installed; the message is the command for it.
        StoreError: As the store does when it is opened, and so are the errors of `ColBERT`.

    Examples:
        >>> import tempfile
        >>> from chandelier import ColBERT, LocalStore
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint", query_length=24)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with LocalStore(model, f"{folder}/notes.db", pool_factor=2) as store:
        ...         description = store.description
        ...     with open_store(description) as store:
        ...         print(store.model.query_length, description["type"], description["pool_factor"])
        24 LocalStore 2
    """
    arguments = dict(checked_description(description))
    made = _class(arguments.pop("type"), STORES, "store.type")
    arguments["model"] = shared_model(**arguments["model"])
    for name in ("prefetch", "sparse"):
        if name in arguments:
            arguments[name] = _encoder(arguments[name], f"store.{name}")
    opened: Store = getattr(made, "_from_description", made)(**arguments)
    return opened


def checked_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a description that `open_store` understands; nothing is opened for it."""
    if not isinstance(description, Mapping):
        raise _error("store", f"got {type(description).__name__}, wanted a description: store.description")
    arguments = dict(description)
    parameters = inspect.signature(_class(arguments.get("type"), STORES, "store.type")).parameters
    _check_names(arguments, parameters, "store")
    model = arguments["model"]
    if not isinstance(model, Mapping) or not isinstance(model.get("model_name_or_path"), str):
        raise _error("store.model", f"got {model!r}, wanted the arguments of a model: model.arguments")
    name = model["model_name_or_path"]
    settings = {key: value for key, value in model.items() if key != "model_name_or_path"}
    arguments["model"] = {"model_name_or_path": name, **checked_settings(settings, "store.model")}
    for name in ("prefetch", "sparse"):
        if name in arguments:
            _encoder(arguments[name], f"store.{name}")
    return arguments


def description_of(made: type, model: ColBERT, **arguments: Any) -> dict[str, Any]:
    """The description of a store: its class, its model, and whatever is not at its default.

    Raises:
        ArgumentError: If an argument is nothing that JSON holds, or an encoder of the caller's own.
    """
    parameters = inspect.signature(made).parameters
    given = {name: value for name, value in arguments.items() if value != parameters[name].default}
    plain = {name: _plain(value, f"{made.__name__}: {name}") for name, value in given.items()}
    return {"type": made.__name__, "model": model.arguments, **plain}


def _plain(value: Any, place: str) -> Any:
    """A value as JSON holds it; an encoder by its name and its numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(part, f"{place}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, place) for part in value]
    kind = type(value).__name__
    if kind in ENCODERS and type(value) is _class(kind, ENCODERS, place):
        numbers = {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.init}
        return {"type": kind, **numbers}
    raise _error(place, f"got {kind}, which a file cannot hold; make the store where it is used, and give it open")


def _encoder(description: Any, place: str) -> Any:
    """The encoder that a description names."""
    if not isinstance(description, Mapping):
        raise _error(place, f"got {type(description).__name__}, wanted one of {', '.join(ENCODERS)} with its numbers")
    numbers = dict(description)
    made = _class(numbers.get("type"), ENCODERS, f"{place}.type")
    _check_names(numbers, inspect.signature(made).parameters, place)
    del numbers["type"]
    return made(**numbers)


def _check_names(arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], place: str) -> None:
    unknown = [name for name in arguments if name not in {"type", *parameters}]
    if unknown:
        raise _error(f"{place}.{unknown[0]}", f"unknown, wanted one of {', '.join(parameters)}")
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    missing = [name for name in required if name not in arguments]
    if missing:
        raise _error(f"{place}.{missing[0]}", f"missing in the description of a {arguments['type']}")


def _class(name: Any, modules: Mapping[str, str], place: str) -> Any:
    if not isinstance(name, str) or name not in modules:
        raise _error(place, f"got {name!r}, wanted one of {', '.join(modules)}")
    return getattr(importlib.import_module(modules[name]), name)


def _error(place: str, message: str) -> ArgumentError:
    return ArgumentError(f"{place}: {message}", argument=place.split(".")[0])
