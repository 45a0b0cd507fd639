"""What Weaviate's log of an HNSW graph says of the document that was put into it last (1.39, `wal_writer.go`)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

ADD_NODE, REPLACE_LINKS, ADD_LINKS, ADD_MUVERA = 0, 3, 10, 13
SIZES = {ADD_NODE: 11, 1: 11, 2: 19, 4: 9, 5: 9, 6: 9, 7: 9, 8: 1, 9: 11}
"""Of the records that are always as long, in bytes."""


class Insertion(NamedTuple):
    """Of one document.

    Attributes:
        path: The log.
        level: The highest level of the graph that it is on.
        before_lowest: Where the record of its links on the lowest level begins, behind those of the levels above.
    """

    path: Path
    level: int
    before_lowest: int


def last_insertion(folder: Path) -> Insertion:
    """The last one in the newest log of the one index of a server's folder."""
    path = max(folder.glob("data/**/*.hnsw.commitlog.d/*"), key=lambda path: path.stat().st_mtime_ns)
    log = path.read_bytes()
    last, level, before_lowest = -1, -1, -1
    place = 0
    while place < len(log):
        kind = log[place]
        if kind == ADD_NODE:
            last, level = struct.unpack_from("<QH", log, place + 1)
        elif kind == REPLACE_LINKS and struct.unpack_from("<QH", log, place + 1) == (last, 0):
            before_lowest = place
        place += _size(log, place)
    assert place == len(log)
    return Insertion(path, level, before_lowest)


def _size(log: bytes, place: int) -> int:
    kind = log[place]
    if kind in (REPLACE_LINKS, ADD_LINKS):
        return 13 + 8 * int(struct.unpack_from("<H", log, place + 11)[0])
    if kind == ADD_MUVERA:
        ksim, _, dim, dprojections, repetitions = struct.unpack_from("<5I", log, place + 1)
        return int(21 + 4 * repetitions * dim * (ksim + dprojections))
    return SIZES[kind]
