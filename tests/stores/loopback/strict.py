"""Strict mode: what a collection refuses because its owner said so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qdrant_client import models

from .faults import Refusal

PLAYED = {
    "enabled",
    "max_query_limit",
    "multivector_config",
    "unindexed_filtering_retrieve",
    "unindexed_filtering_update",
    "upsert_max_batchsize",
}
ALL_TYPES = [kind.value for kind in models.PayloadSchemaType]


class StrictMode:
    """The checks of one collection; an instance without settings refuses nothing."""

    def __init__(self) -> None:
        self.config: models.StrictModeConfig | None = None

    def update(self, config: models.StrictModeConfig | None) -> None:
        """Takes over what the new settings say."""
        if config is None:
            return
        said = config.model_dump(exclude_none=True)
        if unplayed := said.keys() - PLAYED:
            raise NotImplementedError(f"strict mode's {sorted(unplayed)} is not played")
        before = {} if self.config is None else self.config.model_dump(exclude_none=True)
        self.config = models.StrictModeConfig(**{**before, **said})

    @property
    def on(self) -> models.StrictModeConfig:
        """The settings that hold now."""
        return self.config if self.config is not None and self.config.enabled else models.StrictModeConfig()

    def output(self) -> models.StrictModeConfigOutput | None:
        """The settings as the collection's information shows them."""
        if self.config is None:
            return None
        return models.StrictModeConfigOutput(**self.config.model_dump(exclude_none=True))

    def check_limit(self, value: int, limit: int | None, name: str) -> None:
        """Refuses more than was allowed."""
        if limit is not None and value > limit:
            help_ = f'Reduce the "{name}" parameter to or below {limit}.'
            raise Refusal(400, f'Bad request: Limit exceeded {value} > {limit} for "{name}". Help: {help_}')

    def check_rows(self, name: str, rows: int) -> None:
        """Refuses a multivector of too many rows."""
        limits = self.on.multivector_config or {}
        limit = limits[name].max_vectors if name in limits else None
        if limit is not None and rows > limit:
            message = f"Multivector '{name}' has a limit of {limit} vectors, but {rows} were provided!"
            raise Refusal(400, f"Bad request: {message}")

    def check_filter(self, condition: models.Filter | None, indexes: Mapping[str, str], *, update: bool) -> None:
        """Refuses a filter on a field without a fitting index; `indexes` has the type of each."""
        allowed = self.on.unindexed_filtering_update if update else self.on.unindexed_filtering_retrieve
        if allowed is not False or condition is None:
            return
        for key, types in wanted_indexes(condition):
            fitting = {*types, "uuid"} if "keyword" in types else set(types)
            if indexes.get(key) not in fitting:
                missing = (
                    f'Index required but not found for "{key}" of one of the following types: [{", ".join(types)}]'
                )
                help_ = "Create an index for this key or use a different filter."
                raise Refusal(400, f"Bad request: {missing}. Help: {help_}")


def wanted_indexes(condition: Any, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """The fields of a filter and, for each, the types of index of which one would do."""
    if isinstance(condition, models.Filter):
        clauses = [condition.must, condition.should, condition.must_not]
        clauses.append(None if condition.min_should is None else condition.min_should.conditions)
        for clause in clauses:
            for inner in clause if isinstance(clause, list) else [clause]:
                yield from wanted_indexes(inner, prefix)
    elif isinstance(condition, models.NestedCondition):
        yield from wanted_indexes(condition.nested.filter, f"{prefix}{condition.nested.key.removesuffix('[]')}[].")
    elif isinstance(condition, models.IsEmptyCondition):
        yield prefix + condition.is_empty.key, ALL_TYPES
    elif isinstance(condition, models.IsNullCondition):
        yield prefix + condition.is_null.key, ALL_TYPES
    elif isinstance(condition, models.FieldCondition):
        yield prefix + condition.key, _types_of(condition)


def _types_of(condition: models.FieldCondition) -> list[str]:
    match = condition.match
    if isinstance(match, models.MatchText):
        return ["text"]
    if match is not None:
        (values,) = match.model_dump(exclude_none=True).values()
        value = values[0] if isinstance(values, list) and values else values
        return ["bool" if isinstance(value, bool) else "integer" if isinstance(value, int) else "keyword"]
    if isinstance(condition.range, models.DatetimeRange):
        return ["datetime"]
    if condition.range is not None:
        return ["float", "integer"]
    if condition.geo_bounding_box or condition.geo_radius or condition.geo_polygon:
        return ["geo"]
    return ALL_TYPES
