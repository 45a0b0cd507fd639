"""One model handle a process: whoever names the same checkpoint with the same settings shares it."""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Mapping
from typing import Any

from chandelier.exceptions import ArgumentError
from chandelier.models import ColBERT, from_bert
from chandelier.multivectors import checked_path

__all__ = ["ModelHandle", "release_models", "shared_model"]

KNOBS = frozenset(inspect.signature(ColBERT).parameters) - {"model_name_or_path", "token"} | {"from_bert"}


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
    name = checked_path("model_name_or_path", model_name_or_path)
    place = os.path.realpath(name) if os.path.isdir(name) else name
    key = json.dumps([place, settings], sort_keys=True)
    with SHARED.lock:
        if key in SHARED.models:
            return SHARED.models[key]
        opening = SHARED.opening.setdefault(key, threading.Lock())
    with opening:
        if key not in SHARED.models:
            arguments = dict(settings)
            is_bert = arguments.pop("from_bert", False)
            SHARED.models[key] = (from_bert if is_bert else ColBERT)(name, **arguments)
        return SHARED.models[key]


def release_models() -> None:
    """Forget the shared handles; each is freed when nobody holds it any more, and opened anew when asked for."""
    with SHARED.lock:
        SHARED.models.clear()


def checked_settings(settings: Mapping[str, Any] | None, argument: str = "") -> dict[str, Any]:
    """Settings as plain values, without those that say nothing; `argument` is where they were given."""
    if settings is not None and not isinstance(settings, Mapping):
        got = type(settings).__name__
        raise ArgumentError(f"{argument}: got {got}, wanted a mapping of arguments of ColBERT", argument=argument)
    place = f"{argument}." if argument else ""
    checked: dict[str, Any] = {}
    for name, value in (settings or {}).items():
        if name == "token":
            message = "a token would be written into traces and files; set HF_TOKEN, or log in with the hub's client"
            raise ArgumentError(f"{place}token: {message}", argument=argument or "token")
        if name not in KNOBS:
            message = f"{place}{name}: unknown, wanted one of {', '.join(sorted(KNOBS))}"
            raise ArgumentError(message, argument=argument or str(name))
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        elif not isinstance(value, (str, bool, int, type(None))):
            value = [str(word) for word in value]  # `skiplist_words`, of which a generator would be gone
        if value is not None:
            checked[name] = value
    return checked


class ModelHandle:
    """A model that is opened when it is first needed, or one that was given.

    It pickles without weights, and copies share the model.

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
            self.name = checked_path("model", model)
            if not self.name:
                raise ArgumentError("model: got an empty str, wanted a folder or a hub name", argument="model")
        else:
            got = type(model).__name__
            raise ArgumentError(f"model: got {got}, wanted a folder, a hub name or a ColBERT", argument="model")

    @property
    def arguments(self) -> dict[str, Any]:
        """What opens the model again, as plain JSON: `shared_model(**arguments)`."""
        return {"model_name_or_path": self.name, **self.settings} if self._given is None else self._given.arguments

    @property
    def is_given(self) -> bool:
        """Whether an open model was given."""
        return self._given is not None

    def open(self) -> ColBERT:
        """The model, opened now if it was not yet."""
        return shared_model(self.name, **self.settings) if self._given is None else self._given
