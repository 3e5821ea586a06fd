"""Where monitors may be: the option ``mon_host``.

Each item of the list is one monitor: an address, a name, or a group in brackets of one monitor's several addresses.
An address without ``v1:`` or ``v2:`` is told by its port, and may be both (ceph: src/mon/MonMap.cc, checked with the
monmaps that ``ceph --mon-host`` 16.2.15 makes of such texts).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

import msgspec

from cephcaps.config.show import shown
from cephcaps.errors import ConfigError

__all__ = ["V1_PORT", "V2_PORT", "MonAddress", "parse_mon_host"]

V2_PORT = 3300
"""A monitor's port for messenger v2 (IANA: ceph; ceph: src/include/msgr.h, ``CEPH_MON_PORT_IANA``)."""
V1_PORT = 6789
"""A monitor's port for messenger v1 (ceph: src/include/msgr.h, ``CEPH_MON_PORT_LEGACY``)."""

_FORMS = "write 10.0.0.1, [fd00::1]:3300, host.example, v2:10.0.0.1:3300 or [v2:10.0.0.1:3300,v1:10.0.0.1:6789]"
_HOST_PORT = re.compile(r"(?:\[([^][]*)\]|([^][:]*))(?::([0-9]{1,9}))?")
_DOTTED = re.compile(r"[0-9.]+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}")


class MonAddress(msgspec.Struct, frozen=True):
    """One address to try a monitor at."""

    protocol: Literal["v1", "v2"]
    host: str
    """An IPv4 or IPv6 address, without brackets, or a name that is still to be resolved."""
    port: int
    nonce: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}:{host}:{self.port}"


def parse_mon_host(text: str) -> tuple[tuple[MonAddress, ...], ...]:
    """The monitors ``text`` lists, each with the addresses to try, v2 first.

    Raises:
        ConfigError: an item is none of the forms, or there is none.
    """
    mons = tuple(dict.fromkeys(_mon(item) for item in _items(text)))
    if not mons:
        raise ConfigError(f"mon_host is empty: {_FORMS}")
    return mons


def _items(text: str) -> list[str]:
    """``text`` cut at commas, semicolons and blanks that stand outside brackets."""
    items, depth, start = [], 0, 0
    for at, char in enumerate(f"{text},"):
        if char in "[]":
            depth += 1 if char == "[" else -1
        elif char in ",; \t\r\n" and (depth <= 0 or at == len(text)):
            items.append(text[start:at])
            start = at + 1
    return [item for item in items if item]


def _mon(item: str) -> tuple[MonAddress, ...]:
    group = item[1:-1] if item[0] == "[" and item[-1] == "]" else item
    if "," in group:
        # Inside a group the stock tools take what has no tag as v2, whatever its port.
        members = (member.strip() for member in group.split(","))
        addresses = [address for member in members for address in _addresses(member, item, untagged="v2")]
    else:
        addresses = _addresses(group, item, untagged="any")
    return tuple(sorted(addresses, key=lambda address: address.protocol, reverse=True))


def _addresses(text: str, item: str, *, untagged: str) -> list[MonAddress]:
    """What one address of ``item`` stands for: one protocol, or both where neither tag nor port tells."""
    tag, _, tagged = text.partition(":")
    if tag in ("v1", "v2", "any"):
        text = tagged
    else:
        tag = untagged
    text, slash, nonce = text.partition("/")
    host, port = _host_port(text, item)
    if slash and not (nonce.isascii() and nonce.isdigit() and len(nonce) <= 10 and int(nonce) < 1 << 32):
        raise ConfigError(f"mon_host {shown(item)}: the nonce after / is no 32-bit number; {_FORMS}")
    if port > 0xFFFF:
        raise ConfigError(f"mon_host {shown(item)}: there is no port {port}; {_FORMS}")
    if tag == "any":
        tag = {V2_PORT: "v2", V1_PORT: "v1"}.get(port, tag)
    number = int(nonce or 0)
    both = [MonAddress("v2", host, port or V2_PORT, number), MonAddress("v1", host, port or V1_PORT, number)]
    return [address for address in both if tag in ("any", address.protocol)]


def _host_port(text: str, item: str) -> tuple[str, int]:
    """The host and port of ``text``; 0 where it has none, as port 0 also says."""
    if text.count(":") > 1 and not text.startswith("["):
        host, port = text, ""  # IPv6 without brackets, so without port
    elif found := _HOST_PORT.fullmatch(text):
        host, port = found[1] or found[2] or "", found[3] or ""
    else:
        raise ConfigError(f"mon_host {shown(item)} is not an address; {_FORMS}")
    try:
        if ":" in host:
            ipaddress.IPv6Address(host)
        elif _DOTTED.fullmatch(host):
            ipaddress.IPv4Address(host)
        elif not _NAME.fullmatch(host):
            raise ValueError("not a host name")
    except ValueError:
        raise ConfigError(f"mon_host {shown(item)} is neither an address nor a host name; {_FORMS}") from None
    return host, int(port or 0)
