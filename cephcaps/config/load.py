"""From ceph.conf, the environment and the call's arguments to what a client needs to know before it connects."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

from cephcaps.auth.keyring import KeyText
from cephcaps.config.files import Found, read_first, split_paths
from cephcaps.config.key_search import find_key
from cephcaps.config.mon_host import MonAddress, parse_mon_host
from cephcaps.config.options import EntityName, Layer, Options, explicit_key
from cephcaps.config.show import shown
from cephcaps.errors import ConfigError
from cephcaps.ini import parse_ini

__all__ = ["ClientConfig", "load_config", "with_ceph_args"]

CONF_SEARCH = ("/etc/ceph/$cluster.conf", "$home/.ceph/$cluster.conf", "$cluster.conf")
"""Where ceph.conf is looked for (ceph: src/common/config.cc, ``CEPH_CONF_FILE_DEFAULT``)."""

LEGACY = "legacy"
"""The ``ms_mode`` of messenger v1, which has no modes to list."""
MS_MODES = {
    "secure": "secure",
    "crc": "crc",
    "prefer-secure": "secure crc",
    "prefer-crc": "crc secure",
}
"""``ms_mode``, spelled as the kernel client's mount option, as the list of modes it stands for."""


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to know before it connects. No repr shows the key."""

    cluster: str
    name: EntityName
    conf_path: str | None
    """The ceph.conf that was read, None where the call said enough without."""
    fsid: str | None
    """The cluster's UUID, None where it is not said."""
    mons: tuple[tuple[MonAddress, ...], ...]
    """The monitors, each with its addresses, v2 first. Names are still to be resolved."""
    key: KeyText | None
    """None where ``auth_methods`` does not hold "cephx"."""
    auth_methods: tuple[str, ...]
    """"cephx" and "none", best first."""
    fs: str | None
    """The file system's name, None for the cluster's default."""
    mountpoint: str
    """The directory to mount as root."""
    snapdir: str
    """The name under which a directory has its snapshots."""
    recovers: bool
    """Whether to begin anew once blocklisted: ``recover_session``, spelled as the kernel client's mount option."""
    mon_modes: tuple[str, ...]
    """Connection modes to offer monitors, "crc" and "secure", best first."""
    mds_modes: tuple[str, ...]
    """The same for MDSs."""
    legacy: bool
    """Whether to speak messenger v1 with all of them, where no mode counts."""
    mount_timeout: float
    """This and what follows are seconds; OPTIONS says what each is for."""
    mon_hunt_interval: float
    mon_ping_interval: float
    mon_ping_timeout: float
    initial_backoff: float
    max_backoff: float
    options: Options

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "options")
        return f"ClientConfig({', '.join(shown)})"

    def with_mon_values(self, values: Mapping[str, str]) -> ClientConfig:
        """The same with what the monitor's MConfig provides, which beats the defaults and nothing else.

        Raises:
            ConfigError: a value of no use.
        """
        options = self.options.with_mon_values(values)
        return _config(options, self.conf_path, self.key, self.auth_methods, legacy=self.legacy)


def load_config(
    conf: str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    name: str | None = None,
    keyring: str | os.PathLike[str] | None = None,
    mon_host: str | None = None,
    fs: str | None = None,
    ms_mode: str | None = None,
    options: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ClientConfig:
    """Read ceph.conf and the keyring as Ceph's own tools do.

    Args:
        conf: the ceph.conf, or several with commas between, of which the first that opens is used; else CEPH_CONF,
            else /etc/ceph, ~/.ceph and the working directory are searched. Where ``mon_host`` is given, the search may
            find none.
        cluster: what ``$cluster`` stands for; else the stem of ``conf``, else "ceph".
        name: TYPE.ID of who authenticates, else "client.admin".
        keyring: as the option keyring, one file or several.
        ms_mode: "secure", "crc", "prefer-secure", "prefer-crc" or "legacy"; None leaves it to the options, which know
            no "legacy".
        options: ceph.conf options that beat the file's; dashes count as underscores.
    Raises:
        ConfigError: what was read or asked for cannot be used; one line that says where and what to do.
    """
    entity = EntityName(name or "client.admin")
    home = environ.get("HOME", "")
    call = _call_values(options or {}, keyring=keyring, mon_host=mon_host, fs=fs, ms_mode=ms_mode)
    found = _read_conf(conf, Options(entity, cluster or "ceph", [], home=home), environ, optional="mon_host" in call)
    layers = [
        Layer("given in the call", call),
        Layer("environment", _environment_values(environ)),
        *_layers(found, entity),
    ]
    resolved = Options(entity, cluster or _cluster_of(conf, found), layers, home=home)
    if not resolved.text("mon_host").strip():
        where = f"in {shown(found.path)}" if found else "given"
        raise ConfigError(f"no mon_host {where}: set it in [global] or pass mon_host= (-m); DNS SRV is not looked up")
    methods = _auth_methods(resolved)
    key = None
    if "cephx" in methods:
        # No keyring means no authentication only where the user allows that in so many words; the default list's
        # "none" would turn a forgotten keyring into a refusal by the monitor.
        key = find_key(resolved, required="none" not in methods or not _auth_given(resolved))
        methods = methods if key else ("none",)
    return _config(resolved, found.path if found else None, key, methods, legacy=ms_mode == LEGACY)


def with_ceph_args(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """``argv`` with the words of CEPH_ARGS put first, and those past its ``--`` put last.

    Words are cut at spaces and at nothing else: the stock tools know no quotes there either.
    """
    words = [word for word in environ.get("CEPH_ARGS", "").split(" ") if word]
    if "--" not in words:
        return [*words, *argv]
    end = words.index("--")
    return [*words[:end], *argv, *([] if "--" in argv else ["--"]), *words[end + 1 :]]


def _call_values(
    options: Mapping[str, object],
    *,
    keyring: str | os.PathLike[str] | None,
    mon_host: str | None,
    fs: str | None,
    ms_mode: str | None,
) -> dict[str, str]:
    """What the call asked for, as options."""
    values = {explicit_key(name): str(value) for name, value in options.items()}
    if ms_mode is not None and ms_mode != LEGACY:
        if ms_mode not in MS_MODES:
            raise ConfigError(f"ms_mode {shown(ms_mode)} is not one of {', '.join((*MS_MODES, LEGACY))}")
        values["ms_client_mode"] = values["ms_mon_client_mode"] = MS_MODES[ms_mode]
    if keyring is not None:
        values["keyring"] = os.fspath(keyring)
    if mon_host is not None:
        values["mon_host"] = mon_host
    if fs is not None:
        values["client_fs"] = fs
    return values


def _environment_values(environ: Mapping[str, str]) -> dict[str, str]:
    """Options the environment sets; an empty variable counts as none."""
    keyring = environ.get("CEPH_KEYRING")
    return {"keyring": keyring} if keyring else {}


def _read_conf(
    conf: str | os.PathLike[str] | None, options: Options, environ: Mapping[str, str], *, optional: bool
) -> Found | None:
    """The ceph.conf to use; None where there is none to be found and none needed."""
    named = os.fspath(conf) if conf else environ.get("CEPH_CONF")
    if not named:
        paths = [options.expand(path) for path in CONF_SEARCH if options.home or "$home" not in path]
    elif isinstance(conf, str) or not conf:
        paths = split_paths(options.expand(named))
    else:
        paths = [named]
    found, tried = read_first(paths)
    if found is None and (named or not optional):
        raise ConfigError(
            f"no ceph.conf could be read: {tried.text}; name one with conf= (-c) or CEPH_CONF, or give mon_host",
            errno=tried.errno,
        )
    return found


def _cluster_of(conf: str | os.PathLike[str] | None, found: Found | None) -> str:
    """``$cluster`` where nobody says it: the stem of a file that the call names and that ends in .conf.

    A file that CEPH_CONF names leaves it at "ceph" (``ceph-conf`` 16.2.15).
    """
    if conf and found:
        base = os.path.basename(found.path)
        stem = base.removesuffix(".conf")
        if stem not in ("", base):
            return stem
    return "ceph"


def _layers(found: Found | None, name: EntityName) -> list[Layer]:
    """The file's sections that matter to ``name``, the nearest first."""
    if found is None:
        return []
    sections = parse_ini(found.text, shown(found.path))
    titles = (name, name.type, "global")
    return [Layer(f"{shown(found.path)} [{title}]", sections[title]) for title in titles if title in sections]


def _auth_given(options: Options) -> bool:
    return any(options.given(name) for name in ("auth_supported", "auth_client_required"))


def _auth_methods(options: Options) -> tuple[str, ...]:
    """The methods both the user allows and this client has."""
    option = "auth_supported" if options.text("auth_supported").strip() else "auth_client_required"
    methods = tuple(method for method in options.words(option) if method != "gss")
    if not methods:
        raise options.refused(option, "cephx or none; gss is not supported")
    return methods


def _recovers(options: Options) -> bool:
    word = options.text("recover_session").strip()
    if word not in ("no", "clean"):
        raise options.refused("recover_session", "no or clean")
    return word == "clean"


def _config(
    options: Options, conf_path: str | None, key: KeyText | None, auth_methods: tuple[str, ...], *, legacy: bool
) -> ClientConfig:
    mountpoint = options.text("client_mountpoint") or "/"
    if not mountpoint.startswith("/"):
        raise options.refused("client_mountpoint", "an absolute path")
    return ClientConfig(
        cluster=options.cluster,
        name=options.name,
        conf_path=conf_path,
        fsid=options.uuid("fsid"),
        mons=parse_mon_host(options.text("mon_host")),
        key=key,
        auth_methods=auth_methods,
        fs=options.text("client_fs") or options.text("client_mds_namespace") or None,
        mountpoint=mountpoint,
        snapdir=options.text("client_snapdir"),
        recovers=_recovers(options),
        mon_modes=options.words("ms_mon_client_mode"),
        mds_modes=options.words("ms_client_mode"),
        legacy=legacy,
        mount_timeout=options.seconds("client_mount_timeout"),
        mon_hunt_interval=options.seconds("mon_client_hunt_interval"),
        mon_ping_interval=options.seconds("mon_client_ping_interval"),
        mon_ping_timeout=options.seconds("mon_client_ping_timeout"),
        initial_backoff=options.seconds("ms_initial_backoff"),
        max_backoff=options.seconds("ms_max_backoff"),
        options=options,
    )
