"""The recorder: what it writes is read back as it was said and holds no secret; when it ends, nothing else does."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import shutil
import stat
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket, InterfaceDescription

from cephcaps import ConfigError, connect
from cephcaps.actions import Action, Connect, Disconnect
from cephcaps.cli import main
from cephcaps.core import Mount
from cephcaps.events import RecordingEnded
from cephcaps.messenger.connection import Connection
from cephcaps.shell import supervisor as shell
from cephcaps.shell.connection import SocketProtocol
from cephcaps.shell.listen import EventQueue
from cephcaps.shell.log import Log
from cephcaps.shell.supervisor import Supervisor
from cephcaps.trace.items import Traced
from cephcaps.trace.read import read_trace
from cephcaps.trace.record import BATCH, Recorder
from cephcaps.trace.synthetic import FIN, MAX_PAYLOAD, SYN
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.features import CLIENT_FEATURES
from cephwire.frames import MessageFlag, MessageHeader
from cephwire.keys import CryptoType
from cephwire.messages import BY_NUMBER
from cephwire.mon_messages import AUTH, MAuth, MAuthReply
from cephwire.reply import CLIENT_REPLY
from tests.session.peers import flushed
from tests.session.world import MODES, World
from tests.wire.strategies import values

SENT, RECEIVED = True, False
TSHARK = shutil.which("tshark")
SLOW_TO_DRAW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
MESSAGES = [kind for kind in BY_NUMBER.values() if kind.name.startswith("Client")]


class Link:
    """What a recorder looks at of a connection."""

    def __init__(
        self, host: str = "192.0.2.2", kind: EntityType = EntityType.MDS, num: int = 3, cookie: int = 7
    ) -> None:
        self.tap: Any = None
        self.link = self
        self.cookie = cookie
        self.peer_cookie = 1
        self.global_id = 4123
        self.peer_type = kind
        self.peer_num = num
        self.peer_features = CLIENT_FEATURES
        self.lossy = not cookie
        self.target = EntityAddr.make(AddrType.MSGR2, host, 6800, 99)
        self.addr = EntityAddr.make(AddrType.MSGR2, "::1" if ":" in host else "192.0.2.7", 0, 77)


class Said(NamedTuple):
    link: int
    sent: bool
    header: MessageHeader
    front: bytes
    middle: bytes
    data: bytes


def header(seq: int, type: int = CLIENT_REPLY.number, **changes: int) -> MessageHeader:
    fields = {"tid": 0, "priority": 127, "version": 1, "data_pre_padding_len": 0, "data_off": 0, "ack_seq": 0}
    fields |= {"flags": MessageFlag.COMPLETE, "compat_version": 1}
    return MessageHeader(seq=seq, type=type, **fields | changes)


def record(path: Path, said: list[Said], links: list[Link] | None = None) -> None:
    links = links or [Link()]
    recorder = Recorder(path)
    for number, link in enumerate(links):
        recorder.attach(link, (str(link.addr.host), 50000 + number))  # type: ignore[arg-type]
    for one in said:
        links[one.link].tap(one.sent, *one[2:])
    recorder.close()
    assert recorder.failure is None


def read(path: Path) -> list[Traced]:
    """What the recording holds; it holds no problem."""
    with path.open("rb") as file:
        items = list(read_trace(file))
    assert [item for item in items if not isinstance(item, Traced)] == []
    return items  # type: ignore[return-value]


def plain(header: MessageHeader) -> MessageHeader:
    """As messenger v1 can have it."""
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    return MessageHeader(**fields | {"ack_seq": 0, "data_pre_padding_len": 0, "flags": header.flags | 1})


def packets(path: Path) -> list[tuple[str, bytes]]:
    """The packets as another implementation of the format reads them: time in ns, and bytes."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package's own
        blocks = list(FileScanner(file))
    assert [type(block) for block in blocks[1:]] == [InterfaceDescription] + [EnhancedPacket] * (len(blocks) - 2)
    return [(block.timestamp, block.packet_data) for block in blocks[2:]]


# Round trips


@st.composite
def messages(draw: Any, links: int) -> list[Said]:
    said, seqs = [], {}  # type: ignore[var-annotated]
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(MESSAGES))
        version = draw(st.integers(kind.oldest, kind.newest))
        try:
            segments = kind.encode(draw(values(kind.schema, version)), version)
        except ValueError:
            segments = (draw(st.binary()), draw(st.binary()), draw(st.binary()))
        where = draw(st.integers(0, links - 1)), draw(st.booleans())
        seqs[where] = seqs.get(where, 0) + draw(st.integers(1, 2**31))
        head = header(
            seqs[where],
            kind.number,
            version=version,
            compat_version=kind.compat,
            tid=draw(st.integers(0, 2**64 - 1)),
            priority=draw(st.integers(0, 255)),
            data_off=draw(st.integers(0, 2**16 - 1)),
            ack_seq=draw(st.integers(0, 2**64 - 1)),
            flags=draw(st.sampled_from([1, 3, 5])),
        )
        said.append(Said(*where, head, *segments))
    return said


@SLOW_TO_DRAW
@given(said=messages(3))
def test_any_messages_are_read_back_in_their_order(said: list[Said], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("record") / "out.pcapng"
    links = [Link(), Link("2001:db8::2", num=1, cookie=8), Link("192.0.2.1", EntityType.MON, 2, cookie=0)]
    record(path, said, links)
    found = read(path)
    assert [(item.to_daemon, item.header, item.segments) for item in found] == [
        (one.sent, plain(one.header), one[3:]) for one in said
    ]
    for item, one in zip(found, said, strict=True):
        link, flow = links[one.link], item.flow
        assert (flow.client_id, flow.messenger, flow.secure) == (4123, 1, False) if one.sent else flow.messenger == 1
        assert flow.client.endswith(f":{50000 + one.link}")
        assert flow.daemon == ("[2001:db8::2]:6800" if one.link == 1 else f"{link.target.host}:6800")
        assert flow.daemon_type == link.peer_type
        kind = BY_NUMBER[one.header.type]
        if item.error is None:
            assert item.message == kind.decode(*one[3:], version=one.header.version)


@pytest.mark.parametrize("host", ["192.0.2.2", "2001:db8::2"])
@pytest.mark.parametrize("size", [0, 1, MAX_PAYLOAD - 75, MAX_PAYLOAD, 1 << 16, 200_001, 5 << 20])
def test_messages_of_any_size_are_read_back(host: str, size: int, tmp_path: Path) -> None:
    blob = os.urandom(size)
    said = [Said(0, RECEIVED, header(1, 999), b"", b"", blob), Said(0, SENT, header(1, 999), blob, b"m", b"")]
    record(tmp_path / "x", said, [Link(host)])
    assert [item.segments for item in read(tmp_path / "x")] == [one[3:] for one in said]
    assert max(len(data) for _, data in packets(tmp_path / "x")) < 1 << 16


@pytest.mark.parametrize("host", ["192.0.2.2", "2001:db8::2"])
def test_the_packets_are_those_of_a_sound_tcp_connection(host: str, tmp_path: Path) -> None:
    began = time.time_ns()
    said = [Said(0, one % 3 > 0, header(one + 1, 999), bytes(one * 40_000), b"", b"") for one in range(6)]
    record(tmp_path / "x", said, [Link(host)])
    found = packets(tmp_path / "x")
    next_seq: dict[int, int] = {}
    flags_seen = []
    for number, (stamp, packet) in enumerate(found):
        v6 = packet[0] >> 4 == 6
        at = 40 if v6 else 20
        length = int.from_bytes(packet[4:6]) + 40 if v6 else int.from_bytes(packet[2:4])
        assert length == len(packet)
        if not v6:
            words = sum(int.from_bytes(packet[i : i + 2]) for i in range(0, 20, 2))
            assert words % 0xFFFF == 0
        port, other = int.from_bytes(packet[at : at + 2]), int.from_bytes(packet[at + 2 : at + 4])
        assert {port, other} == {50000, 6800}
        seq, ack = int.from_bytes(packet[at + 4 : at + 8]), int.from_bytes(packet[at + 8 : at + 12])
        offset, flags = packet[at + 12] >> 4, packet[at + 13]
        payload = packet[at + offset * 4 :]
        assert seq == next_seq.get(port, seq)
        assert ack == (0 if number == 0 else next_seq[other])
        next_seq[port] = (seq + len(payload) + bool(flags & SYN) + bool(flags & FIN)) % 2**32
        flags_seen.append(flags)
        assert began <= round(stamp * 1e9) + 1_000 <= time.time_ns() + 2_000
    assert (flags_seen[:3], flags_seen[-3:]) == ([0x02, 0x12, 0x10], [0x11, 0x11, 0x10])
    assert [stamp for stamp, _ in found] == sorted(stamp for stamp, _ in found)


def test_a_session_that_goes_on_over_another_connection_is_known_as_the_same(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "x")
    for port, seqs in ((50000, (1, 2)), (50001, (2, 3))):
        link = Link()
        recorder.attach(link, ("192.0.2.7", port))  # type: ignore[arg-type]
        for seq in seqs:
            link.tap(SENT, header(seq, 999), b"", b"", b"")
        recorder.detach(link)  # type: ignore[arg-type]
    recorder.close()
    found = read(tmp_path / "x")
    assert [(item.flow.number, item.header.seq, item.resent) for item in found] == [
        (1, 1, False),
        (1, 2, False),
        (2, 2, True),
        (2, 3, False),
    ]


def test_a_connection_that_says_nothing_is_not_in_the_recording(tmp_path: Path) -> None:
    record(tmp_path / "x", [])
    assert packets(tmp_path / "x") == []
    assert read(tmp_path / "x") == []


@pytest.mark.parametrize("local", [None, ("fe80::1%eth0", 50000)])
def test_an_end_that_is_not_known_is_made_up(local: tuple[str, int] | None, tmp_path: Path) -> None:
    recorder, link = Recorder(tmp_path / "x"), Link()
    recorder.attach(link, local)  # type: ignore[arg-type]
    link.tap(SENT, header(1, 999), b"", b"", b"")
    recorder.close()
    assert read(tmp_path / "x")[0].flow.client.startswith("0.0.0.0:")


@pytest.mark.skipif(TSHARK is None, reason="needs tshark: apt-get install tshark")
def test_wireshark_dissects_every_message_from_the_mds(tmp_path: Path) -> None:
    from tests.wire.vectors import vectors

    said, seqs = [], {SENT: 0, RECEIVED: 0}
    for vector in vectors("16.2.15"):
        seqs[vector.outgoing] += 1
        head = header(
            seqs[vector.outgoing],
            vector.message.number,
            version=vector.version,
            compat_version=vector.compat,
            tid=vector.tid,
        )
        said.append(Said(0, vector.outgoing, head, vector.front, vector.middle, vector.data))
    said.append(Said(0, RECEIVED, header(seqs[RECEIVED] + 1, 26), bytes(200_000), b"", b""))
    record(tmp_path / "x", said)

    def tshark(*words: str) -> list[str]:
        assert TSHARK is not None
        done = subprocess.run([TSHARK, "-r", tmp_path / "x", *words], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    seen = tshark("-Y", "ceph.seq && tcp.srcport==6800", "-T", "fields", "-e", "ceph.seq", "-e", "ceph.type")
    assert seen != []
    assert tshark("-Y", "tcp.analysis.flags || tcp.analysis.lost_segment || ip.checksum.status == Bad") == []
    received = [one.header.seq for one in said if one.sent is RECEIVED]
    assert [int(seq) for line in seen for seq in line.split("\t")[0].split(",")] == received


# Nothing secret


class RecordedWorld(World):
    """A client in its cluster, recorded."""

    def __init__(self, recorder: Recorder, **settings: Any) -> None:
        self.recorder = recorder
        super().__init__(**settings)

    def _carry_out(self, action: Action) -> None:
        super()._carry_out(action)
        if isinstance(action, Connect):
            self.recorder.attach(action.connection, ("192.0.2.7", 50000 + len(self.dialled)))
        elif isinstance(action, Disconnect):
            self.recorder.detach(action.connection)


@pytest.mark.parametrize("type", [CryptoType.AES, CryptoType.AES256K])
@pytest.mark.parametrize("mode", MODES)
def test_no_key_ticket_or_authorizer_is_in_the_recording(mode: ConMode, type: CryptoType, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "x")
    world = RecordedWorld(recorder, mode=mode, type=type)
    world.mount()
    tickets = set()
    for _ in range(3):
        tickets |= {ticket.blob.blob for ticket in world.tickets.held.values()}
        world.advance(3000)  # tickets are renewed
    recorder.close()
    raw = (tmp_path / "x").read_bytes()
    assert len(tickets) > 3
    for secret in world.keys.secrets | tickets:
        assert len(secret) > 8
        assert secret not in raw
    asked = [item.message for item in read(tmp_path / "x") if isinstance(item.message, MAuth)]
    told = [item.message for item in read(tmp_path / "x") if isinstance(item.message, MAuthReply)]
    assert len(asked) == len(told) > 0
    assert {message.auth_payload for message in asked} == {message.result_bl for message in told} == {b""}
    assert {message.protocol for message in asked} == {2}


def test_a_message_of_authentication_that_cannot_be_read_is_left_empty(tmp_path: Path) -> None:
    said = Said(0, SENT, header(1, AUTH.number), b"secret", b"secret", b"secret")
    record(tmp_path / "x", [said])
    assert b"secret" not in (tmp_path / "x").read_bytes()
    assert [item.segments for item in read(tmp_path / "x")] == [(b"", b"", b"")]


# The file


def test_the_file_is_its_owners_alone_and_what_it_held_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(100_000))
    path.chmod(0o644)
    record(path, [Said(0, SENT, header(1, 999), b"", b"", b"")])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(read(path)) == 1


def test_nothing_waits_for_the_end_once_a_batch_is_full(tmp_path: Path) -> None:
    recorder, link = Recorder(tmp_path / "x"), Link()
    recorder.attach(link, None)  # type: ignore[arg-type]
    link.tap(SENT, header(1, 999), bytes(BATCH - 1000), b"", b"")
    assert recorder.waiting
    assert (tmp_path / "x").stat().st_size == 0
    link.tap(SENT, header(2, 999), bytes(1000), b"", b"")
    assert not recorder.waiting
    assert (tmp_path / "x").stat().st_size > BATCH
    recorder.close()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nowhere/x", "No such file or directory"),
        ("/proc", "Is a directory"),
        ("\0", "embedded null byte"),
        ("/dev/full/x", "Not a directory"),
    ],
)
async def test_a_path_that_cannot_be_written_is_an_error_before_anything_is_connected(path: str, why: str) -> None:
    client = connect(record=path, mon_host="192.0.2.1", options={"auth_client_required": "none"})
    with pytest.raises(ConfigError, match=why) as raised:
        async with client:
            pass
    assert repr(path) in str(raised.value)


def test_a_pipe_that_nobody_reads_does_not_hold_anybody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(ConfigError, match="No such device"):
        Recorder(tmp_path / "x")


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_recording_that_cannot_grow_ends_with_whole_packets(tmp_path: Path) -> None:
    recorder, links = Recorder(tmp_path / "x"), [Link(), Link(cookie=8)]
    for number, link in enumerate(links):
        recorder.attach(link, ("192.0.2.7", 50000 + number))  # type: ignore[arg-type]
    with files_limited_to(100_000):
        for seq in range(1, 1000):
            for link in links:
                if link.tap is not None:
                    link.tap(SENT, header(seq, 999), bytes(200), b"", b"")
    assert recorder.failure == os.strerror(errno.EFBIG)
    assert [link.tap for link in links] == [None, None]
    assert not recorder.waiting
    size = (tmp_path / "x").stat().st_size
    recorder.attach(Link(), None)  # type: ignore[arg-type]
    recorder.detach(links[0])  # type: ignore[arg-type]
    recorder.flush()
    recorder.close()
    assert (tmp_path / "x").stat().st_size == size
    assert 99_500 < size <= 100_000
    assert len(read(tmp_path / "x")) > 200


# With the shell


class Wire(asyncio.Transport):
    """A socket between the shell and a daemon in memory."""

    def __init__(self, protocol: SocketProtocol, peer: Any) -> None:
        super().__init__({"sockname": ("192.0.2.7", 50000)})
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._peer = peer

    def write(self, data: Any) -> None:
        self._peer.receive(bytes(data))
        self._loop.call_soon(self.answer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def answer(self) -> None:
        if said := flushed(self._peer.out):
            self._protocol.data_received(said)

    def close(self) -> None:
        self._loop.call_soon(self._protocol.connection_lost, None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A cluster in memory, that a supervisor of this test connects to."""
    world = World()

    async def dial(self: Supervisor, connection: Connection) -> None:
        protocol = SocketProtocol(self, connection)
        peer = world.daemons[connection.target].accept()
        assert peer is not None
        wire = Wire(protocol, peer)
        protocol.connection_made(wire)
        wire.answer()

    monkeypatch.setattr(Supervisor, "_dial", dial)
    return world


async def test_what_is_said_is_in_the_file_soon_and_whole_when_the_client_is_closed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "RECORDING_DELAY", 0.05)
    supervisor = Supervisor(world.core, recorder=Recorder(tmp_path / "x"))
    await supervisor.start("test")
    await supervisor.call(Mount(), 10.0)
    await asyncio.sleep(0.1)
    assert (tmp_path / "x").stat().st_size > 0
    await supervisor.close(1.0)
    found = read(tmp_path / "x")
    heard = [(item.header.seq, item.header.type, item.message) for item in found if item.to_daemon]
    got = [(head, message) for daemon in world.daemons.values() for head, message in daemon.peer.messages]
    assert sorted(heard, key=str) == sorted(((head.seq, head.type, message) for head, message in got), key=str)
    assert {(item.flow.client, item.flow.client_id) for item in found} == {
        ("192.0.2.7:50000", supervisor.core.tickets.global_id)
    }
    assert {item.flow.daemon_type for item in found} == {EntityType.MON, EntityType.MDS}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_ends_the_recording_with_an_event_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shell, "RECORDING_DELAY", 0.01)
    supervisor = Supervisor(world.core, recorder=Recorder("/dev/full"))
    await supervisor.start("test")
    events = EventQueue((RecordingEnded,), None, 10)
    supervisor.listen(events)
    with caplog.at_level(logging.WARNING, "cephcaps"):
        await supervisor.call(Mount(), 10.0)
        await asyncio.sleep(0.1)
        reason = os.strerror(errno.ENOSPC)
        assert events.drain() == [RecordingEnded(path="/dev/full", reason=reason)]
    assert [record.message for record in caplog.records] == [
        f"event='recording.ended' client={world.core.tickets.global_id} path='/dev/full' reason='{reason}'"
    ]
    assert world.core.mds.sessions[0].state == "open"
    assert stat.S_IMODE(os.stat("/dev/full").st_mode) == 0o666
    await supervisor.close(1.0)
    assert world.core.mds.sessions[0].state == "closed"
    assert events.drain() == []


async def test_a_disk_that_is_full_only_at_the_end_is_told_too(world: World) -> None:
    supervisor = Supervisor(world.core, recorder=Recorder("/dev/full"))
    await supervisor.start("test")
    events = EventQueue(None, None, 10)
    await supervisor.call(Mount(), 10.0)
    supervisor.listen(events)
    await supervisor.close(1.0)
    assert [event for event in events.drain() if isinstance(event, RecordingEnded)]


def test_the_command_line_records_and_tells_when_it_no_longer_can(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}

    class Client:
        async def __aenter__(self) -> Any:
            Log().warn("recording.ended", path="x", reason="full")
            raise ConfigError("enough")

        async def __aexit__(self, *exc: object) -> None: ...

    def connected(**how: Any) -> Client:
        given.update(how)
        return Client()

    monkeypatch.setattr("cephcaps.client.connect", connected)
    handlers = logging.getLogger("cephcaps").handlers[:]
    try:
        assert main(["--record", "out.pcapng", "ls", "/"]) == errno.EINVAL
    finally:
        logging.getLogger("cephcaps").handlers[:] = handlers
        logging.getLogger("cephcaps").setLevel(logging.NOTSET)
    assert given == {"record": "out.pcapng"}
    assert "event='recording.ended' path='x' reason='full'" in capsys.readouterr().err
