"""From what a user has settled to a core that can connect."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from cephcaps.auth.cephx import Tickets
from cephcaps.auth.crypto import CryptoError, CryptoKey
from cephcaps.config import ClientConfig, MonAddress
from cephcaps.core import Core
from cephcaps.errors import ConfigError, ConnectionFailed
from cephcaps.mds.routing import Credentials
from cephcaps.messenger.link import Instance
from cephcaps.monitor.client import MonTimers
from cephcaps.version import VERSION
from cephcaps.walk import components
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityName

__all__ = ["con_modes", "make_core", "messenger_of", "resolve"]


def make_core(
    config: ClientConfig,
    monitors: tuple[EntityAddr, ...],
    root: str | None,
    whose: tuple[int, int, tuple[int, ...]],
    configured: Callable[[ClientConfig], tuple[ConMode, ...]],
) -> Core:
    """A core that has not connected yet.

    Args:
        monitors: as `resolve` gives them.
        root: directory to mount; the configuration's if None.
        whose: uid, gid and groups of the requests.
        configured: takes what the monitors set for clients, once it comes; gives the connection modes to offer MDSs.
    Raises:
        ConfigError: the key cannot be used.
        ValueError: ``root`` is no path.
    """
    key = None
    if config.key is not None:
        try:
            key = CryptoKey.from_base64(config.key.reveal())
        except CryptoError as error:
            raise ConfigError(f"the key of {config.name} cannot be used: {error}") from None
    root = root or config.mountpoint
    components(root)
    metadata = {
        "hostname": socket.gethostname(),
        "entity_id": config.name.id,
        "root": "/" + root.strip("/"),
        "pid": str(os.getpid()),
        "cephcaps_version": VERSION,
    }
    # A nonce of its own for every client: servers tell clients of one host apart by it.
    instance = Instance(int.from_bytes(os.urandom(4), "little") or 1, messenger_of(config))
    core = Core(
        Credentials(Tickets(EntityName.parse(config.name), key, os.urandom), instance, *whose),
        monitors,
        con_modes(config.mon_modes),
        con_modes(config.mds_modes),
        config.fs,
        root,
        metadata,
        MonTimers(config.mon_hunt_interval, config.mon_ping_interval, config.mon_ping_timeout),
        lambda values: configured(config.with_mon_values(values)),
    )
    core.mds.recovers = config.recovers
    core.mds.first_pause, core.mds.max_pause = config.initial_backoff, config.max_backoff
    return core


def con_modes(names: tuple[str, ...]) -> tuple[ConMode, ...]:
    return tuple(ConMode[name.upper()] for name in names)


def messenger_of(config: ClientConfig) -> AddrType:
    return AddrType.LEGACY if config.legacy else AddrType.MSGR2


async def resolve(mons: tuple[tuple[MonAddress, ...], ...], messenger: AddrType) -> tuple[EntityAddr, ...]:
    """The monitors' addresses for one messenger, names looked up.

    Raises:
        ConnectionFailed: no name resolves.
        ConfigError: there are addresses for the other messenger only.
    """
    loop = asyncio.get_running_loop()
    found: list[EntityAddr] = []
    failures: list[str] = []
    protocol = "v1" if messenger is AddrType.LEGACY else "v2"
    for mon in [address for addresses in mons for address in addresses if address.protocol == protocol]:
        try:
            infos = await loop.getaddrinfo(mon.host, mon.port, type=socket.SOCK_STREAM)
        except OSError as error:
            failures.append(f"{mon.host}: {error.strerror}")
            continue
        hosts = dict.fromkeys(info[4][0] for info in infos)
        found += [EntityAddr.make(messenger, str(host), mon.port, mon.nonce) for host in hosts]
    if failures and not found:
        raise ConnectionFailed(f"no monitor's name resolves: {'; '.join(failures)}; check mon_host")
    if not found and messenger is AddrType.LEGACY:
        raise ConfigError("mon_host names messenger v2 addresses only: add v1 ones (port 6789) or drop ms_mode legacy")
    if not found:
        raise ConfigError("mon_host names messenger v1 addresses only: add v2 ones (port 3300) or say ms_mode legacy")
    return tuple(dict.fromkeys(found))
