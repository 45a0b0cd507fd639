"""A store in plain JSON, for files that say which store to use: `store.description`, and `open_store` back from it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from chandelier.exceptions import ArgumentError
from chandelier.models import ColBERT
from chandelier.multivectors import checked_path
from chandelier.shared import checked_settings, shared_model
from chandelier.store.protocol import Store

__all__ = ["checked_description", "description_of", "error_at", "key_of", "open_store"]

STORES = {
    "LocalStore": "chandelier.store.local",
    "PlaidStore": "chandelier.plaid",
    "QdrantEdgeStore": "chandelier.qdrant_edge",
    "QdrantStore": "chandelier.qdrant",
    "WeaviateStore": "chandelier.weaviate",
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
    that was made for a `QdrantStore` or a `WeaviateStore` is closed with it.

    Args:
        description: What `store.description` was, of a `LocalStore` with a path, a `PlaidStore`, a `QdrantEdgeStore`, a
            `QdrantStore` of a server or a folder, or a `WeaviateStore`. A server's key is never in it: it comes from
            `QDRANT_API_KEY` or `WEAVIATE_API_KEY`, and is sent where the description says, so open none that you do
            not trust.

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
    arguments.update(_encoders(arguments))
    opened: Store = getattr(made, "_from_description", made)(**arguments)
    return opened


def checked_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a description that `open_store` understands; nothing is opened for it."""
    if not isinstance(description, Mapping):
        raise error_at("store", f"got {type(description).__name__}, wanted a description: store.description")
    arguments: dict[str, Any] = _plain(description, "store")
    made = _class(arguments.get("type"), STORES, "store.type")
    parameters = inspect.signature(made).parameters
    _check_names(arguments, parameters, "store")
    name, settings = _model(arguments["model"])
    arguments["model"] = {"model_name_or_path": name, **settings}
    if "path" in parameters:
        if arguments.get("path") is None:
            raise error_at("store.path", f"missing in the description of a {arguments['type']}, wanted a path")
        checked_path("store.path", arguments["path"])
    _encoders(arguments)
    if hasattr(made, "_check_description"):
        made._check_description(**arguments)
    return arguments


def key_of(description: Mapping[str, Any]) -> str:
    """Equal for checked descriptions of the same store, however its folders are written, and with defaults or without.

    Examples:
        >>> description = {"type": "LocalStore", "path": "notes.db", "model": {"model_name_or_path": "your/colbert"}}
        >>> key_of(description) == key_of({**description, "path": "./notes.db", "pool_factor": 1})
        True
    """
    parameters = inspect.signature(_class(description["type"], STORES, "store.type")).parameters
    given = {**description, **{name: _plain(made, name) for name, made in _encoders(description).items()}}
    place = {name: value for name, value in given.items() if name == "type" or value != parameters[name].default}
    name, settings = _model(description["model"])
    place["model"] = [os.path.realpath(name) if os.path.isdir(name) else name, settings]
    client = description.get("client", {})
    if client.get("path") is not None:
        place["client"] = [client["type"], os.path.realpath(client["path"])]
    if "path" in place:
        place["path"] = os.path.realpath(place["path"])
    return json.dumps(place, sort_keys=True)


def description_of(made: type, model: ColBERT, **arguments: Any) -> dict[str, Any]:
    """The description of a store: its class, its model, and whatever is not at its default.

    Folders are written from the root on: who reads it may work elsewhere.

    Raises:
        ArgumentError: If an argument is nothing that JSON holds, or an encoder of the caller's own.
    """
    parameters = inspect.signature(made).parameters
    given = {name: value for name, value in arguments.items() if value != parameters[name].default}
    plain = {name: _plain(value, f"{made.__name__}: {name}") for name, value in given.items()}
    if "path" in plain:
        plain["path"] = os.path.abspath(plain["path"])
    return {"type": made.__name__, "model": model.arguments, **plain}


def _model(arguments: Any) -> tuple[str, dict[str, Any]]:
    """The name of a model that is described, and its settings."""
    if not isinstance(arguments, Mapping):
        got = type(arguments).__name__
        raise error_at("store.model", f"got {got}, wanted the arguments of a model: model.arguments")
    settings = dict(arguments)
    name = checked_path("store.model.model_name_or_path", settings.pop("model_name_or_path", None))
    return name, checked_settings(settings, "store.model")


def _encoders(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The encoders that a description names."""
    names = [name for name in ("prefetch", "sparse") if arguments.get(name) is not None]
    return {name: _encoder(arguments[name], f"store.{name}") for name in names}


def _plain(value: Any, place: str) -> Any:
    """A value as JSON holds it; an encoder by its name and its numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
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
    raise error_at(place, f"got {kind}, which a file cannot hold; make the store where it is used, and give it open")


def _encoder(description: Any, place: str) -> Any:
    """The encoder that a description names."""
    if not isinstance(description, Mapping):
        raise error_at(place, f"got {type(description).__name__}, wanted one of {', '.join(ENCODERS)} with its numbers")
    numbers = dict(description)
    made = _class(numbers.get("type"), ENCODERS, f"{place}.type")
    _check_names(numbers, inspect.signature(made).parameters, place)
    del numbers["type"]
    return made(**numbers)


def _check_names(arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], place: str) -> None:
    unknown = [name for name in arguments if name not in {"type", *parameters}]
    if unknown:
        raise error_at(f"{place}.{unknown[0]}", f"unknown, wanted one of {', '.join(parameters)}")
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    missing = [name for name in required if name not in arguments]
    if missing:
        raise error_at(f"{place}.{missing[0]}", f"missing in the description of a {arguments['type']}")


def _class(name: Any, modules: Mapping[str, str], place: str) -> Any:
    if not isinstance(name, str) or name not in modules:
        raise error_at(place, f"got {name!r}, wanted one of {', '.join(modules)}")
    return getattr(importlib.import_module(modules[name]), name)


def error_at(place: str, message: str) -> ArgumentError:
    """What is wrong at a place of a description."""
    return ArgumentError(f"{place}: {message}", argument=place.split(".")[0])
