"""Good input to begin with: recorded messages, and values drawn by walking each schema."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cephwire.codec import Codec
from cephwire.message import Message
from cephwire.messages import BY_NUMBER
from tests.wire.strategies import values
from tests.wire.structures import STRUCTURES
from tests.wire.vectors import RELEASES, vectors

__all__ = ["Sample", "message_samples", "structure_samples"]

DRAWN = 8
"""Values a schema and version."""

Sample = tuple[int, bytes, bytes, bytes]
"""A message: version, front, middle, data."""


def drawn(strategy: st.SearchStrategy[Any]) -> list[Any]:
    """Some values of ``strategy``, the same in every run."""
    found = []

    @settings(
        max_examples=DRAWN,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(value: Any) -> None:
        found.append(value)

    take()
    return found


@cache
def message_samples(number: int) -> list[Sample]:
    message: Message[Any] = BY_NUMBER[number]
    found = [
        (vector.version, vector.front, vector.middle, vector.data)
        for release in RELEASES
        for vector in vectors(release)
        if vector.message.number == number
    ]
    for version in range(message.oldest, message.newest + 1):
        found += [(version, *message.encode(value, version)) for value in drawn(values(message.schema, version))]
    return found


@cache
def structure_samples(name: str) -> list[bytes]:
    schema = STRUCTURES[name]
    codec: Codec[Any] = Codec(schema, newest=1)
    return [codec.encode(value, 1) for value in drawn(values(schema, 1))]
