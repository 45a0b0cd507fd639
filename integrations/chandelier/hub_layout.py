"""Which of a repository's files a model consists of, by what its own files say."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["MODULES", "PICKLED", "WEIGHTS", "Layout"]

SETTINGS = (
    "config.json",
    "config_sentence_transformers.json",
    "artifact.metadata",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
TRANSFORMER_SETTINGS = re.compile(r"sentence_[\w-]+_config\.json")
MODULES, WEIGHTS, INDEX, PICKLED = (
    "modules.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)

# Modules that would do something else without their own configuration.
CONFIGURED = ("Dense", "MultiVectorMask", "HierarchicalTokenPooling")


class Layout:
    """Which of a repository's files a model consists of.

    Args:
        files: The names of the repository's files.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self.files = set(files)
        self.folders = [""]
        self.dense: list[str] = []
        self.configured: list[str] = []
        self.shards: dict[str, list[str]] = {}

    def read_modules(self, folder: str) -> None:
        """Takes the folders from the list of modules; what is wrong with one is for the core to say."""
        modules = _read_json(os.path.join(folder, MODULES))
        entries = [module for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []
        named = [(_inside(module.get("path")), str(module.get("type")).rpartition(".")[2]) for module in entries]
        folders = [path for path, _ in named if path is not None]
        if folders:
            self.folders = list(dict.fromkeys(folders))
            self.dense = [path for path, kind in named if path is not None and kind == "Dense"]
            self.configured = [path for path, kind in named if path is not None and kind in CONFIGURED]

    def read_shards(self, folder: str) -> None:
        """Takes the names of the shards from their indices."""
        for place in self.folders:
            if _join(place, WEIGHTS) not in self.files and _join(place, INDEX) in self.files:
                index = _read_json(os.path.join(folder, *_join(place, INDEX).split("/")))
                shards = index.get("weight_map") if isinstance(index, dict) else None
                names = {_inside(name) for name in shards.values()} if isinstance(shards, dict) else set()
                self.shards[place] = sorted(_join(place, name) for name in names if name)

    def settings(self) -> list[str]:
        """Everything that is no weight, the most telling first."""
        names = [_join(place, name) for place in ["", *self.folders] for name in (MODULES, *SETTINGS, INDEX)]
        places = {"", *self.folders}
        for file in sorted(self.files):
            place, _, name = file.rpartition("/")
            if place in places and TRANSFORMER_SETTINGS.fullmatch(name):
                names.append(file)
        unused = {_join(place, INDEX) for place in places if place not in self.folders or self._is_whole(place)}
        return [name for name in dict.fromkeys(names) if name in self.files and name not in unused]

    def _is_whole(self, place: str) -> bool:
        return _join(place, WEIGHTS) in self.files

    def weights(self) -> list[str]:
        """The weights of every module: one file, else its shards, else what torch pickled."""
        names: list[str] = []
        for place in self.folders:
            if self._is_whole(place):
                names.append(_join(place, WEIGHTS))
            elif _join(place, INDEX) in self.files:
                names += self.shards.get(place, [])
            elif _join(place, PICKLED) in self.files:
                names.append(_join(place, PICKLED))
        return names

    def lacking(self) -> list[str]:
        """What no checkpoint can do without and this one has not."""
        wanted = [_join(self.folders[0], "config.json"), _join(self.folders[0], "tokenizer.json")]
        wanted += [_join(place, "config.json") for place in self.configured]
        for place in dict.fromkeys([self.folders[0], *self.dense]):
            if not any(_join(place, name) in self.files for name in (WEIGHTS, INDEX, PICKLED)):
                wanted.append(_join(place, WEIGHTS))
        wanted += [shard for shards in self.shards.values() for shard in shards]
        return [name for name in wanted if name not in self.files]

    def unlikely_to_lack(self, folder: str) -> list[str]:
        """Settings that every ColBERT is saved with; without them the core would take defaults for this model's own."""
        wanted = ["config_sentence_transformers.json"] if self.dense else []
        if MODULES not in self.files:
            config = _read_json(os.path.join(folder, "config.json"))
            if isinstance(config, dict) and config.get("architectures") == ["HF_ColBERT"]:
                wanted.append("artifact.metadata")
        return [name for name in wanted if name not in self.files]


def _read_json(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError):
        return None  # not there, or damaged: the core says it better


def _inside(path: object) -> str | None:
    """A path inside the repository in its plain spelling, `""` for its root; None for any other."""
    if not isinstance(path, str) or "\\" in path or posixpath.isabs(path) or ".." in path.split("/"):
        return None
    plain = posixpath.normpath(path)
    return "" if plain == "." else plain


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
