"""A capture file -> the messages in it, found by a process beside the one that decodes them.

To find messages in packets takes about as long as to decode and to show them, and asks nothing of that: so each has a
processor. The one that reads the file is a fork of the other: it has the keys, and neither a key nor anything made of
one comes back from it, only messages and problems.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import BinaryIO, Final, NoReturn
from weakref import WeakValueDictionary

import msgspec

from cephcaps.auth.crypto import CryptoKey
from cephcaps.trace.decoding import decode_all
from cephcaps.trace.items import Flow, Item, Problem, ProblemKind, Traced
from cephcaps.trace.read import TraceReader
from cephwire.codec import Leftover
from cephwire.frames import MessageHeader

__all__ = ["can_read_beside", "read_beside"]

LENGTH: Final = struct.Struct("<Q")
"""In front of each batch; 0 says that none follows, but the error that ended it, if any."""
FLOW_FIELDS: Final = tuple(field.name for field in fields(Flow))
_make = tuple.__new__
"""A NamedTuple in a third of the time that its class takes."""


class Message(msgspec.Struct, array_like=True, tag=0, gc=False):
    """A `Traced` that is not decoded yet; of its flow the number."""

    ns: int
    flow: int
    to_daemon: bool
    header: MessageHeader
    segments: tuple[bytes, bytes, bytes]
    leftover: tuple[Leftover, ...]
    resent: bool


class Trouble(msgspec.Struct, array_like=True, tag=1, gc=False):
    """A `Problem`; of its flow the number."""

    ns: int
    flow: int | None
    to_daemon: bool | None
    kind: ProblemKind
    what: str
    size: int


class Batch(msgspec.Struct, array_like=True):
    """Some items, and all that is known by now of the flows that these are of."""

    flows: list[Flow]
    items: list[Message | Trouble]


def can_read_beside() -> bool:
    """Whether this process may be forked: by what it is itself, and where there is a second processor."""
    return hasattr(os, "fork") and threading.active_count() == 1 and (os.cpu_count() or 1) > 1


def read_beside(file: BinaryIO, keyring: Mapping[str, CryptoKey] | None = None) -> Iterator[Item]:
    """As `cephcaps.trace.read.read_trace`, of a file on disk; with the second process gone when it ends.

    Raises:
        NotACapture: the file is neither pcap nor pcapng.
        OSError: it cannot be read, or the process that did so was killed.
    """
    reading, writing = os.pipe()
    finder = os.fork()
    if not finder:
        os.close(reading)
        _find(file, keyring, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        try:
            yield from _received(pipe)
        finally:
            with suppress(ProcessLookupError):
                os.kill(finder, signal.SIGKILL)
            os.waitpid(finder, 0)


# In the process that finds


def _find(file: BinaryIO, keyring: Mapping[str, CryptoKey] | None, writing: int) -> NoReturn:
    """Tell what is in ``file``, and be gone: nothing that the parent has begun is to be ended twice."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # is meant for the parent, which ends this process
    with suppress(BaseException), open(writing, "wb") as pipe:
        ended: Exception | None = None
        try:
            encode = msgspec.msgpack.Encoder().encode
            for found in TraceReader(file, keyring).found():
                _send(pipe, encode(_packed(found)))
        except Exception as error:
            ended = error
        pipe.write(LENGTH.pack(0) + pickle.dumps(ended))
    os._exit(0)


def _send(pipe: BinaryIO, raw: bytes) -> None:
    pipe.write(LENGTH.pack(len(raw)))
    pipe.write(raw)


def _packed(found: list[Item]) -> Batch:
    flows: dict[int, Flow] = {}
    items: list[Message | Trouble] = []
    for item in found:
        flow = item.flow
        if flow is not None:
            flows[flow.number] = flow
        if isinstance(item, Traced):
            ns, flow, to_daemon, header, segments, _, leftover, _, resent = item
            items.append(Message(ns, flow.number, to_daemon, header, segments, leftover, resent))
        else:
            number = None if flow is None else flow.number
            items.append(Trouble(item.ns, number, item.to_daemon, item.kind, item.what, item.size))
    return Batch(list(flows.values()), items)


# In the process that asked


def _received(pipe: BinaryIO) -> Iterator[Item]:
    decode = msgspec.msgpack.Decoder(Batch).decode
    flows: WeakValueDictionary[int, Flow] = WeakValueDictionary()
    while size := LENGTH.unpack(_exactly(pipe, LENGTH.size))[0]:
        found = _unpacked(decode(_exactly(pipe, size)), flows)
        decode_all(found)
        yield from found
    ended = pickle.load(pipe)
    if ended is not None:
        raise ended


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    raw = pipe.read(size)
    if len(raw) < size:
        raise OSError(errno.EIO, "the process that read it was killed")
    return raw


def _unpacked(batch: Batch, flows: WeakValueDictionary[int, Flow]) -> list[Item]:
    """The items, of the very flows of those before them."""
    of: dict[int | None, Flow | None] = {None: None}
    for told in batch.flows:
        flow = of[told.number] = flows.setdefault(told.number, told)
        for name in FLOW_FIELDS:
            setattr(flow, name, getattr(told, name))
    return [
        _make(Traced, (item.ns, of[item.flow], item.to_daemon, item.header, item.segments, None, item.leftover, None,
                      item.resent))
        if isinstance(item, Message)
        else Problem(item.ns, of[item.flow], item.to_daemon, item.kind, item.what, item.size)
        for item in batch.items
    ]  # fmt: skip
