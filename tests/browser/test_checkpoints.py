"""A checkpoint behind an address is the one that Python opens from its folder, whatever files it consists of."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import npm_package
import pytest
from site_server import Site
from visitor import Visitor

from chandelier import ColBERT

OPEN = """async folders => {
    const { default: init, ColBERT } = await import("/chandelier/chandelier.js");
    const { RemoteFolder } = await import("/src/checkpoint/remote.js");
    const { Pieces } = await import("/src/checkpoint/pieces.js");
    await init();
    const pieces = await Pieces.open();
    const open = async folder => {
        const remote = new RemoteFolder(`/models/${folder}/`, pieces);
        const files = await remote.read({ onProgress: () => {}, signal: new AbortController().signal });
        const paths = Object.keys(files);
        const model = new ColBERT(files);
        const { fingerprint, dim, queryLength, documentLength } = model;
        model.free();
        return { paths, fingerprint, dim, queryLength, documentLength };
    };
    const found = {};
    for (const folder of folders) {
        found[folder] = await open(folder).catch(error => ({ error: `${error.name}: ${error.message}` }));
    }
    return found;
}"""
UNREAD = {"vocab.txt"}  # tokenizer.json holds the words


@pytest.fixture
def opened(visit: Callable[..., Visitor], site: Site) -> Callable[[dict[str, Path]], dict[str, Any]]:
    """What the page finds in folders, by their names, each behind an address."""

    def open_all(folders: dict[str, Path]) -> dict[str, Any]:
        site.mounts |= {f"models/{name}/": folder for name, folder in folders.items()}
        found: dict[str, Any] = visit().page.evaluate(OPEN, list(folders))
        return found

    return open_all


def wanted(folder: Path, model: ColBERT) -> dict[str, Any]:
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {
        "paths": sorted(paths - UNREAD),
        "fingerprint": model.fingerprint,
        "dim": model.dim,
        "queryLength": model.query_length,
        "documentLength": model.document_length,
    }


def check(found: dict[str, Any], folders: dict[str, Path], open_folder: Callable[[str], ColBERT]) -> None:
    assert list(found) == list(folders)
    for name, folder in folders.items():
        assert "error" not in found[name], f"{name}: {found[name]['error']}"
        assert found[name] | {"paths": sorted(found[name]["paths"])} == wanted(folder, open_folder(name)), name


def test_every_golden(
    opened: Callable[[dict[str, Path]], dict[str, Any]],
    minilm_checkpoint: Path,
    open_model: Callable[[str], ColBERT],
) -> None:
    folders = {case: npm_package.GOLDENS / case / "checkpoint" for case in npm_package.CASES}
    folders[npm_package.REAL] = minilm_checkpoint
    check(opened(folders), folders, open_model)


def test_every_name_of_the_transformers_settings(
    opened: Callable[[dict[str, Path]], dict[str, Any]], goldens: Path, tmp_path: Path
) -> None:
    """sentence-transformers has called the file by seven names; the core knows them, and so must what fetches it."""
    source = (npm_package.ROOT / "rust" / "core" / "src" / "checkpoint" / "mod.rs").read_text(encoding="utf-8")
    listed = re.search(r"TRANSFORMER_CONFIGS: \[&str; \d+\] = \[(.*?)\]", source, re.DOTALL)
    assert listed is not None
    names = re.findall(r"\"(.*?)\"", listed[1])
    assert "sentence_roberta_config.json" in names
    folders = {}
    for place, name in enumerate(names):
        folder = folders[name] = tmp_path / f"{place}"
        shutil.copytree(goldens / "n_st6_mve" / "checkpoint", folder)
        settings = folder / "sentence_bert_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        settings.unlink()
        del content["document_length"]
        (folder / name).write_text(json.dumps(content | {"max_seq_length": 41 + place}), encoding="utf-8")
    found = opened(folders)
    check(found, folders, lambda name: ColBERT(folders[name]))
    assert [each["documentLength"] for each in found.values()] == list(range(41, 41 + len(names)))
