"""The keys that open a captured connection, given as Ceph's own tools take a client's key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cephcaps.auth.crypto import CryptoError, CryptoKey
from cephcaps.auth.keyring import KeyText, parse_keyring
from cephcaps.config.files import read_first, split_paths
from cephcaps.config.options import EntityName, Layer, Options, explicit_key
from cephcaps.config.show import shown
from cephcaps.errors import ConfigError

__all__ = ["trace_keys"]


def trace_keys(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, CryptoKey] | None:
    """The key of each entity that was given one, None if nothing was given.

    A keyring gives all it holds. The usual places of keyrings are not searched: what is there need not have to do with
    the capture.

    Args:
        given: what the command line says, as for `cephcaps.connect`.
    Raises:
        ConfigError: what was given is of no use. No message holds a key.
    """
    values = {explicit_key(name): str(value) for name, value in given.get("options", {}).items()}
    if keyring := given.get("keyring") or environ.get("CEPH_KEYRING"):
        values["keyring"] = keyring
    entity = EntityName(given.get("name") or "client.admin")
    options = Options(
        entity, given.get("cluster") or "ceph", [Layer("given in the call", values)], home=environ.get("HOME", "")
    )
    if key := values.get("key"):
        return {entity: _usable(KeyText(key, "option key"), entity)}
    for option, read in (("keyfile", _keyfile), ("keyring", parse_keyring)):
        if option in values:
            paths = split_paths(options.text(option)) if option == "keyring" else [options.text(option)]
            found, tried = read_first(paths)
            if found is None:
                raise ConfigError(f"the {option} could not be read: {tried.text}", errno=tried.errno)
            keys = read(found.text, shown(found.path))
            return {name or entity: _usable(key, name or entity) for name, key in keys.items()}
    return None


def _keyfile(text: str, source: str) -> dict[str, KeyText]:
    return {"": KeyText(text, f"keyfile {source}")}


def _usable(key: KeyText, whose: str) -> CryptoKey:
    try:
        return CryptoKey.from_base64(key.reveal())
    except CryptoError as error:
        raise ConfigError(f"the key of {shown(whose)} cannot be used: {error}") from None
