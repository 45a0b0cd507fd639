"""Metadata and filters at random, for tests of what a store makes of the dialect."""

from __future__ import annotations

from hypothesis import strategies as st

# Few names and values, so that filters hit; among them what SQL, JSON and Python disagree about.
NAMES = st.sampled_from(["a", "b", "c.d", "$e", "ü", "0", ""])
TEXTS = st.sampled_from(["", "a", "1", "null", "[]", "a\0", "a\x1a0", "\x1a", "\\u0000", "'", '"', "é", "e\u0301"])
NUMBERS = st.sampled_from([0, 1, -1, 2, 0.5, 1.0, 0.1, 1e-7, 1e15, 2**53 - 1])
LARGE = st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
SURROGATES = st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, LARGE, TEXTS, st.text(max_size=3), st.floats(-1e6, 1e6))
VALUES = st.recursive(
    SCALARS, lambda parts: st.one_of(st.lists(parts, max_size=3), st.dictionaries(NAMES, parts, max_size=3))
)
METADATA = st.dictionaries(NAMES, VALUES, max_size=4)

FIELDS = st.sampled_from(["a", "b", "a.b", "b.a.b", '"c.d"', '"$e"', "ü", "0", 'a."0"', "c.d"])
ORDERS = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
OPERATORS = st.one_of(
    st.dictionaries(st.sampled_from(["$eq", "$ne"]), SCALARS, min_size=1),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=4), min_size=1),
    st.dictionaries(ORDERS, st.one_of(NUMBERS, st.floats(-1e6, 1e6)), min_size=1),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
CONDITIONS = st.one_of(SCALARS, OPERATORS, st.fixed_dictionaries({"$not": OPERATORS}))
FILTERS = st.recursive(
    st.dictionaries(FIELDS, CONDITIONS, max_size=2),
    lambda parts: st.one_of(
        st.fixed_dictionaries({"$not": parts}),
        st.dictionaries(st.sampled_from(["$and", "$or"]), st.lists(parts, min_size=1, max_size=3), min_size=1),
    ),
    max_leaves=6,
)
