"""Questions and answers with natural labels, from Debian's own packages: who wrote an answer said what it answers.

Nothing of them is committed (their licences are the GPL's, Python's and others): apt fetches them when the benchmark
runs. A set's hash tells whether two runs saw the same; a point release of Debian may change it.
"""

import gzip
import hashlib
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Pair: TypeAlias = tuple[str, str]
"""A question and its answer, each in one line of plain text."""

PACKAGES = ("perl-doc", "python3.11-doc", "debian-faq")
DOCUMENTS, QUERIES = 3000, 1000
FEWEST_WORDS = 8
FAMILIES = re.compile(r"-(dev|doc|dbg|dbgsym|data|common|prof|l10n|locale)\b|-l10n-|^fonts-|^librust-")
"""Packages whose descriptions are those of another with a few words more."""


@dataclass(frozen=True)
class Set:
    """Queries, documents, and what belongs together: document `i` answers query `i`; further ones answer none."""

    name: str
    queries: list[str]
    documents: list[str]

    @property
    def digest(self) -> str:
        """A short hash of all texts."""
        texts = "\0".join([*self.queries, "", *self.documents])
        return hashlib.sha256(texts.encode()).hexdigest()[:12]


def fetch(folder: Path) -> list[Set]:
    """Downloads what is not there yet, and parses it.

    Raises:
        SystemExit: Where there is no apt, or it finds nothing.
    """
    folder = _prepared(folder)
    return [tech_faq(_packages(folder)), short_to_long(_translations(folder))]


def translations(folder: Path) -> str:
    """The English descriptions of all packages of the release, downloaded if they are not there yet.

    Raises:
        SystemExit: As `fetch`.
    """
    return _translations(_prepared(folder))


def packages(folder: Path) -> list[str]:
    """The packages that the FAQs are of, with their versions."""
    return [" ".join(file.stem.split("_")[:2]) for file in sorted((folder / "packages").glob("*.deb"))]


def tech_faq(root: Path) -> Set:
    """The FAQs of Perl, Python and Debian, in one collection, from the unpacked packages."""
    pairs: list[Pair] = []
    for file in sorted(root.glob("usr/share/perl/*/pod/perlfaq[1-9].pod")):
        pairs += perl_faq(file.read_text(encoding="utf-8"))
    for file in sorted(root.glob("usr/share/doc/python3.11/html/_sources/faq/*.rst.txt")):
        pairs += python_faq(file.read_text(encoding="utf-8"))
    text = gzip.decompress((root / "usr/share/doc/debian/FAQ/debian-faq.en.txt.gz").read_bytes())
    pairs += debian_faq(text.decode())
    kept = distinct(pairs)
    return Set("tech FAQ", [question for question, _ in kept], [answer for _, answer in kept])


def short_to_long(translations: str) -> Set:
    """Packages' short descriptions, and the long ones: those whose names' hashes are smallest."""
    pairs = unlike(descriptions(translations))[:DOCUMENTS]
    return Set("Debian descriptions", [short for short, _ in pairs[:QUERIES]], [long for _, long in pairs])


def perl_faq(pod: str) -> list[Pair]:
    """The questions of a perlfaq in POD: headings of the second order, without POD's marks."""
    sections = re.split(r"^=head([12])[ \t]+(.*)$", pod, flags=re.MULTILINE)[1:]
    parts = zip(sections[::3], sections[1::3], sections[2::3], strict=True)
    return [(_pod(heading), _pod(body)) for level, heading, body in parts if level == "2"]


def python_faq(rst: str) -> list[Pair]:
    """The questions of a file of Python's FAQ in reStructuredText: what is underlined by hyphens."""
    sections = re.split(r"^(\S.*)\n([-=])\2{3,}$", rst, flags=re.MULTILINE)[1:]
    parts = zip(sections[::3], sections[1::3], sections[2::3], strict=True)
    return [(_rst(heading), _rst(body)) for heading, line, body in parts if line == "-"]


def debian_faq(text: str) -> list[Pair]:
    """The numbered sections of Debian's FAQ that ask something, as plain text, behind its table of contents."""
    text = text.replace("\xa0", " ")
    body = re.split(r"^Chapter 1\. ", text, maxsplit=1, flags=re.MULTILINE)[-1]
    body = re.sub(r"^Chapter \d+\. .*(\n\S.*)*$", "", body, flags=re.MULTILINE)
    sections = re.split(r"^\d+(?:\.\d+)+\. (.*(?:\n\S.*)*)$", body, flags=re.MULTILINE)[1:]
    parts = zip(sections[::2], sections[1::2], strict=True)
    return [(_line(heading), _line(body)) for heading, body in parts if "?" in heading]


def descriptions(translations: str) -> list[tuple[str, Pair]]:
    """Packages with their short and long descriptions, from apt's translation index, without near copies."""
    found: dict[str, Pair] = {}
    for stanza in translations.split("\n\n"):
        entry = re.search(r"^Package: (\S+)$(?:.|\n)*^Description-en: (.+)\n((?: .*\n?)+)", stanza, re.MULTILINE)
        if entry and not FAMILIES.search(entry[1]):
            long = re.sub(r"^ \.$", "", entry[3], flags=re.MULTILINE)
            found.setdefault(entry[1], (_line(entry[2]), _line(long)))
    return list(found.items())


def unlike(found: list[tuple[str, Pair]]) -> list[Pair]:
    """The descriptions whose long one begins and reads as no other's, in the order of their names' hashes."""
    starts = Counter(_start(long) for _, (_, long) in found)
    alone = [(name, pair) for name, pair in found if starts[_start(pair[1])] == 1]
    alone.sort(key=lambda each: hashlib.sha256(each[0].encode()).digest())
    return distinct(pair for _, pair in alone)


def distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs whose question and answer no other has, and whose answer has some words."""
    listed = [pair for pair in pairs if len(pair[1].split()) >= FEWEST_WORDS]
    counts = [Counter(pair[side].lower() for pair in listed) for side in (0, 1)]
    return [pair for pair in listed if counts[0][pair[0].lower()] == counts[1][pair[1].lower()] == 1]


def _start(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split()[:12])


def _pod(text: str) -> str:
    text = re.sub(r"^=\w+.*$|X<[^<>]*>", "", text, flags=re.MULTILINE)
    marked = re.compile(r"[A-Z](?:<<+ (.*?) >>+|<([^<>]*)>)", re.DOTALL)
    while marked.search(text):
        text = marked.sub(lambda found: (found[1] or found[2] or "").split("|")[0], text)
    return _line(text)


def _rst(text: str) -> str:
    text = re.sub(r"^\.\. index::.*(\n[ \t]+\S.*)*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^[ \t]*\.\. .*(\n[ \t]+:.*)*$", "", text, flags=re.MULTILINE)
    text = re.sub(r":[\w:]+:`~?([^`<]*?)(?:\s*<[^`]*>)?`", r"\1", text)
    text = re.sub(r"`([^`<]*?)\s*<[^`]*>`_+", r"\1", text)
    return _line(re.sub(r"`+|\*\*|::$|^[=~^-]{4,}$", "", text, flags=re.MULTILINE))


def _line(text: str) -> str:
    return " ".join(text.split())


def _prepared(folder: Path) -> Path:
    """A folder to fetch to, by the programs that fetch."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SystemExit("bench: the texts are Debian's, and this machine has no apt-get and dpkg-deb to get them with")
    folder = folder.resolve()  # apt and dpkg run elsewhere
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _packages(folder: Path) -> Path:
    root, stamp = folder / "packages", folder / "packages" / "unpacked"
    if not stamp.exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        _run(["apt-get", "download", *PACKAGES], root)
        for package in sorted(root.glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(root)], root)
        stamp.touch()
    return root


def _translations(folder: Path) -> str:
    """The English descriptions of the release; a machine's own lists may lack them, so they get lists of their own."""
    lists, kept = folder / "lists", folder / "descriptions"
    if not kept.exists():
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        options = ["-o", f"Dir::State::lists={lists}", "-o", "Acquire::Languages=en"]
        _run(["apt-get", *options, "update"], folder)
        found = [
            file
            for file in lists.glob("*_main_i18n_Translation-en*")
            if not re.search(r"-updates|-security", file.name)
        ]
        if not found:
            raise SystemExit(f"bench: apt-get update left no Translation-en of the release in {lists}")
        kept.write_text(_run(["/usr/lib/apt/apt-helper", "cat-file", str(min(found))], folder), encoding="utf-8")
    return kept.read_text(encoding="utf-8")


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
