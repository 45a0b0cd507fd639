"""Writing objects: nothing lost, nothing half-stored, also if the server dies in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

from weaviate.classes.data import DataObject

from chandelier.exceptions import StoreError
from chandelier.store.points.engine import ROWS, TimedOut
from chandelier.store.points.steps import Steps, pause
from chandelier.weaviate.collection import Collection, these
from chandelier.weaviate.failures import AllRefused, Late, Lost, Undeleted, is_passing, wait_before
from chandelier.weaviate.objects import Object

__all__ = ["Writer"]

REPLACED_AT_ONCE = 16
"""Documents that are gone for the moment between their deletion and their return."""


class Writer:
    """Writes objects into a collection.

    Weaviate takes an object that is as it was for stored, also if a crash has kept it out of the index; so what is
    there, or may be, is deleted first.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def upsert(self, objects: Sequence[Object]) -> Steps[dict[str, str]]:
        """Store objects, in place of those that are there; why the server refuses some, by their uuids."""
        there = set((yield from self._collection.there([str(each.uuid) for each in objects])))
        fresh = [each for each in objects if str(each.uuid) not in there]
        replaced = [each for each in objects if str(each.uuid) in there]
        refused = (yield from self.write(fresh, is_new=True)) if fresh else {}
        for start in range(0, len(replaced), REPLACED_AT_ONCE):
            refused |= yield from self.write(replaced[start : start + REPLACED_AT_ONCE], is_new=False)
        return refused

    def write(self, objects: Sequence[Object], *, is_new: bool) -> Steps[dict[str, str]]:
        """Insert objects; those whose fate is not known, or that are there, are deleted before.

        An object that the server refuses may be stored nevertheless, without being indexed: it is tried once more, and
        deleted if it is refused again. A server that deletes nothing, since it is read-only, has stored nothing either.
        """
        until = time.monotonic() + self._collection.timeout
        try:
            refused = yield from self._insert(objects, is_new=is_new, until=until)
        except Undeleted as error:
            return {str(each.uuid): str(error) for each in objects}
        again = [each for each in objects if str(each.uuid) in refused]
        if again:
            with suppress(Undeleted):
                refused = yield from self._insert(again, is_new=False, until=until)
                if refused:
                    yield from self.delete(list(refused), None)
        return refused

    def rewrite(self, uuid: str) -> Steps[str | None]:
        """Delete an object and store it again as it was; why that could not be done."""
        answer = yield self._collection.query(lambda query: query.fetch_object_by_id(uuid, include_vector=True))
        if answer is None:
            return "it is gone"
        rows = answer.vector.get(ROWS)
        if not rows:
            return "its rows are not stored; store it again"
        kept = {name: value for name, value in answer.properties.items() if value is not None}
        made = DataObject(properties=kept, uuid=UUID(uuid), vector={ROWS: rows})
        refused = yield from self.write([made], is_new=False)
        return refused.get(uuid)

    def delete(self, uuids: Sequence[str] | None, filter: Any) -> Steps[None]:
        """Delete points by id, or those that pass; the server deletes some thousands in one request."""
        where = filter if uuids is None else these(uuids)
        while True:
            answer = yield self._collection.write(lambda: self._collection.here.data.delete_many(where=where))
            if answer.failed:
                is_done = not (yield from self._delete_some(where))
            else:
                is_done = uuids is not None or not answer.matches
            if is_done:
                return

    def _insert(self, objects: Sequence[Object], *, is_new: bool, until: float) -> Steps[dict[str, str]]:
        for tried in count():
            try:
                if not is_new:
                    yield from self.delete([str(each.uuid) for each in objects], None)
                answer = yield self._collection.insert(objects)
                yield self._collection.flush(objects)
                errors = {str(objects[index].uuid): error.message for index, error in answer.errors.items()}
                if not any(map(is_passing, errors.values())):
                    return (yield from self._refused(objects, errors))
                raise Lost(f"{self._collection.called}: {next(iter(errors.values()))}", store=self._collection.name)
            except AllRefused as error:
                return {str(each.uuid): str(error) for each in objects}
            except Late as error:  # fewer may be stored in time
                raise TimedOut(str(error), store=self._collection.name) from error
            except Lost:
                if time.monotonic() > until:
                    raise
                is_new = False
                yield from pause(wait_before(tried))
        raise AssertionError("unreachable: `count` does not end")

    def _refused(self, objects: Sequence[Object], errors: Mapping[str, str]) -> Steps[dict[str, str]]:
        """Why objects are not stored: a shard that refuses all of a batch gives one error, at the first of them."""
        if not errors:
            return {}
        uuids = [str(each.uuid) for each in objects]
        there = set((yield from self._collection.there([uuid for uuid in uuids if uuid not in errors])))
        said = next(iter(errors.values()))
        return {uuid: errors.get(uuid, said) for uuid in uuids if uuid not in there}

    def _delete_some(self, where: Any) -> Steps[int]:
        """Delete some of those that pass one by one, where all at once stay and do not say why; how many."""
        some = yield self._collection.query(
            lambda query: query.fetch_objects(filters=where, limit=REPLACED_AT_ONCE, return_properties=[])
        )
        for each in some.objects:
            try:
                yield self._collection.write(partial(self._delete_one, each.uuid))
            except (Late, Lost):
                raise
            except StoreError as error:
                raise Undeleted(str(error), store=self._collection.name) from error
        return len(some.objects)

    def _delete_one(self, uuid: UUID) -> Any:
        return self._collection.here.data.delete_by_id(uuid)
