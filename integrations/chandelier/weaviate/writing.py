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
from chandelier.store.points.steps import Steps, pause, unbroken
from chandelier.weaviate.collection import Collection, these
from chandelier.weaviate.failures import AllRefused, Late, Lost, Undeleted, is_passing, wait_before
from chandelier.weaviate.objects import Object
from chandelier.weaviate.turns import Turns

__all__ = ["Writer"]

REPLACED_AT_ONCE = 16
"""Documents that are gone for the moment between their deletion and their return."""

GONE = "; the document that was stored before is deleted"
LEFT = "; it is stored nevertheless, and may not be found: store it again"


class Writer:
    """Writes objects into a collection, one writer at a time.

    Weaviate takes an object that is as it was for stored, also if a crash has kept it out of the index; so what is
    there, or may be, is deleted first.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._turns = Turns(collection.called)

    def upsert(self, objects: Sequence[Object]) -> Steps[dict[str, str]]:
        """Store objects, in place of those that are there; why the server refuses some, by their uuids."""
        return (yield from self._turns.one(self._upsert(objects)))

    def rewrite(self, uuids: Sequence[str]) -> Steps[dict[str, str]]:
        """Delete objects, and when all are gone store them as they were; why some could not be, by their uuids."""
        return (yield from self._turns.one(self._rewrite(uuids)))

    def delete(self, uuids: Sequence[str] | None, filter: Any) -> Steps[None]:
        """Delete points by id, or those that pass."""
        yield from self._turns.one(self._delete(uuids, filter))

    def _upsert(self, objects: Sequence[Object]) -> Steps[dict[str, str]]:
        there = set((yield from self._collection.there([str(each.uuid) for each in objects])))
        fresh = [each for each in objects if str(each.uuid) not in there]
        replaced = [each for each in objects if str(each.uuid) in there]
        refused = (yield from self._write(fresh)) if fresh else {}
        for start in range(0, len(replaced), REPLACED_AT_ONCE):
            group = replaced[start : start + REPLACED_AT_ONCE]
            reasons = yield from self._replace(group)
            refused |= reasons
            if len(reasons) == len(group):  # delete nothing that will not come back
                said = next(iter(reasons.values())).removesuffix(GONE).removesuffix(LEFT)
                why = f"not tried, as the server refused others: {said}"
                return refused | {str(each.uuid): why for each in replaced[start + REPLACED_AT_ONCE :]}
        return refused

    def _rewrite(self, uuids: Sequence[str]) -> Steps[dict[str, str]]:
        refused: dict[str, str] = {}
        objects = []
        for uuid in uuids:
            stored = yield from self._collection.stored(uuid)
            if stored is None:
                refused[uuid] = "it is gone"
                continue
            rows = stored.vector.get(ROWS)
            kept = {name: value for name, value in stored.properties.items() if value is not None}
            if kept.get("row_count") and not rows:
                refused[uuid] = "its rows are not stored; store it again"
                continue
            objects.append(DataObject(properties=kept, uuid=UUID(uuid), vector={ROWS: rows} if rows else None))
        return refused | (yield from unbroken(self._write_anew(objects)))

    def _write_anew(self, objects: Sequence[Object]) -> Steps[dict[str, str]]:
        """One by one, since together they may be more than a request holds."""
        if len(objects) > 1:
            yield from self._delete([str(each.uuid) for each in objects], None)
        refused: dict[str, str] = {}
        for each in objects:
            refused |= yield from self._write([each], are_there=True)
        return refused

    def _replace(self, objects: Sequence[Object]) -> Steps[dict[str, str]]:
        """Store objects in place of those that are there: all of it, once those are deleted."""
        return (yield from unbroken(self._write(objects, are_there=True)))

    def _write(self, objects: Sequence[Object], *, are_there: bool = False) -> Steps[dict[str, str]]:
        """Insert objects; those whose fate is not known, or that are there, are deleted before.

        An object that the server refuses may be stored nevertheless, without being indexed: it is tried once more, and
        deleted if it is refused again. A server that deletes nothing, since it is read-only, has stored nothing either.
        """
        until = time.monotonic() + self._collection.timeout
        kept: dict[str, str] = {}
        try:
            refused = yield from self._insert(objects, deletes=are_there, until=until)
        except Undeleted as error:
            there = yield from self._collection.there([str(each.uuid) for each in objects])
            kept = dict.fromkeys(there, str(error))
            objects = [each for each in objects if str(each.uuid) not in kept]
            refused = (yield from self._insert(objects, deletes=False, until=until)) if objects else {}
        again = [each for each in objects if str(each.uuid) in refused]
        if again:
            with suppress(Undeleted):
                refused = yield from self._insert(again, deletes=True, until=until)
                if refused:
                    yield from self._delete(list(refused), None)
        left = (yield from self._collection.there(list(refused))) if refused else []
        for uuid, reason in refused.items():
            if uuid in left:
                refused[uuid] = reason + LEFT
            elif are_there:
                refused[uuid] = reason + GONE
        return kept | refused

    def _insert(self, objects: Sequence[Object], *, deletes: bool, until: float) -> Steps[dict[str, str]]:
        uuids = [str(each.uuid) for each in objects]
        for tried in count():
            try:
                if deletes:
                    yield from self._delete(uuids, None)
                answer = yield self._collection.insert(objects)
                flushed = yield self._collection.flush(objects)
                errors = {uuids[index]: error.message for index, error in answer.errors.items()}
                if any(map(is_passing, errors.values())):
                    raise self._collection.failure(next(iter(errors.values())), Lost)
                if errors:
                    return (yield from self._refused(uuids, errors))
                if flushed.matches == len(objects):
                    return {}
                yield from self._delete_hidden(uuids)
                raise self._collection.failure("a crash has hidden some documents", Lost)
            except AllRefused as error:
                return dict.fromkeys(uuids, str(error))
            except Late as error:  # fewer may be stored in time
                raise TimedOut(str(error), store=error.store) from error
            except Lost:
                if time.monotonic() > until:
                    raise
                deletes = True
                yield from pause(wait_before(tried))
        raise AssertionError("unreachable: `count` does not end")

    def _refused(self, uuids: Sequence[str], errors: Mapping[str, str]) -> Steps[dict[str, str]]:
        """Why objects are not stored: a shard that refuses all of a batch gives one error, at the first of them."""
        there = set((yield from self._collection.there([uuid for uuid in uuids if uuid not in errors])))
        said = next(iter(errors.values()))
        return {uuid: errors.get(uuid, said) for uuid in uuids if uuid not in there}

    def _delete(self, uuids: Sequence[str] | None, filter: Any) -> Steps[None]:
        """Delete by id, or those that pass; the server deletes some thousands in one request."""
        where = filter if uuids is None else these(uuids)
        while True:
            answer = yield self._collection.write(lambda: self._collection.here.data.delete_many(where=where))
            if answer.failed:
                is_done = not (yield from self._delete_some(where))
            else:
                is_done = uuids is not None or not answer.matches
            if is_done:
                return

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
                raise Undeleted(str(error), store=error.store) from error
        return len(some.objects)

    def _delete_hidden(self, uuids: Sequence[str]) -> Steps[None]:
        """Delete those of what is stored that pass no filter, not even one for their ids: a crash can leave such.

        Nothing that goes by filters sees them, and the server leaves an equal object as it is.
        """
        there = set((yield from self._collection.there(uuids)))
        for uuid in uuids:
            if uuid not in there:
                yield self._collection.write(partial(self._delete_one, UUID(uuid)))

    def _delete_one(self, uuid: UUID) -> Any:
        return self._collection.here.data.delete_by_id(uuid)
