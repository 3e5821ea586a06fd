"""The recorded messages of data/mds: what real clients and MDSs have said to each other (see record_vectors.py)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cephwire.message import Message
from cephwire.messages import BY_NUMBER

MDS = Path(__file__).parent / "data" / "mds"
RELEASES = ("16.2.15", "20.2.4", "20.2.4-at-16.2.15")
"""Of client and MDS; the last is of a newer client at an older MDS."""


class Vector(NamedTuple):
    release: str
    features: int
    """Client features both sides have."""
    message: Message[Any]
    version: int
    compat: int
    tid: int
    outgoing: bool
    """From the client."""
    front: bytes
    middle: bytes
    data: bytes

    @property
    def carrier(self) -> bytes:
        return self.data if self.message.carrier == "data" else self.front

    def decode(self) -> Any:
        return self.message.decode(self.front, self.middle, self.data, version=self.version, compat=self.compat)


@cache
def vectors(release: str) -> tuple[Vector, ...]:
    head, *lines = map(json.loads, (MDS / f"{release}.jsonl").read_text().splitlines())
    return tuple(
        Vector(
            release,
            head["features"],
            BY_NUMBER[line["type"]],
            line["version"],
            line["compat"],
            line["tid"],
            line["dir"] == "out",
            *(bytes.fromhex(line.get(segment, "")) for segment in ("front", "middle", "data")),
        )
        for line in lines
    )


def decoded(number: int, release: str | None = None) -> list[Any]:
    """Every recorded message of that number, of one release or all."""
    return [v.decode() for r in RELEASES if release in (r, None) for v in vectors(r) if v.message.number == number]
