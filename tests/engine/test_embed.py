"""What goes back along with a request: which bits of which inode, and which lease."""

from __future__ import annotations

import pytest

from cephcaps.engine.inode import CapSnap, SnapContext
from cephwire.capbits import Cap, cap_string, parse_caps
from cephwire.request import FilePath, RequestRelease
from cephwire.requestop import RequestOp
from tests.engine.bench import ALL, DIRECTORY, Bench, lease, stat_of, update

DIR, OTHER, FILE, TARGET = 1, 2, 7, 8
NAME, NEW = FilePath(DIR, "name"), FilePath(OTHER, "new")
LOOSE = "pAsxLsXsxFs"
"""A directory's bits without FILE_EXCL."""


def held(directory: str = LOOSE, file: str = ALL, nlink: int = 1) -> Bench:
    """Directory 1 has "name", which leads to file 7; directory 2 has "new", which leads to file 8."""
    bench = Bench()
    bench.reply(stat_of(FILE, file, nlink=nlink), dir=stat_of(DIR, directory, mode=DIRECTORY), dname="name")
    bench.reply(stat_of(TARGET, file, nlink=nlink), dir=stat_of(OTHER, directory, mode=DIRECTORY), dname="new")
    bench.sent()
    return bench


def given(
    bench: Bench, op: RequestOp, path: FilePath, path2: FilePath | None = None, drop: int = 0
) -> list[RequestRelease]:
    return list(bench.engine.request_releases(0, op, path, path2 or FilePath(), drop, bench.now))


def short(records: list[RequestRelease]) -> dict[int, str]:
    """Bits kept, by inode."""
    return {record.ino: cap_string(record.caps) for record in records}


@pytest.mark.parametrize(
    ("op", "path", "path2", "kept"),
    [
        *(
            (op, FilePath(DIR, "made"), None, {DIR: "pAsLsXs"})
            for op in (RequestOp.CREATE, RequestOp.MKDIR, RequestOp.MKNOD, RequestOp.SYMLINK)
        ),
        (RequestOp.LINK, FilePath(DIR, "made"), FilePath(FILE), {DIR: "pAsLsXs", FILE: "pAsxXsxFsxcrwb"}),
        (RequestOp.UNLINK, NAME, None, {FILE: "p", DIR: "pAsxLsXsx"}),
        (RequestOp.RMDIR, NAME, None, {FILE: "p", DIR: "pAsxLsXsx"}),
        (
            RequestOp.RENAME,
            NEW,
            NAME,
            {TARGET: "p", OTHER: "pAsxLsXsx", DIR: "pAsxLsXsx", FILE: "pAsxXsxFsxcrwb"},
        ),
        (RequestOp.RENAME, FilePath(DIR, "made"), NAME, {DIR: "pAsxLsXsx", FILE: "pAsxXsxFsxcrwb"}),
        (RequestOp.SETXATTR, FilePath(FILE), FilePath(0, "user.a"), {FILE: "pAsxLsXxFsxcrwb"}),
        (RequestOp.RMXATTR, FilePath(FILE), FilePath(0, "user.a"), {FILE: "pAsxLsXxFsxcrwb"}),
        (RequestOp.SETLAYOUT, FilePath(FILE), None, {FILE: "pAsxLsXsxFcrwb"}),
        (RequestOp.LOOKUP, NAME, None, {}),
        (RequestOp.GETATTR, FilePath(FILE), None, {}),
        (RequestOp.READDIR, FilePath(DIR, "/snap"), None, {}),
        (RequestOp.MKSNAP, FilePath(DIR, "/snap"), None, {}),
        (RequestOp.UNLINK, FilePath(99, "name"), None, {}),
    ],
)
def test_each_operation_gives_up_what_is_in_its_way(
    op: RequestOp, path: FilePath, path2: FilePath | None, kept: dict[int, str]
) -> None:
    bench = held()

    assert short(given(bench, op, path, path2)) == kept
    assert {ino: bench.held(ino)[0] for ino in kept} == kept
    assert bench.sent() == []


def test_a_listing_gives_up_the_exclusive_bit() -> None:
    assert short(given(held("pAsLsXsFsx"), RequestOp.READDIR, FilePath(DIR))) == {DIR: "pAsLsXsFs"}


def test_what_the_caller_knows_to_be_in_the_way_goes_too() -> None:
    assert short(given(held(), RequestOp.OPEN, FilePath(FILE), drop=Cap.FILE_RD)) == {FILE: "pAsxLsXsxFsxcwb"}


def test_under_the_exclusive_bit_names_are_ours_to_change() -> None:
    bench = held("pAsLsXsFsx")

    assert given(bench, RequestOp.UNLINK, FilePath(DIR, "none")) == []
    assert given(bench, RequestOp.CREATE, FilePath(DIR, "made")) == []
    assert bench.held(DIR)[0] == "pAsLsXsFsx"


def test_the_record_is_that_of_a_cap_message() -> None:
    bench = Bench()
    bench.hold(FILE, ALL, seq=4, mseq=1, wanted="pAsxXsxFsxcrwb")
    bench.push(FILE, ALL, seq=6)

    [record] = given(bench, RequestOp.SETLAYOUT, FilePath(FILE))

    assert (record.cap_id, record.seq, record.issue_seq, record.mseq) == (70, 6, 4, 1)
    assert (cap_string(record.caps), cap_string(record.wanted)) == ("pAsxLsXsxFcrwb", "pAsxXsxFcrwb")
    assert bench.cap(FILE).mds_wanted == record.wanted


def test_a_name_lost_by_one_of_two_costs_the_link_bits_only() -> None:
    assert short(given(held(nlink=2), RequestOp.UNLINK, NAME)) == {FILE: "pAsxXsxFsxcrwb", DIR: "pAsxLsXsx"}


def test_an_open_file_s_bits_outlive_its_name() -> None:
    bench = held()
    bench.opened(FILE, 1)
    bench.sent()

    assert short(given(bench, RequestOp.UNLINK, NAME))[FILE] == "pFscr"


@pytest.mark.parametrize("what", ["dirty", "flushing", "used"])
def test_what_is_in_use_or_not_safe_stays(what: str) -> None:
    bench = held()
    match what:
        case "used":
            bench.engine.cache.use(bench.inode(FILE)).wr = 1
        case _:
            bench.change(FILE, size=100, mode=0o600)
            if what == "flushing":
                bench.flush(FILE)
    bench.sent()

    kept = short(given(bench, RequestOp.UNLINK, NAME))[FILE]

    assert kept == {"used": "pFw", "dirty": "pAxFx", "flushing": "pAxFx"}[what]


def test_a_cap_that_does_not_count_is_not_spoken_of() -> None:
    bench = held()
    bench.engine.sessions.stale(0, 2)

    assert given(bench, RequestOp.UNLINK, NAME) == []


# Leases


def leased(directory: str = "pAsLs", missing: bool = False) -> Bench:
    """As `held`, and there is a lease on the name."""
    bench = Bench()
    target = None if missing else stat_of(FILE, "pAsLsXsFs")
    bench.reply(target, dir=stat_of(DIR, directory, mode=DIRECTORY), dname="name", lease=lease(30.0, 9))
    bench.sent()
    return bench


@pytest.mark.parametrize("missing", [False, True])
def test_a_lease_on_a_name_that_changes_goes_back(missing: bool) -> None:
    bench = leased(missing=missing)
    op = RequestOp.CREATE if missing else RequestOp.UNLINK

    record = given(bench, op, NAME)[-1]

    assert (record.ino, cap_string(record.caps), record.dname, record.dname_seq) == (DIR, "pAsLs", "name", 9)
    assert bench.engine.lookup(DIR, "name", 0, bench.now) is None


def test_a_lease_goes_back_in_the_record_of_the_bits() -> None:
    record = given(leased("pAsLsXsFs"), RequestOp.UNLINK, NAME)[-1]

    assert (cap_string(record.caps), record.dname) == ("pAsLsXs", "name")


def test_a_lease_that_is_over_or_another_rank_s_is_not_spoken_of() -> None:
    bench = leased()
    bench.now += 31
    assert [record.dname for record in given(bench, RequestOp.RENAME, FilePath(DIR, "x"), NAME)] == [""]

    bench = Bench(ranks=2)
    bench.hold(DIR, "pAsLs", rank=1, auth=False, mode=DIRECTORY)
    bench.reply(None, dir=stat_of(DIR, "pAsLs", mode=DIRECTORY), dname="name", lease=lease(30.0, 9))
    assert bench.engine.request_releases(1, RequestOp.CREATE, NAME, FilePath(), 0, bench.now) == ()


def test_without_a_cap_on_the_directory_there_is_nothing_to_put_a_lease_into() -> None:
    bench = Bench()
    bench.reply(None, dir=stat_of(DIR, mode=DIRECTORY), dname="name", lease=lease(30.0, 9))

    assert given(bench, RequestOp.CREATE, NAME) == []


# Directories known whole


def test_a_directory_known_whole_is_told_to_be_wanted_before_it_first_changes() -> None:
    bench = Bench()
    bench.reply(stat_of(DIR, "pAsLsXsFs", mode=DIRECTORY, files=0))

    assert given(bench, RequestOp.CREATE, FilePath(DIR, "made")) == []
    assert bench.said() == [update("pAsLsXsFs", "AsLsXsFsx")]
    assert bench.engine.listings.names(DIR, bench.now) == []

    # The MDS had other clients to think of.
    assert short(given(bench, RequestOp.CREATE, FilePath(DIR, "more"))) == {DIR: "pAsLsXs"}
    assert bench.said() == []
    assert bench.engine.listings.names(DIR, bench.now) is None


def test_what_a_snapshot_still_needs_is_not_given_up() -> None:
    bench = held()
    inode = bench.inode(FILE)
    snap = CapSnap(inode, SnapContext(1, (1,)), parse_caps(ALL), Cap.AUTH_EXCL, bench.now)
    snap.need_flush = True
    bench.engine.cache.use(inode).cap_snaps.append(snap)

    kept = short(given(bench, RequestOp.SETATTR, FilePath(FILE), drop=Cap.FILE_WR | Cap.FILE_EXCL | Cap.FILE_SHARED))

    assert kept == {FILE: "pAsxLsXsxFxcrwb"}


def test_a_cap_that_stands_in_until_its_import_gives_nothing_up() -> None:
    bench = held()
    cap = bench.cap(FILE)
    assert given(bench, RequestOp.SETATTR, FilePath(FILE), drop=Cap.AUTH_SHARED | Cap.AUTH_EXCL)
    cap.issued = cap.implemented = parse_caps(ALL)
    cap.standing_in = True

    assert given(bench, RequestOp.SETATTR, FilePath(FILE), drop=Cap.AUTH_SHARED | Cap.AUTH_EXCL) == []
