"""`make bench-quality`: its formula, its parsers on excerpts of the real files, and its table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PERL = """\
=encoding utf8

=head1 DESCRIPTION

Numbers and dates.

=head2 Why am I getting long decimals (eg, 19.9499999999999) instead of the numbers I should be getting (eg, 19.95)?
X<decimal> X<round>

To limit the number of decimal places in your numbers, you can use the
C<printf> or C<sprintf> function. See
L<perlop/"Floating-point Arithmetic"> or L<archives|http://www.nntp.perl.org/> and C<< $a <=> $b >>.

    printf "%.2f", 10/3;

=head1 AUTHOR AND COPYRIGHT

Tom Christiansen.
"""
PYTHON = """\
:tocdepth: 2

===============
Programming FAQ
===============

General Questions
=================

Are there tools to help find bugs or perform static analysis?
-------------------------------------------------------------

Yes.

.. index::
   single: checkers
   :name: checkers

`Pylint <https://pylint.pycqa.org/en/latest/index.html>`_ and
:mod:`Pyflakes <flakes>` find bugs, and :func:`breakpoint` stops at ``one``::

   >>> breakpoint()

Core Language
=============

Why are colons required for the if/while/def/class statements?
--------------------------------------------------------------

The colon is required primarily to enhance readability.
"""
DEBIAN = """\
Table of Contents

1. Definitions and overview
    1.1. What is this FAQ?

Chapter 1. Definitions and overview

1.1. What is this FAQ?

    This document gives frequently asked questions (with their
    answers!) about the Debian distribution.

1.2. What is the difference between Debian GNU/Linux and other Linux
distributions? Why should I choose Debian over some other
distribution?

    These key features distinguish Debian.

Chapter 12. Getting support for Debian
GNU/Linux

12.2.1. Mailing lists

    There are many.
"""
TRANSLATIONS = """\
Package: 2048
Description-md5: 2d3a24661b5ec0391d6bd1aedf7c20b7
Description-en: Slide and add puzzle game for text mode
 A puzzle game in which you slide and add numbers
 .
 to reach 2048.

Package: 0ad-data
Description-md5: 26581e685027d5ae84824362a4ba59ee
Description-en: Real-time strategy game of ancient warfare (data files)
 The data.

Package: chrpath
Description-md5: 5c2a9c8a6d3b0d8b1f7c9d6b1e0f3a2c
Description-en: Tool to edit the rpath in ELF binaries
 chrpath allows you to change the rpath of binaries.
"""


@pytest.fixture(autouse=True)
def benchmarks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "tests" / "benchmarks"))


def test_ndcg_is_one_at_the_first_place_and_nothing_behind_the_tenth() -> None:
    from bench_quality import ndcg_at_10

    found = ndcg_at_10(np.array([1, 2, 3, 10, 11, 500]))
    assert found.tolist() == pytest.approx([1, 1 / math.log2(3), 0.5, 1 / math.log2(11), 0, 0])


def test_the_rank_is_behind_what_scores_the_same() -> None:
    from bench_quality import ranks

    scores = np.array([[0.9, 0.1, 0.2, 0.3], [0.5, 0.5, 0.4, 0.1], [np.inf, 0.5, -np.inf, -np.inf]])
    assert ranks(scores).tolist() == [1, 2, 4]


def test_differences_are_paired() -> None:
    from bench_quality import Option, figures

    # Queries differ far more than options do: only the pairs tell that the second is worse for sure.
    first = np.array([1.0, 0.1, 0.9, 0.2])
    found = figures([Option("float32", first, 8, 4), Option("other", first - [0.01, 0.02, 0.01, 0.02], 2, 4)])
    assert found[0]["difference"] == (0, 0)
    assert found[1]["difference"] == pytest.approx((-0.015, 0.01 / math.sqrt(12)))
    assert found[1]["ndcg"][1] > 0.2
    assert found[1]["rows"] == 0.25


def test_every_set_counts_the_same() -> None:
    from bench_quality import overall

    sets: list[dict[str, Any]] = [
        {"rows": [{"option": "int8", "difference": difference}]} for difference in [(-0.01, 0.003), (0.0, 0.004)]
    ]
    assert overall(sets)["int8"] == pytest.approx((-0.005, 0.0025))


def test_perl() -> None:
    from quality_sets import perl_faq

    ((question, answer),) = perl_faq(PERL)
    assert question.startswith("Why am I getting long decimals (eg, 19.9499999999999)")
    assert answer == (
        "To limit the number of decimal places in your numbers, you can use the printf or sprintf function. See "
        'perlop/"Floating-point Arithmetic" or archives and $a <=> $b. printf "%.2f", 10/3;'
    )


def test_python() -> None:
    from quality_sets import python_faq

    (tools, yes), (colons, because) = python_faq(PYTHON)
    assert tools == "Are there tools to help find bugs or perform static analysis?"
    assert yes == "Yes. Pylint and Pyflakes find bugs, and breakpoint stops at one >>> breakpoint()"
    assert colons == "Why are colons required for the if/while/def/class statements?"
    assert because == "The colon is required primarily to enhance readability."


def test_debian() -> None:
    from quality_sets import debian_faq

    (_, first), (question, answer) = debian_faq(DEBIAN.replace("1. ", "1.\xa0"))
    assert first.startswith("This document gives")
    assert first.endswith("about the Debian distribution.")
    assert question.endswith("other Linux distributions? Why should I choose Debian over some other distribution?")
    assert answer == "These key features distinguish Debian."


def test_descriptions() -> None:
    from quality_sets import descriptions

    assert descriptions(TRANSLATIONS) == [
        (
            "2048",
            (
                "Slide and add puzzle game for text mode",
                "A puzzle game in which you slide and add numbers to reach 2048.",
            ),
        ),
        ("chrpath", ("Tool to edit the rpath in ELF binaries", "chrpath allows you to change the rpath of binaries.")),
    ]


def test_what_several_ask_or_answer_is_left_out() -> None:
    from quality_sets import distinct

    long = "an answer of words enough to be {} of the set"
    pairs = [("a", long.format("one")), ("A", long.format("two")), ("b", "too short"), ("c", long.format("three"))]
    assert distinct(pairs) == [("c", long.format("three"))]


def test_the_table_says_what_auto_may_take(minilm_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bench_quality
    from quality_sets import Set

    from chandelier import ColBERT

    subjects = ["the moon and its tides", "bread from flour", "a ship in the fog", "the king of France", "rain in May"]
    answers = [f"Whoever asks about {subject} will find it here." for subject in subjects]
    texts = Set("tech FAQ", subjects[:4], answers)
    monkeypatch.setitem(bench_quality.PINNED, texts.name, texts.digest)
    models = {dtype: ColBERT(minilm_checkpoint, dtype=dtype) for dtype in bench_quality.DTYPES}
    found = bench_quality.measure(texts, models)
    assert [row["option"] for row in found["rows"][:4]] == ["float32", "bfloat16", "int8", "pooled by 2"]
    assert found["rows"][0]["ndcg"] == (1, 0)
    assert 0.5 < found["rows"][3]["rows"] < 0.7
    whole = {"machine": {"cpu": "a processor"}, "kernels": "some", "versions": ["1"], "dim": 128, "sets": [found]}
    report = bench_quality.report(whole)
    assert "| int8 | 1.0000 ± 0.0000 | +0.0000 ± 0.0000 | 100% | 5 |" in report
    assert report.endswith("Within 0.005 of float32: float32, bfloat16, int8.")


@pytest.mark.parametrize(
    ("cost", "within"), [(-0.02, "float32, int8"), (-0.006, "float32, int8"), (-0.004, "float32, bfloat16, int8")]
)
def test_what_costs_more_is_not_for_auto(cost: float, within: str) -> None:
    from bench_quality import Option, figures, report

    ndcg = np.array([1.0, 0.6, 0.9, 0.7])
    options = [("float32", 0.0), ("bfloat16", cost), ("int8", 0.01)]
    found: dict[str, Any] = {"rows": figures([Option(name, ndcg + by, 8, 4) for name, by in options])}
    found |= {"name": "a set", "digest": "0", "queries": 4, "documents": 4, "cut": 0.0}
    whole = {"machine": {"cpu": "a processor"}, "kernels": "some", "versions": ["1"], "dim": 128, "sets": [found]}
    assert report(whole).endswith(f"Within 0.005 of float32: {within}.")


def test_a_machine_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from quality_sets import fetch

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="no apt-get"):
        fetch(tmp_path / "quality")
    assert not (tmp_path / "quality").exists()


def test_what_apt_refuses_is_told_and_leaves_nothing_that_looks_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quality_sets import fetch

    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"apt-get download .* failed: E: Unable to locate package"):
            fetch(tmp_path / "quality")
