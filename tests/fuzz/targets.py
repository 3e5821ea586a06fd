"""What is fuzzed, and what must hold of each: any input gives a result or one of the errors meant for it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from cephcaps.auth.cephx import CephxAuthorizer, CephxLogin
from cephcaps.auth.crypto import CryptoError, CryptoKey
from cephcaps.auth.keyring import parse_keyring
from cephcaps.config import load_config
from cephcaps.core import Mount
from cephcaps.errors import AuthError, CephError, ConfigError, ConnectionFailed, MalformedMessage, ProtocolViolation
from cephcaps.messenger.framing import MAX_FRAME, Frame, FrameReader, FrameWriter
from cephcaps.messenger.secure import SecureStream
from cephcaps.testing.keys import KeyServer, MonLogin
from cephcaps.trace import Problem, read_trace
from cephcaps.trace.capture import NotACapture
from cephwire.codec import Codec
from cephwire.control import FRAMES, AuthDone, ConMode
from cephwire.entity import AddrType, EntityType
from cephwire.frames import Tag
from cephwire.keys import CONNECTION_SECRET, CRYPTO_KEY, CryptoType, KeyUsage
from cephwire.keys import CryptoKey as WireKey
from cephwire.legacy import MSG_CONNECT_REPLY, MsgConnect, MsgConnectReply
from cephwire.mdsmap import MdsState
from cephwire.messages import BY_CLASS, BY_NUMBER
from cephwire.reply import ClientRequestForward
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.fuzz.corpus import capture_samples, message_samples, structure_samples
from tests.fuzz.mutation import mutated, torn
from tests.session import handshakes_v1, samples
from tests.session.handshakes import HANDSHAKES, PAIRS, fresh, mds_pair, mon_pair, recorded
from tests.session.peers import entropy
from tests.session.world import World, mounted
from tests.wire.structures import STRUCTURES

__all__ = ["TARGETS", "prepare", "turns"]

LEAVES = (MalformedMessage, ProtocolViolation, ConnectionFailed, AuthError)
"""All that a peer's bytes may raise out of a connection."""
ACCEPTED, REFUSED = "accepted", "refused"

Target = Callable[[Random], str]
"""Makes one case from the numbers it is given and says what became of it. Whatever it raises is a failure."""

TARGETS: dict[str, Target] = {}

SLOW = 6
"""How many times longer a turn is where a case is a whole client's life."""


def turns(name: str) -> int:
    """The length of a target's turns, in those of a fast one."""
    return SLOW if name.startswith("client") else 1


def prepare(name: str) -> None:
    """Make the good input that ``name`` begins with."""
    for number, message in BY_NUMBER.items():
        if name in (f"message {message.name}", "client", "client orders"):
            message_samples(number)
    for part in {"control frames": CONTROL, "structures": OTHERS, "client": CONTROL}.get(name, []):
        structure_samples(part)


def target(name: str) -> Callable[[Target], Target]:
    def add(function: Target) -> Target:
        TARGETS[name] = function
        return function

    return add


# Captures


@target("captures")
def captures(rng: Random) -> str:
    """A capture of whole conversations, damaged: messages or problems come out, and what cannot be is refused."""
    sample = rng.choice(capture_samples())
    raw = mutated(rng, sample) if rng.random() < 0.7 else sample[: rng.randrange(len(sample))]
    try:
        items = list(read_trace(BytesIO(raw)))
    except NotACapture:
        return REFUSED
    return REFUSED if any(isinstance(item, Problem) for item in items) else ACCEPTED


# The wire


def message_target(number: int) -> Target:
    message = BY_NUMBER[number]

    def run(rng: Random) -> str:
        good = message_samples(number)
        version, *segments = rng.choice(good)
        spoilt = rng.randrange(3)
        if not segments[spoilt]:
            spoilt = 2 if message.carrier == "data" else 0
        segments[spoilt] = mutated(rng, segments[spoilt], [sample[1 + spoilt] for sample in good])
        version = rng.choice((version, version, version, rng.randrange(12)))
        leftover: list[Any] | None = rng.choice((None, []))
        try:
            found = message.decode(*segments, version=version, leftover=leftover)
        except MalformedMessage:
            return REFUSED
        try:
            again = message.encode(found, min(version, message.newest))
        except ValueError:  # seconds that nanoseconds above a second carry over 2**32
            return "accepted, not encodable"
        assert message.decode(*again, version=min(version, message.newest)) == found
        return ACCEPTED

    return run


for _number, _message in BY_NUMBER.items():
    TARGETS[f"message {_message.name}"] = message_target(_number)


CODECS: dict[str, Codec[Any]] = {name: Codec(schema, newest=1) for name, schema in STRUCTURES.items()}


def structure(rng: Random, names: list[str]) -> str:
    name = rng.choice(names)
    good = structure_samples(name)
    try:
        CODECS[name].decode(mutated(rng, rng.choice(good), good), 1, leftover=rng.choice((None, [])))
    except MalformedMessage:
        return REFUSED
    return ACCEPTED


CONTROL = sorted(tag.name for tag in FRAMES)
OTHERS = sorted(set(STRUCTURES) - set(CONTROL))


@target("control frames")
def control_frames(rng: Random) -> str:
    return structure(rng, CONTROL)


@target("structures")
def structures(rng: Random) -> str:
    return structure(rng, OTHERS)


# cephx


@target("cephx monitor")
def cephx_monitor(rng: Random) -> str:
    """What a monitor says, from the challenge to tickets, one stage of it spoilt."""
    keys = KeyServer(entropy("cluster"), rng.choice((CryptoType.AES, CryptoType.AES256K)))
    pair = mon_pair(rng.choice(list(ConMode)), keys.type)
    tickets, mon = pair.tickets, MonLogin(pair.keys)
    login = CephxLogin(tickets)
    mon.name = "client.admin"
    stage = rng.randrange(3)
    try:
        challenge = b"\x01" + mon.challenge.to_bytes(8, "little")
        asked = login.more(mutated(rng, challenge) if stage == 0 else challenge)
        reply = mon.answer(asked) or b""
        tickets.answer(mutated(rng, reply) if stage == 1 else reply, 0.0)
        renewed = mon.answer(tickets.ask(EntityType.MDS | EntityType.OSD)) or b""
        tickets.answer(mutated(rng, renewed), 0.0)
    except (MalformedMessage, AuthError):
        return REFUSED
    return ACCEPTED


@target("cephx service")
def cephx_service(rng: Random) -> str:
    """What a service says to our ticket, inside and outside of its encryption."""
    pair = mds_pair(rng.choice(list(ConMode)), rng.choice((CryptoType.AES, CryptoType.AES256K)))
    ticket = pair.tickets.held[EntityType.MDS]
    authorizer = CephxAuthorizer(pair.tickets, EntityType.MDS, ticket)
    inside = mutated(rng, rng.choice(structure_samples("AUTHORIZER_CHALLENGE") + structure_samples("AUTHORIZER_REPLY")))
    step = rng.choice((authorizer.more, lambda payload: authorizer.done(AuthDone(1, 1, payload), 0.0)))
    usage = rng.choice((KeyUsage.AUTHORIZER_CHALLENGE, KeyUsage.AUTHORIZER_REPLY))
    seal = rng.choice((ticket.session_key.seal, ticket.session_key.seal_prefixed))
    sealed = seal(usage, inside, entropy("service"))
    try:
        step(mutated(rng, sealed) if rng.randrange(4) == 0 else sealed)
    except (MalformedMessage, AuthError):
        return REFUSED
    return ACCEPTED


@target("crypto keys")
def crypto_keys(rng: Random) -> str:
    """A key out of a ticket or a keyring, and what it is to open."""
    kind, size = rng.choice(((CryptoType.AES, 16), (CryptoType.AES256K, 32)))
    good = Codec(CRYPTO_KEY).encode(WireKey(kind, 0, rng.randbytes(size)))
    try:
        key = CryptoKey.from_bytes(mutated(rng, good) if rng.randrange(2) else good)
        sealed = key.seal_prefixed(KeyUsage.AUTHORIZER, rng.randbytes(rng.randrange(60)), rng.randbytes)
        key.unseal_prefixed(KeyUsage.AUTHORIZER, mutated(rng, sealed) if rng.randrange(2) else sealed)
    except CryptoError:
        return REFUSED
    return ACCEPTED


# Frames and connections

SECRET = Codec(CONNECTION_SECRET).decode(bytes(range(64)))


def read(pieces: list[bytes], secure: bool) -> list[Frame | str]:
    """The frames in a stream, and how reading it ended."""
    reader = FrameReader()
    reader.limit = MAX_FRAME
    if secure:
        reader.encrypt(SecureStream(SECRET, "server"))
    found: list[Frame | str] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (frame := reader.next()) is not None:
                found.append(frame)
    except MalformedMessage as error:
        found.append(str(error))
    return found


def frames_target(secure: bool) -> Target:
    def run(rng: Random) -> str:
        writer = FrameWriter()
        if secure:
            writer.encrypt(SecureStream(SECRET))
        stream = b"".join(
            writer.frame(
                rng.choice(list(Tag)), [rng.randbytes(rng.choice((0, 1, 47, 48, 49, 64, 300))) for _ in range(count)]
            )
            for count in (rng.randrange(1, 5), rng.randrange(1, 5))
        )
        damaged = mutated(rng, stream, [stream])
        whole = read([damaged], secure)
        assert read(torn(rng, damaged), secure) == whole, "what is read depends on how the bytes are cut"
        return REFUSED if whole and isinstance(whole[-1], str) else ACCEPTED

    return run


TARGETS["frames crc"] = frames_target(secure=False)
TARGETS["frames secure"] = frames_target(secure=True)


@target("handshake bytes")
def handshake_bytes(rng: Random) -> str:
    """A recorded handshake, damaged on its way."""
    handshake = rng.choice(HANDSHAKES)
    pair = fresh(*handshake)
    try:
        for piece in torn(rng, mutated(rng, recorded(*handshake))):
            pair.client.receive(piece, 0.0)
    except LEAVES as error:
        return type(error).__name__
    return pair.client.phase.name


@target("handshake frames")
def handshake_frames(rng: Random) -> str:
    """A live handshake with a daemon that writes nonsense in good frames."""
    pair = fresh(*rng.choice(HANDSHAKES))
    pair.server.spoil = spoiling(rng, rng.randrange(8))
    try:
        pair.meet()
    except LEAVES as error:
        return type(error).__name__
    return pair.client.phase.name


LEGACIES = [(kind, type) for kind in PAIRS for type in (CryptoType.AES, CryptoType.AES256K)]
MESSENGERS = (AddrType.MSGR2, AddrType.LEGACY)


@target("legacy bytes")
def legacy_bytes(rng: Random) -> str:
    """A recorded handshake of messenger v1, damaged on its way."""
    handshake = rng.choice(LEGACIES)
    pair = handshakes_v1.legacy(*handshake)
    try:
        for piece in torn(rng, mutated(rng, handshakes_v1.recorded(*handshake))):
            pair.client.receive(piece, 0.0)
    except LEAVES as error:
        return type(error).__name__
    return str(pair.client.phase.name)


@target("legacy answers")
def legacy_answers(rng: Random) -> str:
    """A session of messenger v1 resumed with a daemon that answers nonsense, in the handshake and in good messages."""
    pair = handshakes_v1.legacy(*rng.choice(LEGACIES)).meet()
    handshakes_v1.say(pair, handshakes_v1.RENEW)
    pair.client.close()
    again = pair.again()
    wrong = rng.randrange(4)

    def twist(connect: MsgConnect, reply: MsgConnectReply, proof: bytes) -> tuple[MsgConnectReply, bytes]:
        if rng.randrange(4) != wrong:
            return reply, proof
        said = mutated(rng, Codec(MSG_CONNECT_REPLY).encode(reply))[:26].ljust(26, b"\0")
        return Codec(MSG_CONNECT_REPLY).decode(said), mutated(rng, proof) if rng.randrange(2) else proof

    again.server.twist = twist
    again.server.spoil = spoiling(rng, rng.randrange(3))
    try:
        again.meet()
        handshakes_v1.say(again, handshakes_v1.RENEW, handshakes_v1.RENEW)
    except LEAVES as error:
        return type(error).__name__
    return str(again.client.phase.name)


def spoiling(rng: Random, spoilt: int) -> Any:
    """Spoils what a daemon writes from its frame number ``spoilt`` on, now and then."""

    def spoil(number: int, segments: Any) -> Any:
        if number < spoilt or (number > spoilt and rng.randrange(3)):
            return segments
        index = rng.randrange(len(segments))
        return [*segments[:index], mutated(rng, segments[index]), *segments[index + 1 :]]

    return spoil


# The whole client


@target("client")
def client(rng: Random) -> str:
    """A mounted client, its time-outs running, whose daemons send spoilt messages and control frames."""
    world = mounted(mode=rng.choice(list(ConMode)), messenger=rng.choice(MESSENGERS))
    tokens = [world.getattr(ino=ino, timeout=20.0) for ino in (2, 3)]
    for _ in range(rng.randrange(1, 4)):
        peer = rng.choice((world.mons[0], world.ranks[0])).peer
        if rng.randrange(4) == 0:
            tag = rng.choice(list(FRAMES))
            peer.frame(tag, mutated(rng, rng.choice(structure_samples(tag.name))))
        else:
            number = rng.choice(list(BY_NUMBER))
            version, *segments = rng.choice(message_samples(number))
            spoilt = rng.randrange(3)
            segments[spoilt] = mutated(rng, segments[spoilt])
            peer.send_raw(number, *segments, tid=rng.randrange(4), version=version)
        world.run()
        world.advance(rng.choice((0.0, 1.0, 25.0)))
    world.advance(60.0)
    assert all(token in world.results for token in tokens), "a caller is left without an answer"
    return world.session.state if 0 in world.core.mds.sessions else "no session"


@target("client replies")
def client_replies(rng: Random) -> str:
    """A mounted client that gets spoilt answers to what it asked."""
    world = mounted(mds=2, messenger=rng.choice(MESSENGERS))
    tokens = [world.getattr(ino=ino, timeout=20.0) for ino in (2, 3)]
    for tid in (2, 3, 2):
        reply = samples.reply(RequestOp.GETATTR, result=rng.choice((0, -2)), safe=rng.randrange(2))
        answer = rng.choice((reply, ClientRequestForward(rng.randrange(2), rng.randrange(3), 1)))
        message = BY_CLASS[type(answer)]
        front, *_ = message.encode(answer)
        rng.choice(world.ranks[:1] + [rank for rank in world.ranks if rank.peers]).peer.send_raw(
            message.number, mutated(rng, front), tid=tid
        )
        world.run()
    world.advance(40.0)
    assert all(token in world.results for token in tokens), "a caller is left without an answer"
    return ", ".join(sorted({type(world.results[token]).__name__ for token in tokens}))


@target("client mount")
def client_mount(rng: Random) -> str:
    """A mount at daemons that spoil their frames, and some time after it."""
    world = World(mons=2, messenger=rng.choice(MESSENGERS))
    for daemon in (*world.mons, *world.ranks):
        daemon.arrived = lambda peer: setattr(peer, "spoil", spoiling(rng, rng.randrange(14)))
    result = world.mount()
    world.advance(30.0)
    return ACCEPTED if not isinstance(result, Exception) else type(result).__name__


@target("client orders")
def client_orders(rng: Random) -> str:
    """A mounted client to which good messages come in any order."""
    world = mounted(mds=2, messenger=rng.choice(MESSENGERS))
    tokens = [world.getattr(ino=ino, timeout=20.0) for ino in (2, 3)]
    for _ in range(rng.randrange(1, 10)):
        daemon = rng.choice((world.mons[0], *world.ranks))
        if not daemon.peers:
            continue
        number = rng.choice(list(BY_NUMBER))
        version, *segments = rng.choice(message_samples(number))
        match rng.randrange(4):
            case 0:
                daemon.peer.send(ClientSession(rng.choice(list(SessionOp)), rng.randrange(4)), version=1)
            case 1:
                daemon.peer.send(samples.mdsmap(rng.randrange(4, 9), failed=(0,)))
            case _:
                daemon.peer.send_raw(number, *segments, tid=rng.randrange(4), version=version)
        world.run()
    world.advance(60.0)
    assert all(token in world.results for token in tokens), "a caller is left without an answer"
    return ACCEPTED


@target("client weather")
def client_weather(rng: Random) -> str:
    """A client whose daemons die, hang, come back, rotate keys and change hands while it is used."""
    world = World(mons=2, mds=2, messenger=rng.choice(MESSENGERS))
    deadlines = {world.call(Mount(), 30.0): world.now + 30.0}
    epoch = 6
    for _ in range(rng.randrange(5, 25)):
        daemon = rng.choice((*world.mons, *world.ranks))
        match rng.randrange(9):
            case 0:
                daemon.mood = rng.choice(("dead", "silent", "stranger"))
                world.lose(daemon)
            case 1:
                world.lose(daemon)
            case 2:
                world.replace(rng.randrange(2))
                world.map_ranks(epoch, rng.choice((MdsState.REPLAY, MdsState.ACTIVE, MdsState.ACTIVE)))
                epoch += 1
                world.publish()
            case 3:
                service = rng.choice((EntityType.MDS, EntityType.MDS, EntityType.AUTH))
                world.keys.sealing[service] = world.keys.new_key()
            case 4 if world.ranks[0].peers:
                world.ranks[0].peer.say(rng.choice((SessionOp.STALE, SessionOp.CLOSE, SessionOp.FLUSHMSG)))
                world.run()
            case 5:
                world.cancel(token := rng.choice(list(deadlines)))
                del deadlines[token]
                deadlines[world.getattr(rng.randrange(1, 3), 7.0)] = world.now + 7.0
            case _:
                timeout = rng.choice((0.0, 1.0, 40.0))
                deadlines[world.getattr(rng.randrange(1, 3), timeout)] = world.now + timeout
        world.advance(rng.choice((0.0, 0.1, 3.0, 30.0)))
        late = [token for token, deadline in deadlines.items() if deadline < world.now and token in world.pending]
        assert not late, f"{late} are not answered in time"
        for daemon in (*world.mons, *world.ranks):
            if rng.randrange(3) == 0:
                daemon.mood = "well"
    for daemon in (*world.mons, *world.ranks):
        daemon.mood = "well"
    world.advance(60.0)
    assert world.core.monitors.ready, "the client does not find back to monitors that are well"
    return world.session.state if 0 in world.core.mds.sessions else "no session"


# Files

KEY = "AQBsxAJrDcwGChAATNVP9cNLJ8ILliqZ/p8m2w=="
KEYRINGS = [
    f'[client.admin]\n\tkey = {KEY}\n\tcaps mds = "allow *"\n'.encode(),
    f"# ours\n[mon.]\nkey={KEY}\r\n[client.x]\n key = '{KEY}' ; theirs\n".encode(),
]
CONFS = [
    b"[global]\nfsid = 00010203-0405-0607-0809-0a0b0c0d0e0f\nmon_host = [v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0]\n"
    b"auth client required = none\n[client]\nms_client_mode = secure crc\nclient mount timeout = 1m\n",
    b"mon host = a.example:3300, [2001:db8::1]:3300/7 ; no brackets\nauth_supported=none\nkeyring = \\\n  $cluster/k\n",
]


@target("keyring")
def keyring(rng: Random) -> str:
    text = mutated(rng, rng.choice(KEYRINGS), KEYRINGS).decode(errors="replace")
    said = ""
    try:
        keys = parse_keyring(text, "keyring")
        said = repr(list(keys.values()))
        for key in keys.values():
            said += repr(CryptoKey.from_base64(key.reveal()))
        became = ACCEPTED
    except (ConfigError, CryptoError) as error:
        said, became = said + str(error), REFUSED
    titles = re.findall(r"\[[^\]]*", text)  # these may be shown, and damage may have put anything there
    assert KEY[:12] not in said or any(KEY[:12] in title for title in titles), "a key is shown"
    return became


@target("ceph.conf")
def ceph_conf(rng: Random) -> str:
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "ceph.conf")
        conf.write_bytes(mutated(rng, rng.choice(CONFS), CONFS + KEYRINGS))
        try:
            found = load_config(conf, environ={"HOME": folder})
            found.with_mon_values({"ms_client_mode": mutated(rng, b"secure crc").decode("latin-1")})
        except ConfigError:
            return REFUSED
        except CephError as error:
            raise AssertionError(f"{error!r} is no ConfigError") from error
    return ACCEPTED
