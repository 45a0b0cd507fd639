"""What LlamaIndex tells those who watch: its events, spans and callbacks while a `with` block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.callbacks import CallbackManager, CBEventType
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler


class Events(BaseEventHandler):
    events: list[BaseEvent]

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.events.append(event)

    def named(self, part: str) -> list[Any]:
        return [event for event in self.events if part in event.class_name()]


class Trace:
    """Events in their order, and spans as `Class.method`, each with the chain of those that it lies in."""

    def __init__(self) -> None:
        self.events = Events(events=[])
        self.spans = SimpleSpanHandler(completed_spans=[], dropped_spans=[], open_spans={})

    def named(self, part: str) -> list[Any]:
        return self.events.named(part)

    def chains(self) -> list[list[str]]:
        spans = {span.id_: span for span in self.spans.completed_spans}
        chains = []
        for span in spans.values():
            chain, at = [], span
            while at is not None:
                chain.append(at.id_.split("-")[0])
                at = spans.get(at.parent_id)
            chains.append(chain)
        return chains


@contextmanager
def traced() -> Iterator[Trace]:
    trace, root = Trace(), get_dispatcher("root")
    root.add_event_handler(trace.events)
    root.add_span_handler(trace.spans)
    try:
        yield trace
    finally:
        root.event_handlers.remove(trace.events)
        root.span_handlers.remove(trace.spans)


class Callbacks(BaseCallbackHandler):
    """The older way to watch: every start and end with its payload."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.calls: list[tuple[str, CBEventType, dict[Any, Any] | None]] = []

    @property
    def manager(self) -> CallbackManager:
        return CallbackManager([self])

    def of(self, kind: CBEventType) -> list[tuple[str, dict[Any, Any] | None]]:
        return [(edge, payload) for edge, event, payload in self.calls if event == kind]

    def on_event_start(
        self, event_type: CBEventType, payload: dict[str, Any] | None = None, event_id: str = "", **kwargs: Any
    ) -> str:
        self.calls.append(("start", event_type, payload))
        return event_id

    def on_event_end(
        self, event_type: CBEventType, payload: dict[str, Any] | None = None, event_id: str = "", **kwargs: Any
    ) -> None:
        self.calls.append(("end", event_type, payload))

    def start_trace(self, trace_id: str | None = None) -> None:
        pass

    def end_trace(self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None) -> None:
        pass
