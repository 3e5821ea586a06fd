"""Finding the client's key: option ``key``, else ``keyfile``, else a keyring (ceph: KeyRing::from_ceph_context)."""

from __future__ import annotations

import stat

from cephcaps.auth.keyring import KeyText, parse_keyring
from cephcaps.config.files import Found, read_first, split_paths
from cephcaps.config.options import Options
from cephcaps.config.show import shown
from cephcaps.errors import ConfigError

__all__ = ["find_key"]

_REMEDY = "name a keyring with keyring= (-k), CEPH_KEYRING or the option keyring"


def find_key(options: Options, *, required: bool) -> KeyText | None:
    """The key of ``options.name``; None where no keyring could be opened and none is ``required``.

    Raises:
        ConfigError: there is no key, or there is a key or keyring and it is of no use to this entity.
    """
    if (key := options.raw("key")) and (layer := options.given("key")):
        return KeyText(key, f"option key ({layer.source})")
    if keyfile := options.text("keyfile"):
        found, tried = read_first([keyfile])
        if found is None:
            raise ConfigError(f"cannot read the keyfile of {options.name}: {tried.text}; {_REMEDY}", errno=tried.errno)
        return _from_file(KeyText(found.text, f"keyfile {shown(found.path)}"), found)
    found, tried = read_first(split_paths(options.text("keyring")))
    if found is not None:
        return _from_file(_from_keyring(options, found.path, found.text), found)
    if required:
        why = tried.text or "none is named"
        raise ConfigError(f"no keyring for {options.name} could be read: {why}; {_REMEDY}", errno=tried.errno)
    return None


def _from_keyring(options: Options, path: str, text: str) -> KeyText:
    keys = parse_keyring(text, shown(path))
    if options.name in keys:
        return keys[options.name]
    if keys:
        remedy = f"it has {shown(', '.join(keys))}: pick one with name= (-n), or {_REMEDY}"
    else:
        remedy = f"it has no [entity] section with a key (a file with only a key is a keyfile); {_REMEDY}"
    raise ConfigError(f"keyring {shown(path)} has no key for {options.name}; {remedy}")


def _from_file(key: KeyText, found: Found) -> KeyText:
    if found.mode & stat.S_IROTH:
        key.exposed = f"{shown(found.path)}, of mode {stat.S_IMODE(found.mode):04o}"
    return key
