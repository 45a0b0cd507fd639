"""The README's lines for a page, as a page's module."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from site_server import Site
from visitor import Visitor

from chandelier import ColBERT


def test_the_readmes_lines_give_pythons_scores(
    visit: Callable[..., Visitor], site: Site, root: Path, minilm: ColBERT, minilm_checkpoint: Path, tmp_path: Path
) -> None:
    found = re.search(r"^```js\n(.*?)^```", (root / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    (tmp_path / "lines.js").write_text(f"{found[1]}\nexport {{ scores }};\n", encoding="utf-8")
    package = site.mounts["chandelier/"]
    site.mounts |= {"readme/": tmp_path, "readme/chandelier/": package, "model/": minilm_checkpoint}
    page = visit().page
    scores = page.evaluate("async () => Array.from((await import('/readme/lines.js')).scores)")
    texts = re.search(r"encodeDocuments\(\[(.*?)\]\)", found[1])
    query = re.search(r"encodeQueries\(\[\"(.*?)\"\]\)", found[1])
    assert texts is not None
    assert query is not None
    documents = minilm.encode_documents(re.findall(r"\"(.*?)\"", texts[1]))
    wanted = minilm.similarity(minilm.encode_queries([query[1]]), documents)[0]
    assert scores == pytest.approx(wanted.tolist(), abs=1e-3)
    assert scores[0] > scores[1]
