"""A Qdrant on the loopback, for what only a server does: limits, refusals, faults, and death.

The real `qdrant-client` talks to it over REST and gRPC. Behind both is the client's own local mode; in front of it
stand the answers of a real server 1.19.0, where local mode has others. What it does not play fails
the test that asks for it.
"""

from .faults import Call, Fault
from .server import QdrantLoopback

__all__ = ["Call", "Fault", "QdrantLoopback"]
