"""One model handle a process: whoever names the same checkpoint with the same settings shares it."""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from chandelier.exceptions import ArgumentError
from chandelier.models import ColBERT, from_bert
from chandelier.multivectors import checked_path

__all__ = ["ModelHandle", "release_models", "shared_model"]

KNOBS = {
    name: (parameter.annotation.removesuffix(" | None"), parameter.default)
    for name, parameter in inspect.signature(from_bert).parameters.items()
    if name not in ("path", "token")
} | {"from_bert": ("bool", False)}
"""Of each setting the type and what it is if it is not given."""


class _Shared:
    """The handles of this process, and a lock for each, so that two threads never open one model twice."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.models: dict[str, ColBERT] = {}
        self.opening: dict[str, threading.Lock] = {}


SHARED = _Shared()


def _after_fork() -> None:
    """A child takes the models along, and no lock that a thread of its parent held."""
    SHARED.lock = threading.Lock()
    SHARED.opening = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def shared_model(model_name_or_path: str | os.PathLike[str], **settings: Any) -> ColBERT:
    """The one handle of this process for a checkpoint and its settings; the first call opens it.

    What a framework makes anew for every request then costs nothing. A handle is kept until `release_models`.

    Args:
        model_name_or_path: The checkpoint's folder, or its hub name.
        **settings: Arguments of `ColBERT`, but for `token`: the adapters of frameworks write their settings into
            traces and files, so a token comes from `HF_TOKEN` or the hub's own login. `from_bert=True` opens as
            `chandelier.from_bert` does.

    Raises:
        ArgumentError: If a setting is none of these; else as `ColBERT`.

    Examples:
        >>> one = shared_model("tests/goldens/a_bert_pylate/checkpoint", query_length=24)
        >>> one is shared_model("tests/goldens/a_bert_pylate/checkpoint", query_length=24)
        True
    """
    settings = checked_settings(settings)
    place = checked_place("model_name_or_path", model_name_or_path)
    key = json.dumps([os.path.realpath(place) if os.path.isdir(place) else place, settings], sort_keys=True)
    with SHARED.lock:
        model = SHARED.models.get(key)
        opening = SHARED.opening.setdefault(key, threading.Lock())
    if model is not None:
        return model
    with opening:
        model = SHARED.models.get(key)
        if model is None:
            is_bert = settings.pop("from_bert", False)
            model = SHARED.models[key] = (from_bert if is_bert else ColBERT)(place, **settings)
        return model


def release_models() -> None:
    """Forget the shared handles; each is freed when nobody holds it any more, and opened anew when asked for."""
    with SHARED.lock:
        SHARED.models.clear()


def checked_place(argument: str, model: str | os.PathLike[str]) -> str:
    """A folder by its absolute path, which stays the same one wherever the process goes; a hub name as it is."""
    path = checked_path(argument, model)
    return os.path.abspath(path) if isinstance(model, os.PathLike) or os.path.isdir(path) else path


def checked_settings(settings: Mapping[str, Any] | None, argument: str = "") -> dict[str, Any]:
    """Settings as plain values, without those that say nothing; `argument` is where they were given."""
    if settings is not None and not isinstance(settings, Mapping):
        got = type(settings).__name__
        raise ArgumentError(f"{argument}: got {got}, wanted a mapping of arguments of ColBERT", argument=argument)
    checked: dict[str, Any] = {}
    for name, value in (settings or {}).items():
        try:
            value = _checked_setting(name, value)
        except ArgumentError as error:
            place = f"{argument}." if argument else ""
            raise ArgumentError(f"{place}{error}", argument=argument or str(name)) from None
        if value != KNOBS[name][1]:
            checked[name] = value
    return checked


def _checked_setting(name: str, value: Any) -> Any:
    """A setting as JSON takes it."""
    if name == "token":
        message = "a token would be written into traces and files; set HF_TOKEN, or log in with the hub's client"
        raise ArgumentError(f"token: {message}")
    if name not in KNOBS:
        raise ArgumentError(f"{name}: unknown, wanted one of {', '.join(sorted(KNOBS))}")
    if value is None:
        return KNOBS[name][1]
    if name == "cache_dir":
        return os.path.abspath(checked_path(name, value))
    if name == "skiplist_words":
        return _checked_words(name, value)
    value = value.item() if isinstance(value, np.generic) else value
    wanted = KNOBS[name][0]
    kind = {"bool": bool, "int": int, "str": str}[wanted]
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise ArgumentError(f"{name}: got {type(value).__name__}, wanted {wanted}")
    return value


def _checked_words(name: str, words: Any) -> list[str]:
    """A list, since a generator would be gone after its first use."""
    if isinstance(words, (str, bytes, Mapping)) or not isinstance(words, Iterable):
        raise ArgumentError(f"{name}: got {type(words).__name__}, wanted a list of str")
    words = list(words)
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise ArgumentError(f"{name}[{index}]: got {type(word).__name__}, wanted a str")
    return [str(word) for word in words]


class ModelHandle:
    """A model that is opened when it is first needed, or one that was given.

    It pickles as what opens the model again, a hub model at its commit, so that nothing is opened by unpickling, and
    what is opened later is shared. Copies share the model.

    Args:
        model: The checkpoint's folder or hub name, or an open `ColBERT`.
        settings: As for `shared_model`; only beside a name.

    Raises:
        ArgumentError: If `model` is neither, or a setting is unknown.
    """

    def __init__(self, model: str | os.PathLike[str] | ColBERT, settings: Mapping[str, Any] | None = None) -> None:
        self.settings = checked_settings(settings, "model_kwargs")
        self._given = model if isinstance(model, ColBERT) else None
        if self._given is not None:
            if self.settings:
                message = "model_kwargs: got settings and an open model, wanted a path or a hub name beside them"
                raise ArgumentError(message, argument="model_kwargs")
            self.name = self._given.name
        elif isinstance(model, (str, os.PathLike)):
            self.name = checked_place("model", model)
        else:
            got = type(model).__name__
            raise ArgumentError(f"model: got {got}, wanted a folder, a hub name or a ColBERT", argument="model")

    @property
    def arguments(self) -> dict[str, Any]:
        """What opens the model again, as plain JSON: `shared_model(**arguments)`."""
        return {"model_name_or_path": self.name, **self.settings} if self._given is None else self._given.arguments

    @property
    def pinned_arguments(self) -> dict[str, Any]:
        """The same; a hub model that is open is held to its commit."""
        if self._given is None or self._given.revision is None:
            return self.arguments
        return {**self._given.arguments, "revision": self._given.revision}

    def __copy__(self) -> ModelHandle:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelHandle:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        settings = self.pinned_arguments
        return ModelHandle, (settings.pop("model_name_or_path"), settings)

    def open(self) -> ColBERT:
        """The model, opened now if it was not yet."""
        return shared_model(self.name, **self.settings) if self._given is None else self._given
