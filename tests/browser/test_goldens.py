"""The package in a real Chromium gives the reference's tokens, rows and scores, within the golden files' tolerance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import npm_package
import pytest
from site_server import Site
from visitor import Visitor

ENCODE = f"""async ({{ folder, paths, inputs }}) => {{
    const {{ default: init, ...chandelier }} = await import("/chandelier/chandelier.js");
    await init();
    const read = async path => new Uint8Array(await (await fetch(`/models/${{folder}}/${{path}}`)).arrayBuffer());
    const files = Object.fromEntries(await Promise.all(paths.map(async path => [path, await read(path)])));
    return ({npm_package.ENCODE})(chandelier, files, inputs);
}}"""


@pytest.mark.parametrize("case", npm_package.CASES)
def test_the_rows_are_the_references(
    visit: Callable[..., Visitor], site: Site, case: str, minilm_checkpoint: Path, report: Callable[[str], None]
) -> None:
    folder = minilm_checkpoint if case == npm_package.REAL else npm_package.GOLDENS / case / "checkpoint"
    site.mounts[f"models/{case}/"] = folder
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    argument = {"folder": case, "paths": paths, "inputs": npm_package.inputs(case)}
    npm_package.check(case, visit().page.evaluate(ENCODE, argument), "Chromium", report)
