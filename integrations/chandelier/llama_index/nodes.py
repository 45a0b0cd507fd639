"""Nodes of LlamaIndex as texts to score and documents to store, and what comes out as nodes again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.constants import DATA_KEY, TYPE_KEY
from llama_index.core.schema import (
    BaseNode,
    ImageDocument,
    ImageNode,
    IndexNode,
    MetadataMode,
    Node,
    TextNode,
)
from llama_index.core.schema import Document as LlamaDocument

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.explanation import Explanation
from chandelier.rerank import explanation_notes, without_notes
from chandelier.store import Document, Hit
from chandelier.store.documents import checked_metadata

__all__ = ["SOURCE_KEY", "as_document", "as_node", "explained", "noted", "text_to_score", "without_own_notes"]

CONTENT_KEY = "_node_content"
CLASS_KEY = "_node_type"
"""Where the vector stores of LlamaIndex keep a whole node, too."""

SOURCE_KEY = "ref_doc_id"

MEDIA = ("image_resource", "audio_resource", "video_resource")

MARK = "\0chandelier\0"
"""Stands for the text of a node in its template."""

CLASSES: dict[str, type[BaseNode]] = {
    each.class_name(): each for each in (ImageDocument, ImageNode, IndexNode, LlamaDocument, Node, TextNode)
}


def text_to_score(node: BaseNode, mode: MetadataMode, place: str) -> str:
    """What the model reads of a node; one without text is refused by its place and id."""
    own = node.get_content(metadata_mode=MetadataMode.NONE)
    if not own and (_has_other_content(node) or not isinstance(node, (TextNode, LlamaDocument))):
        got = f"the {node.class_name()} {node.node_id!r}, which has no text"
        raise ArgumentError(f"{place}: got {got}, wanted some; give it a caption, or leave it out", argument="nodes")
    return node.get_content(metadata_mode=mode)


def _has_other_content(node: BaseNode) -> bool:
    return isinstance(node, ImageNode) or any(getattr(node, name, None) is not None for name in MEDIA)


def as_document(node: BaseNode, mode: MetadataMode, place: str) -> Document:
    """A node as a document of a store, whose metadata holds all of the node but its embedding.

    Raises:
        ArgumentError: If the node has no text, or holds what JSON does not.
    """
    if not isinstance(node, BaseNode):
        got = type(node).__name__
        raise ArgumentError(f"{place}: got {got}, wanted a node: TextNode(text=...)", argument="nodes")
    text = text_to_score(node, mode, place)
    try:
        metadata = checked_metadata(node.metadata)
        metadata[CONTENT_KEY] = json.dumps(_fields(node), ensure_ascii=False)
        metadata[CLASS_KEY] = node.class_name()
        if node.ref_doc_id is not None:
            metadata[SOURCE_KEY] = node.ref_doc_id
        return Document(node.node_id, text, metadata)
    except ValueError as error:  # ours, pydantic's, and LlamaIndex's for what it cannot write
        message = f"{place}: the {node.class_name()} {node.node_id!r} cannot be stored: {error}"
        raise ArgumentError(message, argument="nodes") from error


def _fields(node: BaseNode) -> dict[str, Any]:
    """All that JSON can hold of a node but its embedding; what an index node leads to in the way that is read again."""
    leads_to = node.obj if isinstance(node, IndexNode) else None
    if leads_to is not None:
        node = node.model_copy(update={"obj": None})
    fields: dict[str, Any] = {**node.model_dump(mode="json"), "embedding": None}
    for name in ("text_resource", *MEDIA):
        resource = getattr(node, name, None)
        if resource is not None and resource.data is not None:  # base64, which a dump leaves out
            fields[name]["data"] = resource.data.decode()
    if leads_to is not None:
        fields["obj"] = {DATA_KEY: _fields(leads_to), TYPE_KEY: leads_to.get_type()}
    return fields


def as_node(document: Document | Hit) -> BaseNode:
    """The node that a document was made of; a `TextNode` of a document that others stored.

    Raises:
        StoreError: If what should be a node is none.
    """
    content = document.metadata.get(CONTENT_KEY)
    if content is None:
        return TextNode(id_=document.id, text=document.text, metadata=dict(document.metadata))
    try:
        node = CLASSES.get(document.metadata.get(CLASS_KEY, ""), TextNode).from_json(content)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{document.id!r}: its {CONTENT_KEY} is no node: {error}") from error
    if node.node_id != document.id:
        raise StoreError(f"{document.id!r}: its {CONTENT_KEY} is no node with this id")
    return node


def explained(node: BaseNode, explanation: Explanation) -> dict[str, Any]:
    """Which parts of the node's own text matched."""
    own = node.get_content(metadata_mode=MetadataMode.NONE)
    start = _start_of(own, node, explanation.document)
    if start is None:  # a node that changes its text when it adds its metadata
        return explanation_notes(explanation, len(explanation.document), 0)
    return explanation_notes(explanation, start, len(own))


def _start_of(own: str, node: BaseNode, scored: str) -> int | None:
    """Where the node's own text begins in what was scored: by its template, or by a search where that says nothing.

    Below zero where white space of its own was cut off; None where its text is not there, or more than once.
    """
    if scored == own:
        return 0
    template = getattr(node, "text_template", "{content}")
    for mode in (MetadataMode.EMBED, MetadataMode.LLM, MetadataMode.ALL):
        metadata = node.get_metadata_str(mode)
        if isinstance(node, TextNode):
            metadata = metadata.strip()
        before, _, after = template.format(content=MARK, metadata_str=metadata).partition(MARK)
        whole = before + own + after.replace(MARK, own)
        if whole.strip() == scored:
            return len(before) - (len(whole) - len(whole.lstrip()))
    bare = own.strip()
    if scored.count(bare) != 1:
        return None
    return scored.find(bare) - (len(own) - len(own.lstrip()))


def without_own_notes(node: BaseNode) -> BaseNode:
    """The node without the notes of an earlier call, or itself if it has none."""
    hidden = {*node.excluded_embed_metadata_keys} & {*node.excluded_llm_metadata_keys}  # as `noted` hides its own
    kept = without_notes(node.metadata)
    metadata = {key: value for key, value in node.metadata.items() if key in kept or key not in hidden}
    return node if metadata == node.metadata else node.model_copy(update={"metadata": metadata})


def noted(node: BaseNode, notes: Mapping[str, Any]) -> BaseNode:
    """The node with notes in its metadata, which no language model and no embedding gets to see.

    The node itself is not changed; without notes it comes back.
    """
    if not notes:
        return node
    return node.model_copy(
        update={
            "metadata": {**node.metadata, **notes},
            "excluded_embed_metadata_keys": list(dict.fromkeys([*node.excluded_embed_metadata_keys, *notes])),
            "excluded_llm_metadata_keys": list(dict.fromkeys([*node.excluded_llm_metadata_keys, *notes])),
        }
    )
