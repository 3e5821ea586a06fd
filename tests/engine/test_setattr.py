"""Changing attributes: here and flushed later, or by request, for every combination of caps that matters."""

from __future__ import annotations

import itertools

import pytest

from cephcaps.engine.setattr import Change
from cephwire.capbits import Cap, cap_string, parse_caps
from cephwire.requestargs import SetattrMask
from tests.engine.bench import FILE, Bench

STAMP = 10_000
"""The wall clock of the change, ns."""
FIELDS = {
    "uid": 1,
    "gid": 1,
    "size": 100,
    "atime": 100,
    "mtime": 100,
    "ctime": 100,
    "change_attr": 7,
    "time_warp_seq": 3,
}

AUTH_DROP = "As"
TIME_DROP = "Fsrw"
SIZE_DROP = "Fsxrw"

OWNER = [
    # what we hold, whether the value is another, dirty bits (None: it is asked for)
    ("pAsx", True, "Ax"),
    ("pAsx", False, "Ax"),
    ("pAx", True, "Ax"),
    ("pAs", True, None),
    ("pAs", False, "-"),
    ("p", True, None),
    ("p", False, None),
    ("pFsxcrwb", True, None),
]


@pytest.mark.parametrize(("caps", "differs", "dirty"), OWNER)
@pytest.mark.parametrize(
    ("name", "mask", "old", "new"),
    [
        ("mode", SetattrMask.MODE, 0o644, 0o600),
        ("uid", SetattrMask.UID, 1, 2),
        ("gid", SetattrMask.GID, 1, 2),
    ],
)
def test_owner_and_mode_are_changed_under_auth_excl(
    name: str, mask: int, old: int, new: int, caps: str, differs: bool, dirty: str | None
) -> None:
    bench = Bench()
    inode = bench.hold(7, caps, **FIELDS)
    value = new if differs else old

    remainder = bench.change(7, stamp=STAMP, **{name: value})

    here = getattr(inode, name) & 0o7777 == value
    if dirty is None:
        assert remainder is not None
        assert (remainder.args.mask, cap_string(remainder.drop)) == (mask, AUTH_DROP)
        assert getattr(remainder.args, name) & 0o7777 == value
        assert here is not differs
    else:
        assert remainder is None
        assert here
    assert cap_string(inode.dirty) == (dirty or "-")
    moved = bool(inode.dirty)
    assert (inode.ctime, inode.change_attr) == ((STAMP, 8) if moved else (100, 7))
    assert inode.time_warp_seq == 3
    assert inode.mode & ~0o7777 == FILE & ~0o7777


TIME_ROWS = [
    # what we hold, the new value, dirty bits (None: it is asked for), whether time_warp_seq rises
    ("pFsx", 500, "Fx", True),
    ("pFsx", 50, "Fx", True),
    ("pFsx", 100, "Fx", True),
    ("pFxw", 500, "Fx", True),
    ("pFw", 500, "Fw", False),
    ("pFsw", 500, "Fw", False),
    ("pFw", 50, None, False),
    ("pFw", 100, None, False),
    ("pFsw", 50, None, False),
    ("pFsw", 100, "-", False),
    ("pFs", 100, "-", False),
    ("pFs", 101, None, False),
    ("p", 100, None, False),
    ("pAsx", 500, None, False),
]


@pytest.mark.parametrize(("caps", "value", "dirty", "warps"), TIME_ROWS)
@pytest.mark.parametrize(("name", "mask"), [("atime", SetattrMask.ATIME), ("mtime", SetattrMask.MTIME)])
def test_times_are_set_under_file_excl_and_mtime_moved_forward_under_file_wr(
    name: str, mask: int, caps: str, value: int, dirty: str | None, warps: bool
) -> None:
    if name == "atime" and dirty == "Fw":
        dirty = None  # an MDS takes it from nobody but who holds FILE_EXCL
    bench = Bench()
    inode = bench.hold(7, caps, **FIELDS)

    remainder = bench.change(7, stamp=STAMP, **{name: value})

    if dirty is None:
        assert remainder is not None
        assert (remainder.args.mask, cap_string(remainder.drop)) == (mask, TIME_DROP)
        assert getattr(remainder.args, name) == value
        assert getattr(inode, name) == 100
    else:
        assert remainder is None
        assert getattr(inode, name) == value
    assert cap_string(inode.dirty) == (dirty or "-")
    assert (inode.ctime, inode.change_attr) == ((STAMP, 8) if inode.dirty else (100, 7))
    assert inode.time_warp_seq == 3 + warps


SIZE_ROWS = [
    ("pFsx", 500, "Fx"),
    ("pFx", 500, "Fx"),
    ("pFsx", 100, "-"),
    ("pFx", 100, "-"),
    ("pFsx", 50, None),
    ("pFswb", 500, None),
    ("pFs", 100, "-"),
    ("pFs", 500, None),
    ("pFw", 100, None),
    ("p", 100, None),
]


@pytest.mark.parametrize(("caps", "value", "dirty"), SIZE_ROWS)
def test_size_grows_under_file_excl_and_shrinks_by_request(caps: str, value: int, dirty: str | None) -> None:
    bench = Bench()
    inode = bench.hold(7, caps, **FIELDS)

    remainder = bench.change(7, stamp=STAMP, size=value)

    if dirty is None:
        assert remainder is not None
        assert (remainder.args.mask, cap_string(remainder.drop)) == (SetattrMask.SIZE, SIZE_DROP)
        assert (remainder.args.size, remainder.args.old_size) == (value, 100)
        assert inode.size == 100
    else:
        assert remainder is None
        assert inode.size == value
    assert cap_string(inode.dirty) == (dirty or "-")
    grown = bool(inode.dirty)
    assert (inode.mtime, inode.ctime, inode.change_attr) == ((STAMP, STAMP, 8) if grown else (100, 100, 7))
    assert inode.time_warp_seq == 3


def test_a_size_and_an_mtime_together_keep_the_mtime_asked_for() -> None:
    bench = Bench()
    inode = bench.hold(7, "pFsx", **FIELDS)

    assert bench.change(7, stamp=STAMP, size=500, mtime=50) is None

    assert (inode.size, inode.mtime, inode.time_warp_seq) == (500, 50, 4)


def test_what_is_covered_is_done_here_and_the_rest_is_asked_for() -> None:
    bench = Bench()
    inode = bench.hold(7, "pAsxFs", **FIELDS)

    remainder = bench.change(7, stamp=STAMP, mode=0o600, uid=5, size=9, mtime=5)

    assert remainder is not None
    assert remainder.args.mask == SetattrMask.SIZE | SetattrMask.MTIME
    assert cap_string(remainder.drop) == SIZE_DROP
    assert (inode.mode, inode.uid) == (FILE & ~0o7777 | 0o600, 5)
    assert (inode.size, inode.mtime) == (100, 100)
    assert inode.dirty == Cap.AUTH_EXCL


def test_both_locks_may_be_dirty() -> None:
    bench = Bench()
    inode = bench.hold(7, "pAsxFsxw", **FIELDS)

    bench.change(7, stamp=STAMP, gid=5, atime=500)

    assert cap_string(inode.dirty) == "AxFx"
    assert inode.change_attr == 8, "one change, however many attributes"


def test_ctime_never_goes_back() -> None:
    bench = Bench()
    inode = bench.hold(7, "pAsx", **FIELDS)

    bench.change(7, stamp=50, uid=5)

    assert inode.ctime == 100


def test_time_warp_seq_wraps() -> None:
    bench = Bench()
    inode = bench.hold(7, "pFsx", time_warp_seq=2**32 - 1)

    bench.change(7, mtime=5)

    assert inode.time_warp_seq == 0


def test_the_kind_of_file_is_no_attribute() -> None:
    bench = Bench()
    inode = bench.hold(7, "pAsx")

    bench.change(7, mode=0o040000 | 0o7777)

    assert inode.mode == FILE & ~0o7777 | 0o7777


@pytest.mark.parametrize(
    ("mode", "then"),
    [
        (0o104755, 0o100755),
        (0o102755, 0o100755),
        (0o106711, 0o100711),
        (0o104644, 0o104644),  # nobody may run it
        (0o100755, 0o100755),
        (0o042755, 0o042755),  # a directory's bit is about who owns what is made in it
    ],
)
def test_a_program_that_changes_hands_no_longer_runs_as_its_owner(mode: int, then: int) -> None:
    bench = Bench()
    inode = bench.hold(7, "pAsx", mode=mode)

    bench.change(7, uid=5)

    assert inode.mode == then


def test_the_mds_is_asked_where_a_program_changes_hands_and_we_may_not_change_its_mode() -> None:
    bench = Bench()
    inode = bench.hold(7, "pAs", mode=0o104755, uid=5)

    remainder = bench.change(7, uid=5)

    assert remainder is not None
    assert remainder.args.mask == SetattrMask.UID
    assert inode.mode == 0o104755


NAMES = ("mode", "uid", "gid", "size", "atime", "mtime")


@pytest.mark.parametrize("names", [c for n in (1, 2, 6) for c in itertools.combinations(NAMES, n)], ids="-".join)
def test_of_an_inode_we_do_not_know_everything_is_asked_for(names: tuple[str, ...]) -> None:
    bench = Bench()

    remainder = bench.engine.change(7, Change(STAMP, **dict.fromkeys(names, 9)), bench.now)

    assert remainder is not None
    assert remainder.args.mask == sum(SetattrMask[name.upper()] for name in names)
    assert remainder.drop == 0


def test_nothing_is_changed_here_without_a_valid_cap_from_the_authority() -> None:
    for spoil in ("no authority", "stale", "run out"):
        bench = Bench()
        bench.hold(7, "pAsxFsx", auth=spoil != "no authority", **FIELDS)
        if spoil == "stale":
            bench.engine.sessions.stale(0, 2)
        if spoil == "run out":
            bench.engine.session_renewed(0, bench.now, bench.now)

        remainder = bench.change(7, uid=1, mtime=500)

        assert remainder is not None, spoil
        expected = SetattrMask.UID | SetattrMask.MTIME if spoil != "no authority" else SetattrMask.MTIME
        assert remainder.args.mask == expected
        assert bench.inode(7).dirty == 0


def test_nothing_is_changed_under_bits_that_are_asked_back() -> None:
    bench = Bench()
    bench.hold(7, "pAsx")
    bench.cap(7).issued = Cap.PIN | Cap.AUTH_SHARED  # Ax asked back and still in use

    remainder = bench.change(7, uid=5)

    assert remainder is not None
    assert bench.inode(7).dirty == 0


# Bits given up with a request


def records(bench: Bench, drop: str) -> list[tuple[str, int, int, int]]:
    found = bench.give_up(7, parse_caps(drop))
    return [(cap_string(record.caps), record.seq, record.issue_seq, record.mseq) for record in found]


def test_a_request_gives_up_what_the_mds_would_ask_for() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFs", seq=4, mseq=1, wanted="pFs")
    bench.push(7, "pAsLsXsFscr", seq=5)

    [record] = bench.give_up(7, Cap.FILE_SHARED | Cap.FILE_RD)

    assert (record.ino, record.cap_id, record.seq, record.issue_seq, record.mseq) == (7, 70, 5, 4, 1)
    assert cap_string(record.caps) == "pAsLsXsFc"
    assert cap_string(record.wanted) == "p"
    assert record.dname == ""
    assert bench.held(7) == ("pAsLsXsFc", "pAsLsXsFc")
    assert bench.sent() == []


@pytest.mark.parametrize("state", ["dirty", "flushing"])
def test_a_request_does_not_give_up_what_is_not_safe(state: str) -> None:
    bench = Bench()
    bench.hold(7, "pAsxLsXsFsx")
    bench.change(7, mtime=5)
    if state == "flushing":
        bench.flush(7)

    assert records(bench, "AsFsx") == [("pAxLsXsFx", 1, 1, 0)]
    assert bench.held(7) == ("pAxLsXsFx", "pAxLsXsFx")


def test_a_request_gives_up_nothing_of_a_cap_that_does_not_count() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFs")
    bench.engine.sessions.stale(0, 2)

    assert records(bench, "As") == []
    assert bench.held(7) == ("pAsLsXsFs", "pAsLsXsFs")


@pytest.mark.parametrize("caps", ["pLsXs", "p"])
def test_a_request_gives_up_nothing_where_there_is_nothing(caps: str) -> None:
    bench = Bench()
    assert records(bench, "As") == []
    bench.hold(7, caps)
    assert records(bench, "As") == []
