"""The options of ceph.conf that matter to a client, and what each one is worth in the end.

Layers give values, the highest that has the option wins: the call's own arguments, the environment, the file's
``[client.NAME]``, ``[client]`` and ``[global]`` sections, what the monitor provides, and the default written here
(ceph: src/common/config.cc). Names, defaults and units are the stock ones (``ceph-conf --show-config-value``, 16.2.15;
ceph: src/common/options).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from cephcaps.config.show import shown
from cephcaps.errors import ConfigError
from cephcaps.ini import normal_key

__all__ = ["OPTIONS", "EntityName", "Layer", "Option", "Options", "explicit_key"]

ENTITY_TYPES = ("client", "mon", "mds", "osd", "mgr", "auth")
"""What may stand before the dot of an entity's name (ceph: src/common/entity_name.cc)."""


class EntityName(str):
    """Who authenticates, such as "client.admin"; a plain string that knows its two parts.

    Raises:
        ConfigError: not TYPE.ID.
    """

    __slots__ = ()

    def __new__(cls, name: str) -> EntityName:
        kind, _, ident = name.partition(".")
        if kind not in ENTITY_TYPES or not ident or not ident.isprintable():
            raise ConfigError(
                f"name {shown(name)} is not TYPE.ID, such as client.admin; types: {', '.join(ENTITY_TYPES)}"
            )
        return super().__new__(cls, name)

    @property
    def type(self) -> str:
        return self.partition(".")[0]

    @property
    def id(self) -> str:
        return self.partition(".")[2]


class Option(msgspec.Struct, frozen=True):
    """One option."""

    name: str
    default: str
    about: str
    allowed: tuple[str, ...] = ()
    """The words a list may hold; empty where any will do."""
    from_mon: bool = True
    """Whether the monitor may provide it; not where it says how to reach the monitor in the first place."""


class Layer(NamedTuple):
    """Options of one origin."""

    source: str
    """Words for messages, such as "/etc/ceph/ceph.conf [global]"."""
    values: Mapping[str, str]


_MODES = ("crc", "secure")
_METHODS = ("cephx", "none", "gss")
_KEYRINGS = "/etc/ceph/$cluster.$name.keyring,/etc/ceph/$cluster.keyring,/etc/ceph/keyring,/etc/ceph/keyring.bin,"
_NO_FSID = "00000000-0000-0000-0000-000000000000"

OPTIONS = {
    option.name: option
    for option in (
        Option("mon_host", "", "where the monitors are", from_mon=False),
        Option("fsid", _NO_FSID, "the cluster's UUID; all zeros where any cluster will do", from_mon=False),
        Option("host", "", "this host's short name; found out where empty", from_mon=False),
        Option("run_dir", "/var/run/ceph", "here only because other options refer to it", from_mon=False),
        Option("key", "", "the key itself in base64; beats keyfile and keyring", from_mon=False),
        Option("keyfile", "", "a file of one key in base64 and nothing else; beats keyring", from_mon=False),
        Option("keyring", _KEYRINGS, "files of keys, the first that exists is used", from_mon=False),
        Option("auth_supported", "", "beats auth_client_required where set", _METHODS),
        Option("auth_client_required", "cephx, none", "how the client may authenticate, best first", _METHODS),
        Option("ms_mon_client_mode", "secure crc", "connection modes with monitors, best first", _MODES),
        Option("ms_client_mode", "crc secure", "connection modes with MDSs, best first", _MODES),
        Option("client_fs", "", "the file system to mount; the cluster's default one where empty"),
        Option("client_mds_namespace", "", "the older name of client_fs"),
        Option("client_mountpoint", "/", "the directory of the file system to mount as root"),
        Option("client_snapdir", ".snap", "the name under which a directory has its snapshots"),
        Option(
            "recover_session", "no", "what to do once blocklisted: no, or clean, which begins anew with nothing cached"
        ),
        Option("client_mount_timeout", "300", "seconds a mount may take"),
        Option("mon_client_hunt_interval", "3", "seconds before another monitor is tried"),
        Option("mon_client_ping_interval", "10", "seconds between keepalives to the monitor"),
        Option("mon_client_ping_timeout", "30", "seconds without answer until another monitor is looked for"),
        Option("ms_initial_backoff", "0.2", "seconds before the first reconnect"),
        Option("ms_max_backoff", "15", "seconds that the doubling pauses between reconnects end at"),
    )
}
"""By name. The monitor's word on those marked ``from_mon=False`` comes too late (ceph: flag NO_MON_UPDATE)."""

_FROM_MON = "the monitor"

_UNITS = {
    unit: seconds
    for seconds, units in (
        (1, ("", "s", "sec", "second", "seconds")),
        (60, ("m", "min", "minute", "minutes")),
        (3600, ("h", "hr", "hour", "hours")),
        (86400, ("d", "day", "days")),
        (7 * 86400, ("w", "wk", "week", "weeks")),
        (30 * 86400, ("mo", "month", "months")),
        (365 * 86400, ("y", "yr", "year", "years")),
    )
    for unit in units
}
"""Seconds in each unit a time may carry (ceph: src/common/util.cc, ``parse_timespan``)."""

_TIME = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(?:[eE]([+-]?[0-9]{1,2}))?\s*([a-z]{0,7})")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORD_ENDS = re.compile(r"[;,= \t]+")
_REFERENCE = re.compile(r"\$(?:\{([a-z_]*)(\}?)|([a-z_]+))")
_LARGEST = 1 << 16
"""Characters all of an expansion's parts may have: options that refer to each other can double at every step."""


class Options:
    """What each option is worth to ``name``; no repr shows a value, as one of them is the key."""

    def __init__(self, name: EntityName, cluster: str, layers: Sequence[Layer], *, home: str = "") -> None:
        self.name = name
        self.cluster = cluster
        self.layers: tuple[Layer, ...] = tuple(layers)
        self.home = home

    def __repr__(self) -> str:
        return f"Options({self.name}, {', '.join(layer.source for layer in self.layers)})"

    def with_mon_values(self, values: Mapping[str, str]) -> Options:
        """The same with what the monitor provides now, in place of what it did before; it beats only the defaults."""
        usable = {key: value for key, value in values.items() if key in OPTIONS and OPTIONS[key].from_mon}
        layers = [layer for layer in self.layers if layer.source != _FROM_MON]
        return Options(self.name, self.cluster, [*layers, Layer(_FROM_MON, usable)], home=self.home)

    def given(self, name: str) -> Layer | None:
        """The layer that ``name`` comes from, None for the default."""
        return next((layer for layer in self.layers if name in layer.values), None)

    def raw(self, name: str) -> str:
        """``name``'s value as it was written."""
        layer = self.given(name)
        return OPTIONS[name].default if layer is None else layer.values[name]

    def text(self, name: str) -> str:
        """``name``'s value with what it refers to in place."""
        return self.expand(self.raw(name), name)

    def words(self, name: str) -> tuple[str, ...]:
        """A list's words in order, each once.

        Raises:
            ConfigError: a word that is not allowed, or none.
        """
        allowed = OPTIONS[name].allowed
        words = tuple(dict.fromkeys(word for word in _WORD_ENDS.split(self.text(name)) if word))
        if not words or any(word not in allowed for word in words):
            raise self.refused(name, f"a list of {', '.join(allowed)}")
        return words

    def seconds(self, name: str) -> float:
        """A time; in any option it may carry a unit, as ``client_mount_timeout`` may with the stock client.

        Raises:
            ConfigError: not a time.
        """
        found = _TIME.fullmatch(self.text(name).strip())
        if not found or found[3] not in _UNITS:
            raise self.refused(name, "seconds, or a number with s, min, h, d or w")
        return float(f"{found[1]}e{found[2] or 0}") * _UNITS[found[3]]

    def uuid(self, name: str) -> str | None:
        """A UUID in lower case, None for the one of zeros.

        Raises:
            ConfigError: not a UUID.
        """
        text = self.text(name).strip().lower() or _NO_FSID
        if not _UUID.fullmatch(text):
            raise self.refused(name, f"a UUID such as {_NO_FSID}")
        return None if text == _NO_FSID else text

    def refused(self, name: str, wanted: str) -> ConfigError:
        """The error that says what ``name`` is and where it was set, and what it may be."""
        layer = self.given(name)
        source = "the default" if layer is None else layer.source
        return ConfigError(f"{name} = {shown(self.text(name))} ({source}) is not {wanted}")

    def expand(self, text: str, of: str = "") -> str:
        """``text``, the value of option ``of``, with each ``$name`` and ``${name}`` it holds replaced.

        Names are those of options known here and of: cluster, type, id, num (the id again), name, host, pid, home. Any
        other, ``$$`` and a name within its own value stay as they are, and so does ``$key``: a key must not get into
        a text that a message may show.

        Raises:
            ConfigError: the options referred to grow past all measure.
        """
        facts = {
            "cluster": self.cluster,
            "type": self.name.type,
            "id": self.name.id,
            "num": self.name.id,
            "name": str(self.name),
            "pid": str(os.getpid()),
            "home": self.home,
        }
        left = _LARGEST

        def expanded(text: str, within: tuple[str, ...]) -> str:
            def replacement(found: re.Match[str]) -> str:
                nonlocal left
                braced, closed, bare = found.groups()
                name = bare or braced
                if not bare and not (name and closed):
                    return "$"  # the stock parser drops what follows a brace without a name or an end
                if name in facts:
                    value = facts[name]
                elif name not in OPTIONS or name == "key" or name in within:
                    return found[0]
                else:
                    value = expanded(self.raw(name), (*within, name))
                    if name == "host" and not value:
                        value = os.uname().nodename.partition(".")[0]
                left -= len(value) + 1
                if left < 0:
                    raise ConfigError(f"{of or shown(text)} refers to options that refer to others without end")
                return value

            return _REFERENCE.sub(replacement, text)

        return expanded(text, (of,))


def explicit_key(name: str) -> str:
    """The option a caller means by ``name``, in which dashes count as underscores.

    Raises:
        ConfigError: there is no such option here.
    """
    key = normal_key(name).replace("-", "_")
    if key not in OPTIONS:
        near = difflib.get_close_matches(key[:100], OPTIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(OPTIONS)}"
        raise ConfigError(f"option {shown(name)} is not one that cephcaps reads; {hint}")
    return key
