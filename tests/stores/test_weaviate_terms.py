"""The filter dialect as words of Weaviate's inverted index, against a reading of its rules in plain Python."""

from __future__ import annotations

import struct
import sys
from itertools import pairwise
from math import inf, nextafter
from typing import Any

import pytest
from dialect import FILTERS, METADATA
from hypothesis import example, given
from hypothesis import strategies as st
from reference import passes

from chandelier.store.filters import parse
from chandelier.weaviate.terms import FILTER_TERMS, _ordered, _prefixes, _range, compiled, terms

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(FLOATS, st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 0.0, -0.0, 5e-324, -5e-324]))
WHOLE = 2**53 - 1
BOUNDS = st.one_of(st.floats(-float(WHOLE), float(WHOLE)), st.integers(-WHOLE, WHOLE))
LARGEST = sys.float_info.max
BITS = st.integers(0, 2**64 - 1)


def holds(words: set[str], filter: Any) -> bool:
    """What Weaviate says of a document that has these words, by what it documents of its operators."""
    match filter.operator.value:
        case "And":
            return all(holds(words, part) for part in filter.filters)
        case "Or":
            return any(holds(words, part) for part in filter.filters)
        case "Not":
            return not holds(words, filter.filters[0])
        case "Equal":
            assert filter.target == FILTER_TERMS
            return filter.value in words
        case "ContainsAny":
            assert filter.target == FILTER_TERMS
            assert filter.value, "what it means without values is not documented"
            return not words.isdisjoint(filter.value)
    raise AssertionError(filter.operator)


@given(many=st.lists(METADATA, min_size=1, max_size=8), filters=st.lists(FILTERS, min_size=1, max_size=8))
def test_words_say_what_the_rules_say(many: list[dict[str, Any]], filters: list[Any]) -> None:
    words = [set(terms(metadata)) for metadata in many]
    for filter in filters:
        expected = [passes(metadata, filter) for metadata in many]
        asked = compiled(parse(filter))
        assert [holds(each, asked) for each in words] == expected


@given(numbers=st.lists(NUMBERS, min_size=1, max_size=20), bound=BOUNDS)
@example(numbers=[0, -0.0, 5e-324, -5e-324], bound=-0.0)
@example(numbers=[LARGEST, -LARGEST, 2**63 - 1, -(2**63)], bound=WHOLE)
def test_numbers_are_compared_exactly(numbers: list[float], bound: float) -> None:
    around = [*numbers, bound, nextafter(bound, inf), nextafter(bound, -inf)]
    for operator in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"):
        filter = {"x": {operator: bound}}
        asked = compiled(parse(filter))
        for number in around:
            assert holds(set(terms({"x": number})), asked) == passes({"x": number}, filter)


@given(st.lists(FLOATS, min_size=2, max_size=20))
def test_the_order_of_numbers_is_that_of_their_words(numbers: list[float]) -> None:
    edges = [-LARGEST, -5e-324, -0.0, 0.0, 5e-324, LARGEST]
    for less, more in pairwise(sorted([*numbers, *edges])):
        assert (less < more) == (_ordered(less) < _ordered(more))


@given(first=BITS, last=BITS, others=st.lists(BITS, max_size=20))
@example(first=0, last=2**64 - 1, others=[])
@example(first=1, last=2**64 - 2, others=[0, 2**64 - 1])
@example(first=5, last=5, others=[4, 6])
@example(first=6, last=5, others=[5, 6])
@example(first=0, last=15, others=[16, 2**60])
def test_prefixes_cover_a_range_and_nothing_else(first: int, last: int, others: list[int]) -> None:
    prefixes = list(_prefixes(first, last))
    assert len(prefixes) <= 2 * 15 * 16
    assert len(set(prefixes)) == len(prefixes)
    covered = sum(16 ** (16 - len(prefix)) for prefix in prefixes)
    assert covered == max(0, last - first + 1), "none twice"
    for number in (*others, first, last, max(0, first - 1), min(2**64 - 1, last + 1)):
        written = f"{number:016x}"
        assert any(map(written.startswith, prefixes)) == (first <= number <= last)


@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
@pytest.mark.parametrize("bound", [0, -0.0, 1, -1, 2020, 1.5, 5e-324, -5e-324, 2.0**53, LARGEST, -LARGEST])
def test_a_side_of_a_bound_is_a_few_words(operator: str, bound: float) -> None:
    assert len(list(_prefixes(*_range(operator, bound)))) <= 15 * 16 + 3 * 15


@pytest.mark.parametrize("number", [0.0, 1.5, -2.25, 5e-324, -5e-324, LARGEST, -LARGEST])
def test_words_hold_all_bits(number: float) -> None:
    bits = _ordered(number)
    bits = bits ^ (1 << 63) if bits >> 63 else bits ^ ((1 << 64) - 1)
    assert struct.unpack(">d", struct.pack(">Q", bits)) == (number,)


@given(name=st.text(max_size=500), value=st.text(max_size=500), other=st.text(max_size=500))
@example(name="x" * 100_000, value="y" * 100_000, other="")
@example(name=' "]="a"', value='a"]', other="*")
def test_words_are_short_and_mean_one_thing(name: str, value: str, other: str) -> None:
    words = terms({name: value})
    assert max(map(len, words)) <= 200
    assert (set(words) == set(terms({name: other}))) == (value == other)
    assert (set(words) == set(terms({other: value}))) == (name == other)
