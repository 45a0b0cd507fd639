"""`MetadataFilters` of LlamaIndex in the filter dialect of the stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from chandelier.exceptions import ArgumentError
from chandelier.store.filters import DEEPEST, Filter, parse

__all__ = ["as_filter"]

OPERATORS = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
    FilterOperator.ANY: "$in",
    FilterOperator.CONTAINS: "$eq",
}
"""A field that holds a list passes if one of its elements does, which is what ANY and CONTAINS ask."""


def as_filter(filters: Any) -> Any:
    """What `Store.search` takes, checked; a filter of an engine's own stays as it is.

    Raises:
        ArgumentError: If an operator is none that all stores have, or a value does not fit; it names the place.

    Examples:
        >>> from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
        >>> recent = MetadataFilter(key="year", value=2020, operator=FilterOperator.GTE)
        >>> as_filter(MetadataFilters(filters=[MetadataFilter(key="lang", value="en"), recent]))
        {'$and': [{'"lang"': {'$eq': 'en'}}, {'"year"': {'$gte': 2020}}]}
    """
    if isinstance(filters, MetadataFilter):
        filters = MetadataFilters(filters=[filters])
    if isinstance(filters, MetadataFilters):
        filters = _group(filters, "filters", 0)
    if isinstance(filters, Mapping):
        parse(filters)
    return filters


def _group(group: MetadataFilters, place: str, depth: int) -> Filter:
    if depth == DEEPEST:
        raise _error(place[:80] + "...", f"nested deeper than {DEEPEST} levels")
    parts = [
        _group(part, f"{place}.filters[{index}]", depth + 1)
        if isinstance(part, MetadataFilters)
        else _condition(part, f"{place}.filters[{index}]")
        for index, part in enumerate(group.filters)
    ]
    if not parts:
        return {}
    if group.condition in (None, FilterCondition.AND):
        return {"$and": parts}
    if group.condition == FilterCondition.OR:
        return {"$or": parts}
    if group.condition == FilterCondition.NOT:  # none of them holds
        return {"$not": {"$or": parts}}
    raise _error(place, f"got the condition {group.condition!r}, wanted AND, OR or NOT")


def _condition(filter: MetadataFilter, place: str) -> Filter:
    field = f'"{filter.key}"'  # a name and not a path, as in LlamaIndex
    if filter.operator in OPERATORS:
        return _checked({field: {OPERATORS[filter.operator]: filter.value}}, filter, place)
    if filter.operator == FilterOperator.IS_EMPTY:
        return _checked({"$or": [{field: {"$exists": False}}, {field: {"$eq": ""}}]}, filter, place)
    if filter.operator == FilterOperator.ALL:
        if not isinstance(filter.value, list) or not filter.value:
            raise _error(place, f"got {filter.value!r} for {filter.key!r} ALL, wanted a list of values, at least one")
        return _checked({"$and": [{field: {"$eq": value}} for value in filter.value]}, filter, place)
    wanted = "wanted EQ, NE, GT, GTE, LT, LTE, IN, NIN, ANY, ALL, CONTAINS or IS_EMPTY"
    raise _error(place, f"got the operator {filter.operator.name} for {filter.key!r}, {wanted}")


def _checked(dialect: Filter, filter: MetadataFilter, place: str) -> Filter:
    try:
        parse(dialect)
    except ArgumentError as error:
        raise _error(place, f"{filter.key!r} {filter.operator.name}: {error}") from None
    return dialect


def _error(place: str, message: str) -> ArgumentError:
    return ArgumentError(f"{place}: {message}", argument="filters")
