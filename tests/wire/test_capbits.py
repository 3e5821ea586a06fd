"""Cap bits: sets, short forms and what open modes want."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephwire.capbits import CAP_BITS, Cap, FileMode, StatMask, cap_string, parse_caps, wanted_for_mode

NAMED = [bit.bit for bit in CAP_BITS]


@pytest.mark.parametrize(("bits", "text"), [
    (0, "-"),
    (Cap.PIN, "p"),
    (Cap.ALL_FILE, "pAsxLsXsxFsxcrwb"),
    (StatMask.INODE_ALL, "pAsLsXsFs"),
    (Cap.ANY, "pAsxLsxXsxFsxcrwbl"),
    (Cap.FILE_WREXTEND, "Fa"),
    (Cap.FILE_EXCL | Cap.FILE_CACHE | Cap.FILE_BUFFER, "Fxcb"),
    (0xD55, "pAsLsXsFscr"),
])  # fmt: skip
def test_a_set_of_bits_reads_as_ceph_prints_it(bits: int, text: str) -> None:
    assert cap_string(bits) == text
    assert parse_caps(text) == bits


def test_bits_without_a_name_are_shown_and_not_lost() -> None:
    assert cap_string(Cap.PIN | 0x10002) == "p+0x10002"


@given(st.sets(st.sampled_from(NAMED)).map(sum))
def test_any_set_survives_its_short_form(bits: int) -> None:
    assert parse_caps(cap_string(bits)) == parse_caps(bits) == parse_caps(hex(bits)) == parse_caps(str(bits)) == bits


@pytest.mark.parametrize(("caps", "words"), [
    ("", "no set of caps"),
    ("x", "no set of caps"),
    ("pA", "no set of caps"),
    ("Fsp", "'F' has no 'p'"),
    ("Asc", "'A' has no 'c', only s, x"),
    ("Fss", "names Fs twice"),
    ("FsFs", "names Fs twice"),
    ("0x2", "0x2 has bits no capability has: 0x2"),
    ("65536", "0x10000"),
    (0x10001, "0x10000"),
    (-1, "negative"),
    ("-0x1", "no set of caps"),
])  # fmt: skip
def test_what_is_no_set_of_caps_is_refused_with_words(caps: str | int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_caps(caps)


def test_composites_have_cephs_values() -> None:
    assert (Cap.ANY_SHARED, Cap.ANY_RD, Cap.ANY_EXCL) == (0x154, 0xD54, 0x2A8)
    assert (Cap.ANY_FILE_RD, Cap.ANY_FILE_WR, Cap.ANY_WR) == (0xD00, 0x3200, 0x32A8)
    assert (Cap.ANY, Cap.ALL_FILE, Cap.ANY_DIR_OPS) == (0xBFFD, 0x3FDD, 0xCC00)
    assert (StatMask.INODE_ALL, StatMask.INLINE_DATA, StatMask.RSTAT) == (0x155, 0x900, 0x4000)


@pytest.mark.parametrize(("mode", "wanted"), [
    (FileMode.PIN, 0x1),
    (FileMode.RD, 0xD01),
    (FileMode.WR, 0x32CD),
    (FileMode.RDWR, 0x3FCD),
    (FileMode.LAZY, 0x8001),
])  # fmt: skip
def test_an_open_file_wants_what_an_mds_reports_for_it(mode: int, wanted: int) -> None:
    assert wanted_for_mode(mode) == wanted


def test_every_bit_is_explained_once() -> None:
    assert [bit.bit for bit in CAP_BITS] == sorted(NAMED)
    for bit in CAP_BITS:
        assert getattr(Cap, bit.name) == bit.bit
        assert cap_string(bit.bit) == bit.short
        assert bit.meaning
