"""How to reach a cluster and who to be there: ceph.conf, keyrings, the environment and what a call asks for."""

from cephcaps.auth.keyring import KeyText
from cephcaps.config.load import ClientConfig, load_config, with_ceph_args
from cephcaps.config.mon_host import MonAddress, parse_mon_host
from cephcaps.config.options import OPTIONS, EntityName, Layer, Option, Options

__all__ = [
    "OPTIONS",
    "ClientConfig",
    "EntityName",
    "KeyText",
    "Layer",
    "MonAddress",
    "Option",
    "Options",
    "load_config",
    "parse_mon_host",
    "with_ceph_args",
]
