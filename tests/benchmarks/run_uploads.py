"""What it costs the client to send documents to Qdrant: a side of bench_stores.py, which starts it.

A side is the store or the bare client, over REST or gRPC. It answers:

- ``upload``: sends all documents once; wall and CPU seconds of this process
- ``check``: whether the collection holds the bits that were sent, in its precision
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from stores_cases import QUICK, Data, Sizes
from worker import answer, timed

import chandelier
from chandelier import ColBERT, Document
from chandelier.qdrant import QdrantStore

NAMES = {
    "store-rest": "QdrantStore, REST",
    "client-rest": "PointStruct of rows.tolist(), REST",
    "store-grpc": "QdrantStore, gRPC",
    "client-grpc": "PointStruct of rows.tolist(), gRPC",
}
AT_ONCE = {"rest": 24, "grpc": 96}
"""Documents of 300 x 128 that the bare client sends in a request: within the same bytes as the store's."""


def main() -> None:
    """Connects, makes a collection and answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=NAMES)
    parser.add_argument("model", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    kind, protocol = args.side.split("-")
    model = ColBERT(args.model)
    uploaded = Data(QUICK if args.quick else Sizes(), model.dim).uploaded()
    text = "a document of some length " * 20

    options: dict[str, Any] = {
        "api_key": os.environ.get("QDRANT_API_KEY"),
        "timeout": 120,
        "check_compatibility": False,
    }
    client = QdrantClient(url=args.url, grpc_port=args.grpc_port, prefer_grpc=protocol == "grpc", **options)
    name = f"bench-{uuid.uuid4().hex}"
    store = QdrantStore(client, name, model)
    documents = [Document(f"{number}", text, {"lang": "en"}, rows) for number, rows in enumerate(uploaded)]

    def by_store() -> None:
        store.upsert(documents, raise_on_failure=True)

    def by_client() -> None:
        size = AT_ONCE[protocol]
        for start in range(0, len(uploaded), size):
            points = [
                models.PointStruct(
                    id=number,
                    vector={"colbert": rows.tolist()},
                    payload={"doc_id": f"{number}", "text": text, "metadata": {"lang": "en"}},
                )
                for number, rows in enumerate(uploaded[start : start + size], start)
            ]
            client.upsert(name, points, wait=True)

    def check(_: str) -> dict[str, Any]:
        found, _after = client.scroll(name, limit=len(uploaded), with_payload=True, with_vectors=["colbert"])
        numbers = sorted(int(point.payload["doc_id"]) for point in found if point.payload)
        same = [
            np.array_equal(
                np.asarray(point.vector["colbert"], np.float16),
                uploaded[int(point.payload["doc_id"])].astype(np.float16),
            )
            for point in found
            if isinstance(point.vector, dict) and point.payload
        ]
        return {"same": numbers == list(range(len(uploaded))) and len(same) == len(found) and all(same)}

    versions = {name: importlib.metadata.version(name) for name in ("qdrant-client", "grpcio", "pydantic", "protobuf")}
    hello = {"name": NAMES[args.side], "versions": versions, "build": chandelier.build_info()}
    upload = by_store if kind == "store" else by_client
    answer(
        hello,
        {"upload": lambda _: timed(upload), "check": check, "drop": lambda _: {"was": client.delete_collection(name)}},
    )


if __name__ == "__main__":
    main()
