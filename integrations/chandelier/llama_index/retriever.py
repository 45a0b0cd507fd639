"""`ColBERTRetriever`: finds nodes in any store by their MaxSim with the query."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.schema import BaseNode, IndexNode, MetadataMode, NodeWithScore, QueryBundle

from chandelier.exceptions import ArgumentError
from chandelier.llama_index.filters import as_filter
from chandelier.llama_index.nodes import SOURCE_KEY, as_document, as_node, explained, noted
from chandelier.models import ColBERT
from chandelier.multivectors import checked_count
from chandelier.retrieval import Retrieval
from chandelier.scores import Normalization, checked_question
from chandelier.shared import ModelHandle
from chandelier.store import Document, Hit, LocalStore, Store, UpsertReport
from chandelier.store.encoding import Query

__all__ = ["ColBERTRetriever"]

LOG = logging.getLogger("chandelier")

dispatcher = get_dispatcher(__name__)


class ColBERTRetriever(BaseRetriever):
    """Finds nodes in any store of chandelier by their MaxSim with the query.

    What `add_nodes` stored comes out whole: class, id, text, metadata, relationships, templates, all but an embedding.
    A document that was stored in another way comes out as a `TextNode`. An `IndexNode` leads on to its object, as
    LlamaIndex follows it. A store that has a path keeps what is added at once; there is nothing to persist.

    Args:
        store: Any store, or the description of one, which is opened when it is needed: `store.description`.
        similarity_top_k: How many nodes to find; can be set later.
        filters: `MetadataFilters`, a mapping in the stores' own dialect, or a filter of the engine's; can be set later.
        score_normalization: `"query_length"` divides the MaxSim by the query's vectors; `"none"` leaves it.
        score_threshold: The lowest score to return, after normalisation; None for all.
        depth: How many candidates are scored exactly, where the store does not score all.
        explain: Whether to say which words matched, as `explanation` in the metadata.
        exact: Whether to score all documents, whatever finds candidates otherwise.
        metadata_mode: Which metadata is encoded with the text of the nodes that are added.
        callback_manager: As in every retriever of LlamaIndex; so are the others.
        object_map: What an `IndexNode` leads to, by its `index_id`.
        objects: The same, as index nodes.
        verbose: Whether to print where a retrieval goes.

    Raises:
        ArgumentError: If an argument is none of these; it names the argument.

    Examples:
        >>> from llama_index.core.schema import TextNode
        >>> nodes = [TextNode(text="Bread needs flour."), TextNode(text="Paris is in France.", metadata={"lang": "en"})]
        >>> retriever = ColBERTRetriever.from_nodes(nodes, "tests/goldens/a_bert_pylate/checkpoint", similarity_top_k=1)
        >>> [(node.text, node.metadata) for node in retriever.retrieve("where is paris?")]
        [('Paris is in France.', {'lang': 'en'})]
    """

    def __init__(
        self,
        store: Store | Mapping[str, Any],
        *,
        similarity_top_k: int = 10,
        filters: Any = None,
        score_normalization: Normalization = "query_length",
        score_threshold: float | None = None,
        depth: int | None = None,
        explain: bool = False,
        exact: bool = False,
        metadata_mode: MetadataMode = MetadataMode.EMBED,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        self._retrieval = Retrieval(
            store,
            k=similarity_top_k,
            score_normalization=score_normalization,
            score_threshold=score_threshold,
            depth=depth,
            explain=explain,
            exact=exact,
        )
        self.similarity_top_k = similarity_top_k
        self.filters = filters
        self.metadata_mode = MetadataMode(metadata_mode)
        self._made: LocalStore | None = None
        super().__init__(callback_manager=callback_manager, object_map=object_map, objects=objects, verbose=verbose)

    @classmethod
    def from_nodes(
        cls,
        nodes: Sequence[BaseNode],
        model: str | os.PathLike[str] | ColBERT,
        path: str | os.PathLike[str] | None = None,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> ColBERTRetriever:
        """A retriever over a `LocalStore` with these nodes.

        Args:
            nodes: The nodes. Split texts to what the model reads first, by its own tokens: a splitter's
                `tokenizer=`.
            model: The checkpoint's folder or hub name, or an open `ColBERT`.
            path: The store's file, which may be there already; None for memory.
            model_kwargs: Arguments of `ColBERT` for a model that is given by name, but for `token`.
            show_progress: Show a bar.
            **options: Those of the class.

        Raises:
            ArgumentError: As `add_nodes`.
            StoreError: As `LocalStore`.
        """
        store = LocalStore(ModelHandle(model, model_kwargs).open(), path)
        try:
            retriever = cls(store, **options)
            retriever.add_nodes(nodes, show_progress=show_progress)
        except BaseException:
            store.close()
            raise
        retriever._made = store
        return retriever

    @property
    def store(self) -> Store:
        """The store, opened now if it was not yet; close one that you gave when nobody searches any more."""
        return self._retrieval.store

    def close(self) -> None:
        """Close the store that `from_nodes` made, or give a described one back; one that was given stays open."""
        self._retrieval.handle.close()
        if self._made is not None:
            self._made.close()

    @property
    def similarity_top_k(self) -> int:
        """How many nodes to find."""
        return self._similarity_top_k

    @similarity_top_k.setter
    def similarity_top_k(self, value: int) -> None:
        self._similarity_top_k = checked_count("similarity_top_k", value)

    @property
    def filters(self) -> Any:
        """Which nodes to look at; None for all."""
        return self._filters

    @filters.setter
    def filters(self, value: Any) -> None:
        self._filter = as_filter(value)
        self._filters = value

    def add_nodes(self, nodes: Sequence[BaseNode], *, show_progress: bool = False) -> UpsertReport:
        """Store nodes; one with an id that is there replaces it.

        Returns:
            What became of them. Texts longer than the model reads are found by their beginning, and named in
            `truncated` and in the log.

        Raises:
            ArgumentError: If a node has no text or cannot be stored, before anything is.
            PartialUpsertError: If the store refused a node; the others are stored, and `report` says which.
        """
        documents = self._documents(nodes)
        return self._reported(self.store.upsert(documents, progress=show_progress, raise_on_failure=True))

    async def aadd_nodes(self, nodes: Sequence[BaseNode], *, show_progress: bool = False) -> UpsertReport:
        """As `add_nodes`."""
        documents = await asyncio.to_thread(self._documents, nodes)
        store = await self._retrieval.handle.aopen()
        return self._reported(await store.aupsert(documents, progress=show_progress, raise_on_failure=True))

    def delete_nodes(self, node_ids: Sequence[str]) -> int:
        """Delete nodes by their ids; how many there were."""
        return self.store.delete(node_ids)

    async def adelete_nodes(self, node_ids: Sequence[str]) -> int:
        """As `delete_nodes`."""
        return await (await self._retrieval.handle.aopen()).adelete(node_ids)

    def delete_ref_doc(self, ref_doc_id: str) -> int:
        """Delete the nodes that were made of a document, by its id; how many there were."""
        return self.store.delete(filter={SOURCE_KEY: ref_doc_id})

    async def adelete_ref_doc(self, ref_doc_id: str) -> int:
        """As `delete_ref_doc`."""
        return await (await self._retrieval.handle.aopen()).adelete(filter={SOURCE_KEY: ref_doc_id})

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._retrieval.search(self._query(query_bundle), k=self.similarity_top_k, filter=self._filter)
        return [_found(hit) for hit in hits]

    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = await asyncio.to_thread(self._query, query_bundle)
        hits = await self._retrieval.asearch(query, k=self.similarity_top_k, filter=self._filter)
        return [_found(hit) for hit in hits]

    def _query(self, query: QueryBundle) -> Query:
        """The question, or the rows of all texts that stand for it (`HyDEQueryTransform` makes several)."""
        texts = [checked_question(text) for text in query.embedding_strs or [query.query_str]]
        return texts[0] if len(texts) == 1 else self.store.model.encode_queries(texts).data

    def _documents(self, nodes: Sequence[BaseNode]) -> list[Document]:
        if isinstance(nodes, (BaseNode, str, bytes, Mapping)) or not isinstance(nodes, Sequence):
            got = type(nodes).__name__
            raise ArgumentError(f"nodes: got {got}, wanted a list of nodes", argument="nodes")
        documents, objects = [], {}
        for index, node in enumerate(nodes):
            if isinstance(node, IndexNode) and node.obj is not None and not isinstance(node.obj, BaseNode):
                objects[node.index_id] = node.obj  # which no store can keep
                node = node.model_copy(update={"obj": None})
            documents.append(as_document(node, self.metadata_mode, f"nodes[{index}]"))
        self.object_map = {**self.object_map, **objects}  # not into the one that the caller gave
        return documents

    def _reported(self, report: UpsertReport) -> UpsertReport:
        if report.truncated:
            LOG.warning(
                "%d of %d nodes are longer than the %d tokens that the model reads, and are found by their beginning, "
                "%r for one; split them by the model's own tokens: a splitter's tokenizer=",
                len(report.truncated),
                len(report.stored),
                self.store.model.document_length,
                report.truncated[0],
            )
        return report


def _found(hit: Hit) -> NodeWithScore:
    node = as_node(hit)
    if hit.explanation is not None:
        node = noted(node, {"explanation": explained(node, hit.explanation)})
    return NodeWithScore(node=node, score=hit.score)
