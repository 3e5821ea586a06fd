"""RADOS behind a pipe: one JSON request a line on stdin, one JSON answer a line on stdout, in order.

Run by the python3 of the Ceph release under test: the standard library and that release's ``rados`` only. Requests are
``{"op": "write" | "read", "pool": ID, "ns": TEXT, "oid": TEXT, "offset": N, ...}``; data travel as hex.
"""

from __future__ import annotations

import json
import sys

import rados


def main(conf, client_id):
    cluster = rados.Rados(conffile=conf, rados_id=client_id)
    cluster.connect(timeout=10)
    pools = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            pool = request["pool"]
            if pool not in pools:
                pools[pool] = cluster.open_ioctx2(pool)
            answer = {"result": serve(pools[pool], request)}
        except rados.Error as error:
            answer = {"errno": getattr(error, "errno", None) or 5, "error": str(error)}
        print(json.dumps(answer), flush=True)


def serve(pool, request):
    pool.set_namespace(request["ns"])
    if request["op"] == "write":
        pool.set_self_managed_snap_write(request["snaps"])
        data = bytes.fromhex(request["data"])
        lengthen(pool, request["oid"], request["offset"] + len(data))
        pool.write(request["oid"], data, request["offset"])
        return None
    try:
        return pool.read(request["oid"], request["size"], request["offset"]).hex()
    except rados.ObjectNotFound:
        return ""


def lengthen(pool, oid, size):
    """Make room in an object the MDS has truncated.

    An OSD clips a write that names an older truncate_seq than the object's, as all written by librados do (ceph:
    src/osd/PrimaryLogPG.cc, "clipping write"); a truncation by librados names none and is done.
    """
    try:
        if pool.stat(oid)[0] < size:
            pool.trunc(oid, size)
    except rados.ObjectNotFound:
        pass


main(*sys.argv[1:])
