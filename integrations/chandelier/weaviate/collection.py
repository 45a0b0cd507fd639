"""A collection of Weaviate, or one tenant of it: whom to ask, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from weaviate.classes.query import Filter

from chandelier.exceptions import StoreError
from chandelier.store.points.steps import Call, Steps
from chandelier.weaviate.calls import aquietly, quietly
from chandelier.weaviate.connection import ClientOnce
from chandelier.weaviate.objects import Object

__all__ = ["Collection", "these"]


class Collection:
    """What the client knows by a name; its methods give what an operation yields.

    Args:
        client: The client.
        name: The name of the collection.
        tenant: Whose documents these are.
        called: What to call it in errors.
        is_async: Whether the client is asynchronous.
        timeout: Seconds for a read, and until a write that may have been lost is not tried again.
    """

    def __init__(
        self, client: Any, name: str, tenant: str | None, *, called: str, is_async: bool, timeout: float
    ) -> None:
        self.client = ClientOnce(client, timeout)
        self.name = name
        self.tenant = tenant
        self.called = called
        self.timeout = timeout
        self._is_async = is_async

    @property
    def schema(self) -> Any:
        """The client's collection, of all tenants."""
        return self.client.collections.use(self.name)

    @property
    def here(self) -> Any:
        """The client's collection, of the tenant if there is one."""
        return self.schema if self.tenant is None else self.schema.with_tenant(self.tenant)

    def failure(self, message: str, kind: type[StoreError] = StoreError) -> StoreError:
        """An error that says which collection."""
        return kind(f"{self.called}: {message}", store=self.called)

    def query(self, ask: Callable[[Any], Any]) -> Call:
        """A search, which gets the client's `query`."""
        return Call(lambda: ask(self.here.query))

    def write(self, function: Callable[[], Any], *, once: bool = False) -> Call:
        """What is waited for as long as the client does; the store's `timeout` does not end it."""
        return Call(lambda: aquietly(function) if self._is_async else quietly(function), once)

    def insert(self, objects: Sequence[Object]) -> Call:
        """Objects that are sent once: if no answer comes, their fate is not known."""
        return self.write(lambda: self.here.data.insert_many(objects), once=True)

    def flush(self, objects: Sequence[Object]) -> Call:
        """Has the server write the index of objects that it has just answered for.

        It writes its logs while the last objects of a batch are still on their way into the index (1.39,
        `shard_write_batch_objects.go`), and a server that is killed then forgets them, though it has said that all is
        well. A deletion writes them too, also one that is only rehearsed.
        """
        where = these([str(each.uuid) for each in objects])
        return self.write(lambda: self.here.data.delete_many(where=where, dry_run=True), once=True)

    def there(self, uuids: Sequence[str], filter: Any = None) -> Steps[list[str]]:
        """Those of these objects that are there, and pass."""
        if not uuids:
            return []
        answer = yield self.query(
            lambda query: query.fetch_objects(filters=these(uuids, filter), limit=len(uuids), return_properties=[])
        )
        return [str(each.uuid) for each in answer.objects]

    def stored(self, uuid: str) -> Steps[Any]:
        """An object with its vectors, if it is stored, whether a filter finds it or not."""
        before = str(UUID(int=UUID(uuid).int - 1))  # a cursor asks no filter
        answer = yield self.query(lambda query: query.fetch_objects(limit=1, after=before, include_vector=True))
        return next((each for each in answer.objects if str(each.uuid) == uuid), None)


def these(uuids: Sequence[str], filter: Any = None) -> Any:
    """A filter: these objects, if they pass another one."""
    these = Filter.by_id().contains_any(list(uuids))
    return these if filter is None else these & filter
