"""What a trace holds, as facts for JSON: every field of every message, caps and ops and flags in Ceph's words.

For each class of message one function is made, on first use, that turns it into a struct of the same fields in which
`cephcaps.trace.fields` has had its say; what needs no turning is passed on as it is. `msgspec.json` writes the result
in a few microseconds. Numbers are numbers, times are nanoseconds, bytes are hex; a name keeps bytes that are no UTF-8
as surrogates, which whoever writes JSON has to spell out.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from cephcaps.trace.fields import MEANINGS, SHOWN_AS, TYPES, UUIDS, WHOLE
from cephcaps.trace.items import Flow, Problem, Traced
from cephcaps.trace.words import octets, uuid
from cephwire.codec import Leftover
from cephwire.entity import EntityNum, EntityType
from cephwire.frames import MessageHeader

__all__ = ["ConnectionFacts", "MessageFacts", "ProblemFacts", "client_of", "daemon_of", "facts", "message_facts"]

UNSET: Final = msgspec.UNSET
UnsetType = msgspec.UnsetType
NEEDS_NOTHING: Final = (int, str, bool, float, types.NoneType)


class ConnectionFacts(msgspec.Struct, frozen=True, gc=False):
    """A `Flow`, as far as it does not stand in the message's own line."""

    number: int
    client_addr: str
    daemon_addr: str
    messenger: int | None
    secure: bool


class MessageFacts(msgspec.Struct, frozen=True, gc=False):
    """A `Traced` message."""

    time_ns: int
    type: str
    client: str | None
    """``client.4123``; None while its id is unknown."""
    daemon: str | None
    """``mds.0``, ``mon.?`` while its number is unknown, None while its type is."""
    direction: str
    """``to_daemon`` or ``to_client``."""
    message: Any
    """The message's own fields; None where it could not be decoded."""
    header: MessageHeader
    size: int
    """Bytes of front, middle and data."""
    connection: ConnectionFacts
    file: str | UnsetType = UNSET
    """The capture, where there are several."""
    resent: bool | UnsetType = UNSET
    leftover: tuple[dict[str, Any], ...] | UnsetType = UNSET
    error: str | UnsetType = UNSET
    """Why it could not be decoded; then the segments follow, in hex."""
    front: str | UnsetType = UNSET
    middle: str | UnsetType = UNSET
    data: str | UnsetType = UNSET


class ProblemFacts(msgspec.Struct, frozen=True, gc=False):
    """A `Problem`."""

    problem: str
    time_ns: int
    what: str
    size: int
    client: str | UnsetType | None = UNSET
    daemon: str | UnsetType | None = UNSET
    direction: str | UnsetType | None = UNSET
    connection: ConnectionFacts | UnsetType = UNSET
    file: str | UnsetType = UNSET


def facts(item: Traced | Problem) -> MessageFacts | ProblemFacts:
    """All there is to say of ``item``."""
    return _problem(item) if isinstance(item, Problem) else _traced(item)


def _traced(item: Traced) -> MessageFacts:
    ns, flow, to_daemon, header, segments, message, leftover, error, resent = item
    front, middle, data = segments
    told = MessageFacts(
        ns,
        TYPES[header.type],
        client_of(flow),
        daemon_of(flow),
        "to_daemon" if to_daemon else "to_client",
        None if message is None else message_facts(message),
        header,
        len(front) + len(middle) + len(data),
        _connection(flow),
    )
    if not (resent or leftover or error):
        return told
    return msgspec.structs.replace(
        told,
        resent=resent or UNSET,
        leftover=tuple(map(Leftover._asdict, leftover)) or UNSET,
        error=UNSET if error is None else str(error),
        front=UNSET if error is None else octets(front),
        middle=UNSET if error is None else octets(middle),
        data=UNSET if error is None else octets(data),
    )


def _problem(item: Problem) -> ProblemFacts:
    if (flow := item.flow) is None:
        return ProblemFacts(item.kind, item.ns, item.what, item.size)
    direction = None if item.to_daemon is None else "to_daemon" if item.to_daemon else "to_client"
    return ProblemFacts(
        item.kind, item.ns, item.what, item.size, client_of(flow), daemon_of(flow), direction, _connection(flow)
    )


def client_of(flow: Flow) -> str | None:
    """``client.4123``, None while its id is unknown."""
    return None if flow.client_id is None else _name(EntityType.CLIENT, flow.client_id)


def daemon_of(flow: Flow) -> str | None:
    """``mds.0``, ``mon.?`` while its number is unknown; None while its type is."""
    return (
        None
        if flow.daemon_type is None
        else _name(flow.daemon_type, -1 if flow.daemon_num is None else flow.daemon_num)
    )


@lru_cache(1024)
def _name(type: int, num: int) -> str:
    return str(EntityNum(type, num))


def _connection(flow: Flow) -> ConnectionFacts:
    return ConnectionFacts(flow.number, flow.client, flow.daemon, flow.messenger, flow.secure)


def message_facts(message: Any) -> Any:
    """The fields of any struct of the wire, ready for `msgspec.json`."""
    return _TURNED[type(message)](message)


# Making the functions

Turn = Callable[[Any], Any]


class _Turned(dict[type, Turn]):
    """Class -> the function that turns its values into facts."""

    def __missing__(self, cls: type) -> Turn:
        self[cls] = turn = _function(cls)
        return turn


_TURNED: Final = _Turned({bytes: octets, **SHOWN_AS})


def _as_it_is(value: Any) -> Any:
    return value


def _function(cls: type) -> Turn:
    if not issubclass(cls, msgspec.Struct) or not _needs_turning(cls):
        return _as_it_is
    hints = typing.get_type_hints(cls)
    fields = msgspec.structs.fields(cls)
    shape = msgspec.defstruct(
        f"{cls.__name__}Facts",
        [(field.name, Any) for field in fields],
        frozen=True,
        gc=False,
        rename={field.name: field.name.rstrip("_") for field in fields},
    )
    names: dict[str, Any] = {"Facts": shape, "turned": _TURNED}
    values = [_field(cls, field.name, hints[field.name], names) for field in fields]
    source = f"def turn(m): return Facts({', '.join(values)})"
    exec(compile(source, f"<facts of {cls.__name__}>", "exec"), names)
    turn: Turn = names["turn"]
    return turn


def _field(cls: type, name: str, hint: Any, names: dict[str, Any]) -> str:
    """The expression that gives what is shown of a field."""
    if (whole := WHOLE.get(cls, {}).get(name)) is not None:
        names[f"whole_{name}"] = whole
        return f"whole_{name}(m)"
    if (meaning := MEANINGS.get(cls, {}).get(name)) is not None:
        names[f"of_{name}"] = meaning
        return f"of_{name}(m.{name})" if callable(meaning) else f"of_{name}[m.{name}]"
    if name in UUIDS and hint is bytes:
        names["uuid"] = uuid
        return f"uuid(m.{name})"
    return _value(hint, f"m.{name}", names)


def _value(hint: Any, source: str, names: dict[str, Any]) -> str:
    """The expression that turns a value of type ``hint``."""
    if not _needs_turning(hint):
        return source
    if hint is bytes:
        names["octets"] = octets
        return f"({source} and octets({source}))"
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return f"({source} and [{_value(args[0], 'x', names)} for x in {source}])"
    if origin is dict:
        pairs = f"{_value(args[0], 'k', names)}: {_value(args[1], 'v', names)}"
        return f"({source} and {{{pairs} for k, v in {source}.items()}})"
    if origin is None:
        name = f"turn{len(names)}"
        names[name] = _TURNED[hint]
        return f"{name}({source})"
    classes = [arg for arg in args if arg is not types.NoneType]
    if len(classes) == 1:
        return f"({source} and {_value(classes[0], source, names)})"
    return f"turned[{source}.__class__]({source})"


def _needs_turning(hint: Any) -> bool:
    """Whether `msgspec.json` alone would not show values of type ``hint`` as they should be."""
    if hint in NEEDS_NOTHING:
        return False
    if typing.get_origin(hint) is not None:
        return any(_needs_turning(arg) for arg in typing.get_args(hint) if arg is not Ellipsis)
    if hint is bytes or hint in SHOWN_AS or hint in MEANINGS or hint in WHOLE:
        return True
    return any(_needs_turning(field) or name.endswith("_") for name, field in typing.get_type_hints(hint).items())
