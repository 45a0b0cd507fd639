"""The filter dialect as conditions of SQLite on the JSON of the metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chandelier.store.filters import And, Compare, Equals, Exists, Node, Not, OneOf, Or, Path, Scalar
from chandelier.store.local.metadata import to_json

__all__ = ["Condition", "compiled"]

Test = Callable[[str, str], str]
"""A condition on a value, from the SQL of its JSON type and that of the value."""

SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
WORDS = {True: "'true'", False: "'false'", None: "'null'"}


@dataclass(frozen=True, slots=True)
class Condition:
    """What stands behind `WHERE`, on the column `metadata`, and the parameters that it names."""

    sql: str
    parameters: dict[str, str]


@dataclass(slots=True)
class _Parameters:
    """All that a caller gave: nothing of it is ever part of the SQL."""

    names: dict[str, str] = field(default_factory=dict)

    def __call__(self, value: str) -> str:
        return f":{self.names.setdefault(value, f'p{len(self.names)}')}"

    def path(self, path: Path) -> str:
        return self("$" + "".join(f'."{name}"' for name in path))

    def values(self, values: Sequence[Scalar]) -> str:
        # SQLite reads these numbers from JSON as it does those of the metadata: rounding, if any, is the same.
        return f"(SELECT value FROM json_each({self(to_json(values))}))"


def compiled(node: Node) -> Condition:
    """The condition that the metadata of a document passes.

    Examples:
        >>> from chandelier.store.filters import parse
        >>> condition = compiled(parse({"lang": {"$exists": True}}))
        >>> condition.parameters
        {'p0': '$."lang"'}
    """
    parameters = _Parameters()
    sql = _condition(node, False, parameters)
    return Condition(sql, {name: value for value, name in parameters.names.items()})


def _condition(node: Node, negated: bool, bind: _Parameters) -> str:
    """Negation is pushed down to the fields: SQLite's parser does not get far into nested ones."""
    if isinstance(node, Not):
        return _condition(node.part, not negated, bind)
    if isinstance(node, (And, Or)):
        parts = [_condition(part, negated, bind) for part in node.parts]
        every = isinstance(node, And) is not negated
        return _joined("AND" if every else "OR", parts) if parts else str(int(every))
    return f"NOT {_field(node, bind)}" if negated else _field(node, bind)


def _joined(word: str, parts: list[str]) -> str:
    """Halved, and the longer half first: both keep the expression shallow."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    halves = sorted((_joined(word, parts[:middle]), _joined(word, parts[middle:])), key=len, reverse=True)
    return f"({halves[0]} {word} {halves[1]})"


def _field(node: Equals | OneOf | Compare | Exists, bind: _Parameters) -> str:
    """0 or 1, never NULL, so that its negation is the rest."""
    path = bind.path(node.path)
    if isinstance(node, Exists):
        elements = f"json_array_length(metadata, {path}) > 0"
        there = f"coalesce(json_type(metadata, {path}), 'null')"
        return f"CASE {there} WHEN 'null' THEN 0 WHEN 'array' THEN {elements} ELSE 1 END"
    test = _within(node, bind) if isinstance(node, Compare) else _one_of(node, bind)
    elements = (
        f"EXISTS (SELECT 1 FROM json_each(metadata, {path}) AS element WHERE {test('element.type', 'element.value')})"
    )
    scalar = f"coalesce({test(f'json_type(metadata, {path})', f'json_extract(metadata, {path})')}, 0)"
    return f"CASE json_type(metadata, {path}) WHEN 'array' THEN {elements} ELSE {scalar} END"


def _within(node: Compare, bind: _Parameters) -> Test:
    bound = bind.values([node.bound])
    return lambda type, value: f"({type} IN ('integer', 'real') AND {value} {SIGNS[node.operator]} {bound})"


def _one_of(node: Equals | OneOf, bind: _Parameters) -> Test:
    values = node.values if isinstance(node, OneOf) else (node.value,)
    texts = [value for value in values if isinstance(value, str)]
    words = [value for value in values if value is None or isinstance(value, bool)]
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]

    def test(type: str, value: str) -> str:
        ways = [f"{type} = 'text' AND {value} IN {bind.values(texts)}"] if texts else []
        ways += [f"{type} IN ('integer', 'real') AND {value} IN {bind.values(numbers)}"] if numbers else []
        ways += [f"{type} IN ({', '.join(sorted({WORDS[word] for word in words}))})"] if words else []
        return f"({' OR '.join(ways)})" if ways else "0"

    return test
