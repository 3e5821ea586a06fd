"""Reading the MDSMap: who holds which rank, and who takes requests."""

from __future__ import annotations

from cephwire.mdsmap import MdsInfo, MdsMap, MdsState

__all__ = ["describe", "is_active", "lowest_active", "serving"]

SERVING = frozenset((MdsState.CLIENTREPLAY, MdsState.ACTIVE, MdsState.STOPPING))
"""States in which an MDS takes requests; it opens new sessions in all but the last."""


def serving(mdsmap: MdsMap) -> dict[int, MdsInfo]:
    """The daemons that take requests, by rank."""
    found = {rank: mdsmap.mds_info.get(gid) for rank, gid in mdsmap.up.items()}
    return {rank: info for rank, info in found.items() if info is not None and info.state in SERVING}


def is_active(mdsmap: MdsMap, rank: int) -> bool:
    """Whether ``rank`` takes requests of any kind."""
    info = mdsmap.mds_info.get(mdsmap.up.get(rank, 0))
    return info is not None and info.state == MdsState.ACTIVE


def lowest_active(mdsmap: MdsMap | None) -> int | None:
    """Whom to ask where nothing is known; an MDS that is not the one in charge says which is."""
    if mdsmap is None:
        return None
    return next((rank for rank in sorted(mdsmap.up) if is_active(mdsmap, rank)), None)


def describe(mdsmap: MdsMap | None) -> str:
    """The file system's ranks and their states, in words."""
    if mdsmap is None:
        return "no MDSMap yet"
    states = [
        f"rank {rank} is {_state(mdsmap.mds_info[gid].state) if gid in mdsmap.mds_info else 'gone'}"
        for rank, gid in sorted(mdsmap.up.items())
    ]
    states += [f"rank {rank} has failed" for rank in mdsmap.failed]
    return f"file system {mdsmap.fs_name}: " + (", ".join(states) or "no rank is up")


def _state(state: int) -> str:
    return f"up:{MdsState(state).name.lower()}" if state in MdsState._value2member_map_ else str(state)
