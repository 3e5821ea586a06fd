"""CLIENT_CAPS: our generated codec beside plain construct, construct compiled and a hand-written struct decoder.

Run by `make bench` or ``python -m tests.benchmarks.codec``: one table, medians of interleaved repeats in one process.
All decode the same recorded bytes into the same class, and encode the same object; all are checked to agree first.
"""

from __future__ import annotations

import json
import statistics
import struct
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cephwire.caps import CLIENT_CAPS, CapBody, ClientCaps
from cephwire.inode import FileLayout

from .row import Row

VECTORS = Path(__file__).parent.parent / "wire" / "data" / "mds"
REPEATS = 15
HAND, PLAIN, COMPILED = "hand-written struct", "plain construct", "construct compiled"


def recorded() -> tuple[int, bytes]:
    """A GRANT of the newest version a real MDS sent."""
    found = []
    for path in sorted(VECTORS.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            vector = json.loads(line)
            if vector.get("type") == CLIENT_CAPS.number and not vector.get("middle"):
                found.append((vector["version"], bytes.fromhex(vector["front"])))
    return max((v, raw) for v, raw in found if struct.unpack_from("<I", raw)[0] in (0, 1))


HEAD = struct.Struct("<IQQQIIIIIIQIIIIIIQ")
BODY = struct.Struct("<QQQIIIIIIIIIIIIiiI")
TAIL = struct.Struct("<QI")
MIDDLE = struct.Struct("<IQIII")
END = struct.Struct("<IIQIQQII")
NSEC = 1_000_000_000


def by_hand(raw: bytes) -> ClientCaps:
    """What one would write for this one message and version; lengths are trusted, as such code tends to do."""
    (
        op,
        ino,
        realm,
        cap_id,
        seq,
        issue_seq,
        caps,
        wanted,
        dirty,
        mseq,
        follows,
        trace_len,
        uid,
        gid,
        mode,
        nlink,
        _,
        xv,
    ) = HEAD.unpack_from(raw)
    (size, max_size, tsize, tseq, ms, mn, as_, an, cs, cn, su, sc, osize, cas, osu, pref, pool, warp) = (
        BODY.unpack_from(raw, 92)
    )
    at = 176 + trace_len
    trace = raw[176:at]
    (n,) = struct.unpack_from("<I", raw, at)
    flock = raw[at + 4 : at + 4 + n]
    at += 4 + n
    inline_version, n = TAIL.unpack_from(raw, at)
    inline = raw[at + 12 : at + 12 + n]
    at += 12 + n
    barrier, oldest, cuid, cgid, n = MIDDLE.unpack_from(raw, at)
    at += MIDDLE.size
    pool_ns = raw[at : at + n].decode()
    at += n
    bs, bn, change, flags, nfiles, nsubdirs, n, _ = END.unpack_from(raw, at)
    auth = raw[at + END.size - 4 : at + END.size - 4 + n]
    at += END.size - 4 + n
    (n,) = struct.unpack_from("<I", raw, at)
    file = raw[at + 4 : at + 4 + n]
    layout = FileLayout(su, sc, osize, cas, osu, pref, pool)
    body = CapBody(size, max_size, tsize, tseq, ms * NSEC + mn, as_ * NSEC + an, cs * NSEC + cn, layout, warp)
    return ClientCaps(
        op, ino, realm, cap_id, seq, issue_seq, caps, wanted, dirty, mseq, follows, uid, gid, mode, nlink, xv, body,
        trace, b"", flock, None, inline_version, inline, barrier, oldest, cuid, cgid, pool_ns, bs * NSEC + bn, change,
        flags, nfiles, nsubdirs, auth, file,
    )  # fmt: skip


def hand_encode(m: ClientCaps) -> bytes:
    body = m.body
    assert isinstance(body, CapBody)
    lay = body.layout
    ns = m.pool_ns.encode()
    return b"".join(
        (
            HEAD.pack(
                m.op, m.ino, m.realm, m.cap_id, m.seq, m.issue_seq, m.caps, m.wanted, m.dirty, m.mseq, m.snap_follows,
                len(m.snap_trace), m.uid, m.gid, m.mode, m.nlink, len(m.xattrs), m.xattr_version,
            ),
            BODY.pack(
                body.size, body.max_size, body.truncate_size, body.truncate_seq, body.mtime // NSEC, body.mtime % NSEC,
                body.atime // NSEC, body.atime % NSEC, body.ctime // NSEC, body.ctime % NSEC, lay.stripe_unit,
                lay.stripe_count, lay.object_size, lay.cas_hash, lay.object_stripe_unit, lay.pg_preferred, lay.pool_id,
                body.time_warp_seq,
            ),
            m.snap_trace,
            struct.pack("<I", len(m.flock)),
            m.flock,
            TAIL.pack(m.inline_version, len(m.inline_data)),
            m.inline_data,
            MIDDLE.pack(m.osd_epoch_barrier, m.oldest_flush_tid, m.caller_uid, m.caller_gid, len(ns)),
            ns,
            struct.pack(
                "<IIQIQQI", m.btime // NSEC, m.btime % NSEC, m.change_attr, m.flags, m.nfiles, m.nsubdirs,
                len(m.fscrypt_auth),
            ),
            m.fscrypt_auth,
            struct.pack("<I", len(m.fscrypt_file)),
            m.fscrypt_file,
        )
    )  # fmt: skip


def times(work: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of one call, repeats of all interleaved."""
    numbers = {name: max(1, int(0.02 / max(timeit.timeit(call, number=3) / 3, 1e-9))) for name, call in work.items()}
    samples: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, call in work.items():
            samples[name].append(timeit.timeit(call, number=numbers[name], timer=time.process_time) / numbers[name])
    return {name: statistics.median(found) for name, found in samples.items()}


def measure() -> tuple[str, dict[str, float], dict[str, float]]:
    """What was measured, and seconds to decode it and to encode it by each."""
    version, raw = recorded()
    message = CLIENT_CAPS.codec.decode(raw, version)
    schema = CLIENT_CAPS.schema
    decoders: dict[str, Callable[[], Any]] = {
        "cephwire": lambda: CLIENT_CAPS.codec.decode(raw, version),
        HAND: lambda: by_hand(raw),
        PLAIN: lambda: schema.parse(raw, struct_v=version),
    }
    encoders: dict[str, Callable[[], Any]] = {
        "cephwire": lambda: CLIENT_CAPS.codec.encode(message, version),
        HAND: lambda: hand_encode(message),
        PLAIN: lambda: schema.build(message, struct_v=version),
    }
    compiled, parts = construct_compiled(version, raw)
    decoders[COMPILED] = lambda: compiled.parse(raw)
    encoders[COMPILED] = lambda: compiled.build(parts)
    for name, call in decoders.items():
        assert name == COMPILED or call() == message, name
    for name, call in encoders.items():
        assert call() == raw, name
    what = f"CLIENT_CAPS version {version}, {len(raw)} bytes, Python {sys.version.split()[0]}"
    return what, times(decoders), times(encoders)


def rows() -> list[Row]:
    """Ours beside each peer, decoding and encoding apart."""
    what, *both = measure()
    found = []
    for work, taken in zip(("decode", "encode"), both, strict=True):
        for peer, bound in ((PLAIN, 30.0), (COMPILED, 5.0), (HAND, 1.5)):
            us, them = taken["cephwire"], taken[peer]
            less = peer == HAND
            target, ratio = (f"<= {bound:g}x", us / them) if less else (f">= {bound:g}x", them / us)
            said = f"{work} CLIENT_CAPS"
            found.append(
                Row("B1", said, target, us * 1e6, them * 1e6, "us", ratio, bound, peer, {"what": what}, less=less)
            )
    return found


def main() -> None:
    what, decode, encode = measure()
    print(what)
    print(f"{'':22}{'decode us':>12}{'x ours':>8}{'encode us':>12}{'x ours':>8}")
    for name in decode:
        d, e = decode[name], encode[name]
        print(f"{name:22}{d * 1e6:12.2f}{d / decode['cephwire']:8.2f}{e * 1e6:12.2f}{e / encode['cephwire']:8.2f}")


def construct_compiled(version: int, raw: bytes) -> tuple[Any, Any]:
    """The same layout in construct's own words only, compiled by construct, and its parse of ``raw``.

    Its compile() knows none of our words; it gives a Container, checks no length and is for comparison only.
    """
    from construct import Bytes, GreedyBytes, Int8ul, Int32sl, Int32ul, Int64ul, Prefixed, Struct, this

    time = Struct("sec" / Int32ul, "nsec" / Int32ul)
    blob = Prefixed(Int32ul, GreedyBytes)
    words = {"u32": Int32ul, "u64": Int64ul, "s32": Int32sl, "u8": Int8ul, "time": time, "blob": blob}
    fields = (
        "op:u32 ino:u64 realm:u64 cap_id:u64 seq:u32 issue_seq:u32 caps:u32 wanted:u32 dirty:u32 mseq:u32 follows:u64 "
        "trace_len:u32 uid:u32 gid:u32 mode:u32 nlink:u32 xattr_len:u32 xattr_version:u64 size:u64 max_size:u64 "
        "truncate_size:u64 truncate_seq:u32 mtime:time atime:time ctime:time su:u32 sc:u32 os:u32 cas:u32 osu:u32 "
        "pref:s32 pool:s32 warp:u32 trace:trace flock:blob inline_version:u64 inline:blob barrier:u32 oldest:u64 "
        "cuid:u32 cgid:u32 pool_ns:blob btime:time change:u64 flags:u32 nfiles:u64 nsubdirs:u64"
    )
    if version >= 12:
        fields += " fscrypt_auth:blob fscrypt_file:blob"
    words["trace"] = Bytes(this.trace_len)
    compiled = Struct(*(name / words[kind] for name, kind in (field.split(":") for field in fields.split()))).compile()
    return compiled, compiled.parse(raw)


if __name__ == "__main__":
    main()
