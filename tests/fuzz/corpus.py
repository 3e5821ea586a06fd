"""Good input to begin with: recorded messages, and values drawn by walking each schema."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cephcaps.trace.capture import Packet
from cephcaps.trace.record import Recorder
from cephwire.caps import CLIENT_CAPS
from cephwire.codec import Codec
from cephwire.control import ConMode
from cephwire.keys import CryptoType
from cephwire.message import Message
from cephwire.messages import BY_NUMBER
from tests.session.handshakes import mds_pair
from tests.trace.overheard import overheard
from tests.trace.packet_maker import Talk, pcap, pcapng
from tests.trace.test_record import Link, header
from tests.wire.strategies import values
from tests.wire.structures import STRUCTURES
from tests.wire.vectors import RELEASES, vectors

__all__ = ["Sample", "capture_samples", "message_samples", "structure_samples"]

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


@cache
def capture_samples() -> list[bytes]:
    """Captures of a conversation over messenger v2 and of a recording, which is one over v1; both formats."""
    packets: list[Packet] = []
    talk = Talk()
    packets += talk.connect()
    for to_daemon, piece in overheard(mds_pair(CryptoType.AES, ConMode.CRC)).pieces:
        packets += talk.send(to_daemon, piece)
    packets += talk.fin(True) + talk.fin(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recorded.pcapng"
        recorder = Recorder(path)
        link = Link()
        recorder.attach(link, ("127.0.0.1", 50000))  # type: ignore[arg-type]
        for seq, sample in enumerate(message_samples(CLIENT_CAPS.number)[:20], 1):
            version, *segments = sample
            link.tap(seq % 2 == 0, header(seq, CLIENT_CAPS.number, version=version), *segments)
        recorder.close()
        return [pcap(packets), pcapng(packets), path.read_bytes()]
