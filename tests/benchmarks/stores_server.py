"""The loopback Qdrant of the tests as a process of its own: it says its ports, and ends with standard input."""

import sys
from pathlib import Path

from worker import answer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stores"))
from loopback import QdrantLoopback

if __name__ == "__main__":
    with QdrantLoopback() as server:
        answer({"url": f"http://127.0.0.1:{server.rest_port}", "grpc_port": server.grpc_port}, {})
