"""CLIENT_METRICS: what a client tells rank 0 about its own performance."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from cephwire.inode import UNKNOWN_VERSIONED, UnknownVersioned
from cephwire.message import Message
from cephwire.schema import Counted, Int32ul, Int64ul, Record, Since, Struct, Switch, Utime, Versioned

__all__ = [
    "CLIENT_METRICS",
    "CapInfo",
    "ClientMetrics",
    "DentryLease",
    "IoSizes",
    "Latency",
    "Metric",
    "MetricType",
    "OpenedFiles",
    "OpenedInodes",
    "PinnedIcaps",
]


class MetricType(IntEnum):
    """ceph: src/include/cephfs/metrics/Types.h, ``CLIENT_METRIC_TYPE_*``; also the bits of `MetricSpec`."""

    CAP_INFO = 0
    READ_LATENCY = 1
    WRITE_LATENCY = 2
    METADATA_LATENCY = 3
    DENTRY_LEASE = 4
    OPENED_FILES = 5
    PINNED_ICAPS = 6
    OPENED_INODES = 7
    READ_IO_SIZES = 8
    WRITE_IO_SIZES = 9
    AVG_READ_LATENCY = 10
    """This and the next name parts of the latencies' version 2: bits only, never sent by themselves."""
    STDEV_READ_LATENCY = 11
    AVG_WRITE_LATENCY = 12
    STDEV_WRITE_LATENCY = 13
    AVG_METADATA_LATENCY = 14
    STDEV_METADATA_LATENCY = 15


class CapInfo(msgspec.Struct, frozen=True, gc=False):
    """How often a lookup was answered under caps held."""

    cap_hits: int
    cap_misses: int
    num_caps: int


class Latency(msgspec.Struct, frozen=True, gc=False):
    """Of reads, writes or requests, since the session opened."""

    lat: int
    """Nanoseconds, all together."""
    mean: int = 0
    """Nanoseconds. Since version 2, as the next two."""
    sq_sum: int = 0
    """Of the deviations from the mean, nanoseconds squared."""
    count: int = 0


class DentryLease(msgspec.Struct, frozen=True, gc=False):
    """How often a lookup was answered under a lease held."""

    dlease_hits: int
    dlease_misses: int
    num_dentries: int


class OpenedFiles(msgspec.Struct, frozen=True, gc=False):
    opened_files: int
    total_inodes: int


class PinnedIcaps(msgspec.Struct, frozen=True, gc=False):
    pinned_icaps: int
    total_inodes: int


class OpenedInodes(msgspec.Struct, frozen=True, gc=False):
    opened_inodes: int
    total_inodes: int


class IoSizes(msgspec.Struct, frozen=True, gc=False):
    """Reads or writes of data."""

    total_ops: int
    total_size: int
    """Bytes."""


MetricValue: TypeAlias = (
    CapInfo | Latency | DentryLease | OpenedFiles | PinnedIcaps | OpenedInodes | IoSizes | UnknownVersioned
)


class Metric(msgspec.Struct, frozen=True, gc=False):
    """One figure."""

    type: int
    """`MetricType`."""
    value: MetricValue


class ClientMetrics(msgspec.Struct, frozen=True, gc=False):
    """Client to MDS, about once a second."""

    metrics: tuple[Metric, ...]


_LATENCY: Final = Versioned(
    2,
    Record(
        Latency,
        Struct("lat" / Utime, "mean" / Since(2, Utime), "sq_sum" / Since(2, Int64ul), "count" / Since(2, Int64ul)),
    ),
)
_IO_SIZES: Final = Versioned(1, Record(IoSizes, Struct("total_ops" / Int64ul, "total_size" / Int64ul)))

METRIC: Final = Record(
    Metric,
    Struct(
        "type" / Int32ul,
        "value"
        / Switch(
            "type",
            {
                MetricType.CAP_INFO: Versioned(
                    1,
                    Record(CapInfo, Struct("cap_hits" / Int64ul, "cap_misses" / Int64ul, "num_caps" / Int64ul)),
                ),
                MetricType.READ_LATENCY: _LATENCY,
                MetricType.WRITE_LATENCY: _LATENCY,
                MetricType.METADATA_LATENCY: _LATENCY,
                MetricType.DENTRY_LEASE: Versioned(
                    1,
                    Record(
                        DentryLease,
                        Struct("dlease_hits" / Int64ul, "dlease_misses" / Int64ul, "num_dentries" / Int64ul),
                    ),
                ),
                MetricType.OPENED_FILES: Versioned(
                    1, Record(OpenedFiles, Struct("opened_files" / Int64ul, "total_inodes" / Int64ul))
                ),
                MetricType.PINNED_ICAPS: Versioned(
                    1, Record(PinnedIcaps, Struct("pinned_icaps" / Int64ul, "total_inodes" / Int64ul))
                ),
                MetricType.OPENED_INODES: Versioned(
                    1, Record(OpenedInodes, Struct("opened_inodes" / Int64ul, "total_inodes" / Int64ul))
                ),
                MetricType.READ_IO_SIZES: _IO_SIZES,
                MetricType.WRITE_IO_SIZES: _IO_SIZES,
            },
            UNKNOWN_VERSIONED,
        ),
    ),
)
"""``ClientMetricMessage`` and its payloads (ceph: src/include/cephfs/metrics/Types.h)."""

CLIENT_METRICS: Final = Message[ClientMetrics](29, Record(ClientMetrics, Struct("metrics" / Counted(METRIC))))
"""ceph: src/messages/MClientMetrics.h."""
