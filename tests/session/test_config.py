"""ceph.conf, the environment and a call's arguments, and what a client is told to do by them."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cephcaps.config import (
    OPTIONS,
    ClientConfig,
    EntityName,
    Layer,
    MonAddress,
    Options,
    load_config,
    parse_mon_host,
    with_ceph_args,
)
from cephcaps.config.load import MS_MODES
from cephcaps.errors import ConfigError
from cephcaps.ini import normal_key, parse_ini

KEY = "AQBsxAJrDcwGChAATNVP9cNLJ8ILliqZ/p8m2w=="
OTHER_KEY = "AQBsxAJrDcwGChAATNVP9cNLJ8ILliqZ/p8m3w=="
FSID = "6f1a2b3c-0000-4000-8000-0123456789ab"
NOWHERE = {"HOME": "/nonexistent"}
FSID_AND_MON = f"[global]\nfsid = {FSID}\nmon host = 10.0.0.1\n"


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the working directory is searched


def load(text: str | None = None, environ: dict[str, str] | None = None, **how: Any) -> ClientConfig:
    """load_config, over a ceph.conf of this text, and with a key unless ``how`` names a keyring."""
    if text is not None:
        Path("ceph.conf").write_text(text, newline="")
        how["conf"] = "ceph.conf"
    if "keyring" not in how:
        how["options"] = {"key": KEY} | how.get("options", {})
    return load_config(environ=NOWHERE | (environ or {}), **how)


def options_of(text: str, name: str = "client.x", cluster: str = "ceph") -> Options:
    entity = EntityName(name)
    sections = parse_ini(text, "ceph.conf")
    layers = [Layer(title, sections[title]) for title in (name, entity.type, "global") if title in sections]
    return Options(entity, cluster, layers, home="/home/x")


# The grammar; tests/live/test_conf_oracle.py holds it against ceph-conf.


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("foo = bar", "bar"),
        ("  foo\t=\tbar baz\t", "bar baz"),
        ("foo =", ""),
        ("foo = bar # said", "bar"),
        ("foo = bar;said", "bar"),
        ("foo = bar\\# said", "bar# said"),
        ('foo = " bar \\# baz "', "bar # baz"),
        ("foo = 'it\\'s \"bar\"'", 'it\'s "bar"'),
        ("foo = bar's", "bar's"),
        ("foo = a=b", "a=b"),
        ("foo = a\\\\b\\c", "a\\bc"),
        ("foo = bar \\\n  baz", "bar   baz"),
        ("foo = bar \\\r\n  baz", "bar   baz"),
        ("foo = 1\nfoo = 2", "2"),
        ("foo = 1\n[other]\nfoo = 2\n[global]\n", "1"),
        ("foo = 1\n# foo = 2 \\\n;foo = 3\n", "1"),
        ("foo = 'bar # baz'", "bar # baz"),  # refused by ceph-conf, as is every file here for its end
    ],
)
def test_a_value_is_read_as_ceph_reads_it(line: str, value: str) -> None:
    assert parse_ini(f"[global]\n{line}", "ceph.conf")["global"]["foo"] == value


@pytest.mark.parametrize("key", ["mon host", "mon_host", " mon \t host ", "mon\thost"])
def test_blanks_in_a_key_are_underscores(key: str) -> None:
    assert parse_ini(f"{key}= a\n", "ceph.conf") == {"global": {"mon_host": "a"}}
    assert normal_key(key) == "mon_host"


def test_dashes_and_capitals_in_a_key_stay() -> None:
    assert parse_ini("mon-host = a\nMon_Host = b\n", "ceph.conf") == {"global": {"mon-host": "a", "Mon_Host": "b"}}


def test_sections_are_told_apart_by_every_character() -> None:
    text = "foo = 0\n[client]#\nfoo = 1\n[ client]\nfoo = 2\n[a\\]b]\nfoo = 3\n"
    assert parse_ini(text, "") == {
        "global": {"foo": "0"},
        "client": {"foo": "1"},
        " client": {"foo": "2"},
        "a]b": {"foo": "3"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[global]\nfoo\n", "line 2: neither"),
        ("[global]\r\n\r\n= foo\r\n", "line 3: neither"),
        ("[global]\rfoo # bar = baz\r", "line 2: neither"),
        ("[global\n", "line 1: a section is"),
        ("[]\n", "line 1: a section is"),
        ("[a # b]\n", "line 1: a section is"),
        ("[global] foo = bar\n", "line 1: there is text after the section's"),
        ("foo = 'bar\n'\n", "line 1: the value's opening quote"),
        ("\nfoo = 'bar' baz\n", "line 2: there is text after the value's"),
        ("foo = bar\\", "line 1: a backslash ends"),
    ],
)
def test_a_line_that_is_none_is_refused_by_its_number(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^a.conf, {message}"):
        parse_ini(text, "a.conf")


@given(st.text(alphabet=st.sampled_from("ab=#;[]'\"\\ \t\r\n\v${}\0\x85ü"), max_size=60) | st.text(max_size=60))
def test_any_text_has_sections_or_is_refused(text: str) -> None:
    try:
        sections = parse_ini(text, "ceph.conf")
    except ConfigError:
        return
    for values in sections.values():
        for key, value in values.items():
            assert normal_key(key) == key
            assert "\n" not in value


@pytest.mark.parametrize("part", ["\\\n", "\\", "[", "'", "a = ", "a = 'b\\'", " ", "#", "[a]\n", "\ra", "a=\\\n"])
def test_a_megabyte_of_anything_is_read_or_refused_at_once(part: str) -> None:
    for text in (part * (1_000_000 // len(part)), f"a = '{part * (1_000_000 // len(part))}"):
        with contextlib.suppress(ConfigError):
            parse_ini(text, "ceph.conf")


# What values refer to.


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("$cluster.$name.k", "ceph.client.x.k"),
        ("$type $id $num ${name}y", "client x x client.xy"),
        ("$fsid", FSID),
        ("$host", "here"),
        pytest.param("$pid", str(os.getpid()), id="pid"),
        ("$home/k", "/home/x/k"),
        ("$run_dir", "/var/run/ceph"),
        ("$client_mountpoint$mon_host", "/10.0.0.1"),
        ("$$name $$ $ a$", "$client.x $$ $ a$"),
        ("$unknown ${unknown} $name_x $Name $1", "$unknown ${unknown} $name_x $Name $1"),
        ("${name ${} ${ name} ${na-me}", "$ $ $ name} $-me}"),
        ("$keyring", "$keyring"),
        ("$keyfile", "client.x"),
        ("$key", "$key"),
    ],
)
def test_a_value_may_refer_to_facts_and_options(value: str, expanded: str) -> None:
    text = f"{FSID_AND_MON}host = here\nkeyfile = $name\nkey = {KEY}\nkeyring = {value}\n"
    assert options_of(text).text("keyring") == expanded


def test_the_host_is_found_out_where_no_option_says_it() -> None:
    assert options_of("keyring = $host").text("keyring") == os.uname().nodename.partition(".")[0]


def test_options_that_refer_to_each_other_in_a_circle_come_to_an_end() -> None:
    assert options_of("keyring = a$keyfile\nkeyfile = b$keyring\n").text("keyring") == "ab$keyring"


def test_options_that_double_each_other_are_refused() -> None:
    names = [name for name in OPTIONS if name != "key"]
    lines = [f"{name} = {f'${after}' * 50}" for name, after in itertools.pairwise(names)]
    with pytest.raises(ConfigError, match="without end"):
        options_of("\n".join(lines)).text(names[0])


# Which value wins.


def test_the_nearest_section_wins_and_the_file_beats_the_default() -> None:
    conf = "[client.x]\nclient fs=c\n[client]\nclient fs=b\nms client mode=crc\n[global]\nclient fs=a\nmon host=a\n"
    assert load(conf, name="client.x").fs == "c"
    assert load(conf, name="client.y").fs == "b"
    assert load(conf, name="mds.x").fs == "a"
    assert load(conf).mds_modes == ("crc",)
    assert load(conf).mon_modes == ("secure", "crc")


def test_an_empty_value_hides_the_sections_further_away() -> None:
    assert load("[global]\nmon host = a\nclient fs = a\n[client]\nclient fs =\n").fs is None


def test_the_call_beats_the_environment_and_that_the_file(tmp_path: Path) -> None:
    for place in ("file", "environment", "call"):
        key = KEY if place == "call" else OTHER_KEY
        (tmp_path / place).write_text(f"[client.admin]\nkey = {key}\n")
    conf = f"mon host = a\nkeyring = {tmp_path / 'file'}\n"
    environ = {"CEPH_KEYRING": str(tmp_path / "environment")}
    called = load(conf, environ, keyring=tmp_path / "call")
    assert called.key is not None
    assert called.key.reveal() == KEY
    (tmp_path / "call").rename(tmp_path / "environment")
    surrounded = load(conf, environ, keyring=None)
    assert surrounded.key == called.key
    (tmp_path / "environment").rename(tmp_path / "file")
    assert load(conf, {"CEPH_KEYRING": ""}, keyring=None).key == called.key


def test_what_the_monitor_provides_beats_only_the_default() -> None:
    config = load("mon host = a\nms_max_backoff = 7\n")
    told = config.with_mon_values({"ms_max_backoff": "1", "ms_initial_backoff": "2", "mon_host": "b", "osd_x": "y"})
    assert (told.max_backoff, told.initial_backoff, told.mons) == (7, 2, config.mons)
    assert told.with_mon_values({}) != told
    assert told.with_mon_values({}).initial_backoff == 0.2
    with pytest.raises(ConfigError, match=r"ms_initial_backoff = 'soon' \(the monitor\)"):
        told.with_mon_values({"ms_initial_backoff": "soon"})


def test_options_of_the_call_may_be_written_with_dashes_and_as_numbers() -> None:
    config = load(mon_host="a", options={"ms-max-backoff": 3, "mon client_ping-interval": 1.5})
    assert (config.max_backoff, config.mon_ping_interval) == (3, 1.5)


def test_without_a_word_every_option_has_the_stock_default() -> None:
    config = load(mon_host="a")
    assert (config.cluster, config.name, config.conf_path, config.fsid, config.fs) == (
        "ceph",
        "client.admin",
        None,
        None,
        None,
    )
    assert (config.name.type, config.name.id) == ("client", "admin")
    assert (config.auth_methods, config.mon_modes, config.mds_modes) == (
        ("cephx", "none"),
        ("secure", "crc"),
        ("crc", "secure"),
    )
    assert (config.mountpoint, config.mount_timeout) == ("/", 300)
    assert (config.mon_hunt_interval, config.mon_ping_interval, config.mon_ping_timeout) == (3, 10, 30)
    assert (config.initial_backoff, config.max_backoff) == (0.2, 15)


def test_the_file_system_may_stand_under_its_older_name() -> None:
    assert load("mon host = a\nclient mds namespace = old\n").fs == "old"
    assert load("mon host = a\nclient mds namespace = old\nclient_fs = new\n").fs == "new"
    assert load("mon host = a\nclient_fs = new\n", fs="mine").fs == "mine"


@pytest.mark.parametrize(
    ("mode", "modes"),
    [
        ("secure", ("secure",)),
        ("crc", ("crc",)),
        ("prefer-secure", ("secure", "crc")),
        ("prefer-crc", ("crc", "secure")),
    ],
)
def test_ms_mode_decides_for_monitors_and_mdss_alike(mode: str, modes: tuple[str, ...]) -> None:
    config = load("mon host = a\nms client mode = secure\nms mon client mode = crc\n", ms_mode=mode)
    assert (config.mon_modes, config.mds_modes) == (modes, modes)


def test_messenger_v1_is_asked_for_in_the_call_alone() -> None:
    config = load("mon host = a\n", ms_mode="legacy")

    assert config.legacy
    assert config.with_mon_values({"ms_client_mode": "secure"}).legacy
    assert not load("mon host = a\n").legacy
    with pytest.raises(ConfigError, match=r"ms_client_mode = 'legacy' .* is not a list of crc, secure"):
        load("mon host = a\nms client mode = legacy\n")


def test_lists_are_cut_at_all_that_ceph_cuts_them_at() -> None:
    assert load("mon host = a\nms client mode = 'secure,;= \tcrc crc'\n").mds_modes == ("secure", "crc")


def test_auth_supported_beats_auth_client_required() -> None:
    config = load("mon host = a\nauth supported = none\nauth client required = cephx\n")
    assert (config.auth_methods, config.key) == (("none",), None)
    assert load("mon host = a\nauth supported =\nauth client required = gss, cephx\n").auth_methods == ("cephx",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0.5", 0.5), (".5", 0.5), ("1e1", 10), ("2 s", 2), ("5min", 300), ("1 hour", 3600), ("1mo", 2592000)],
)
def test_times_may_carry_units(text: str, seconds: float) -> None:
    assert load(f"mon host = a\nclient mount timeout = {text}\n").mount_timeout == seconds


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("ms_client_mode", "fast", r"ms_client_mode = 'fast' \(.*ceph.conf' \[global\]\) is not a list of crc, secure"),
        ("ms_mon_client_mode", "", r"ms_mon_client_mode = '' .* is not a list of crc, secure"),
        ("auth_client_required", "krb", r"auth_client_required = 'krb' .* is not a list of cephx, none, gss"),
        ("auth_client_required", "gss", r"gss is not supported"),
        ("client_mount_timeout", "soon", r"client_mount_timeout = 'soon' .* is not seconds"),
        ("client_mount_timeout", "-1", r"client_mount_timeout = '-1'"),
        ("client_mount_timeout", "nan", r"client_mount_timeout = 'nan'"),
        ("client_mount_timeout", "5 parsecs", r"client_mount_timeout"),
        ("fsid", "1234", r"fsid = '1234' .* is not a UUID"),
        ("client_mountpoint", "dir", r"client_mountpoint = 'dir' .* is not an absolute path"),
        ("mon_host", "a/b", r"mon_host 'a/b'"),
    ],
)
def test_a_value_of_no_use_is_refused_by_option_and_place(option: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(f"[global]\nmon host = a\n{option} = {value}\n")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"ms_mode": "fast"}, f"not one of {', '.join(MS_MODES)}"),
        ({"ms_mode": ""}, "ms_mode '' is not one of"),
        ({"name": "admin"}, "name 'admin' is not TYPE.ID, such as client.admin"),
        ({"name": "client."}, "is not TYPE.ID"),
        ({"name": "client.a\nb"}, "is not TYPE.ID"),
        ({"options": {"mon_hots": "a"}}, "did you mean mon_host?"),
        ({"options": {"x": "a"}}, "not one that cephcaps reads; known are mon_host, fsid"),
        ({"mon_host": ""}, "no mon_host given: set it"),
        ({"mon_host": ",;"}, "mon_host is empty"),
    ],
)
def test_what_a_call_cannot_mean_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**{"mon_host": "a"} | how)


# Which files.


def test_the_conf_of_the_call_beats_that_of_the_environment_and_that_the_search(tmp_path: Path) -> None:
    for name in ("call", "environment", "ceph", "zoo"):
        (tmp_path / f"{name}.conf").write_text(f"mon host = {name}.$cluster\n")
    environ = {"CEPH_CONF": f"{tmp_path}/environment.conf"}

    def host(**how: Any) -> str:
        return load(**how).mons[0][0].host

    assert host(conf=tmp_path / "call.conf", environ=environ) == "call.call"
    assert host(conf="none.conf, call.conf ;ceph.conf", environ=environ) == "call.call"
    assert host(conf="$cluster.conf") == "ceph.ceph"
    assert host(conf="call.conf", cluster="mine") == "call.mine"
    assert host(environ=environ) == "environment.ceph"
    assert host(environ={"CEPH_CONF": ""}) == "ceph.ceph"
    assert host(cluster="zoo") == "zoo.zoo"
    home = tmp_path / "home"
    (home / ".ceph").mkdir(parents=True)
    (tmp_path / "zoo.conf").rename(home / ".ceph" / "zoo.conf")
    assert host(cluster="zoo", environ={"HOME": str(home)}) == "zoo.zoo"


@pytest.mark.parametrize(
    ("file", "cluster"), [("a.b.conf", "a.b"), ("a.cfg", "ceph"), (".conf", "ceph"), ("conf", "ceph")]
)
def test_only_a_stem_before_conf_names_the_cluster(tmp_path: Path, file: str, cluster: str) -> None:
    (tmp_path / file).write_text("mon host = a\n")
    assert load(conf=tmp_path / file).cluster == cluster


def test_a_conf_that_is_not_there_is_named_with_every_other_tried() -> None:
    with pytest.raises(
        ConfigError, match=r"'/etc/ceph/none.conf' \(no such.*'/nonexistent/.ceph/none.conf' .*'none.conf' .*-c"
    ):
        load(cluster="none")
    with pytest.raises(ConfigError, match=r"could be read: 'none.conf' \(no such file or directory\); name one"):
        load(conf="none.conf", mon_host="a")
    with pytest.raises(ConfigError, match=r"'none.conf' \(no such"):
        load(environ={"CEPH_CONF": "none.conf"}, mon_host="a")


def test_a_conf_that_cannot_be_read_is_told_from_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"is a directory"):
        load(conf=tmp_path)
    with pytest.raises(ConfigError, match=r"no such path can be"):
        load(conf="a\0b")
    with pytest.raises(ConfigError, match=r"larger than 1048576 bytes"):
        load(conf="/dev/zero")
    (tmp_path / "latin.conf").write_bytes(b"[global]\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin.conf', line 2: not UTF-8"):
        load(conf=tmp_path / "latin.conf")

    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(ConfigError, match=r"'secret.conf' \(permission denied\)"):
        load(conf="secret.conf")


def test_a_conf_without_monitors_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no mon_host in 'ceph.conf'"):
        load("[mon]\nmon host = a\n")


def test_a_byte_order_mark_is_no_part_of_the_conf() -> None:
    assert load("\ufeff[global]\nmon host = a\n").mons


# The key.


def test_the_first_keyring_that_is_there_is_searched_for_the_entity(tmp_path: Path) -> None:
    keyring = tmp_path / "key ring"
    keyring.write_text(f"[client.admin]\nkey = {OTHER_KEY}\n[client.x]\nkey = {KEY}\n")
    config = load(mon_host="a", name="client.x", keyring=f"/none,{keyring},/dev/null")
    assert config.key is not None
    assert config.key.reveal() == KEY


def test_key_beats_keyfile_and_that_the_keyring(tmp_path: Path) -> None:
    (tmp_path / "keyfile").write_text(f"{KEY}\n")
    conf = f"mon host = a\nkeyfile = {tmp_path}/keyfile\n"
    by_file = load(conf, keyring="/none").key
    by_option = load(f"{conf}key = {OTHER_KEY}\n", keyring="/none").key
    assert by_file is not None
    assert by_option is not None
    assert (by_file.reveal(), by_option.reveal()) == (KEY, OTHER_KEY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            f"[client.y]\nkey = {KEY}\n",
            r"keyring '.*ring' has no key for client.x; it has 'client.y': pick one with name=",
        ),
        ("[client.x]\n", r"has no key for client.x; it has no \[entity\] section"),
        (f"{KEY}\n", r"has no key for client.x; .*a file with only a key is a keyfile"),
        ("", r"has no key for client.x"),
        ("[client.x]\nkey = AQB\n", r"ring' \[client.x\] holds no usable key"),
        (f"[client.x]\n{KEY[:-2]}\n", r"ring', line 2: neither"),
    ],
)
def test_a_keyring_of_no_use_is_named_with_what_to_do(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "ring").write_text(content)
    with pytest.raises(ConfigError, match=message) as refused:
        load(mon_host="a", name="client.x", keyring=tmp_path / "ring")
    assert KEY[:10] not in str(refused.value)


def test_a_keyring_that_cannot_be_read_is_told_from_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ConfigError, match=r"no keyring for client.admin .*'/none' \(no such file.*\), '/tmp' \(is a dir.*-k"
    ):
        load(mon_host="a", keyring="/none,/tmp")
    with pytest.raises(ConfigError, match=r"cannot read the keyfile of client.admin: '/none' \(no such"):
        load(mon_host="a", keyring="/none", options={"keyfile": "/none"})

    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(ConfigError, match=r"/etc/ceph/ceph.client.admin.keyring' \(permission denied\)"):
        load(mon_host="a", keyring=None)


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
@pytest.mark.parametrize("kind", ["keyring", "keyfile"])
def test_a_key_that_everybody_may_read_is_known_as_such(tmp_path: Path, kind: str, mode: int, exposed: bool) -> None:
    path = tmp_path / "file"
    path.write_text(f"[client.admin]\nkey = {KEY}\n" if kind == "keyring" else KEY)
    path.chmod(mode)
    how: dict[str, Any] = (
        {"keyring": path} if kind == "keyring" else {"keyring": None, "options": {"keyfile": str(path)}}
    )
    key = load_config(mon_host="10.0.0.1", environ=NOWHERE, **how).key
    assert key is not None
    assert key.exposed == (f"{str(path)!r}, of mode {mode:04o}" if exposed else "")


def test_no_keyring_means_no_authentication_only_where_that_is_said() -> None:
    config = load("mon host = a\nauth client required = cephx, none\n", keyring="/none")
    assert (config.auth_methods, config.key) == (("none",), None)
    with pytest.raises(ConfigError, match="no keyring"):
        load("mon host = a\n", keyring="/none")


def test_no_key_shows_in_a_repr_or_message() -> None:
    config = load(mon_host="a")
    assert KEY[:10] not in repr(config) + repr(config.options) + str(config)
    for how in (
        {"keyring": KEY},
        {"keyring": "/none", "options": {"keyfile": KEY}},
        {"conf": KEY},
        {"mon_host": KEY},
        {"fs": KEY, "options": {"client_mountpoint": "$client_fs"}},
        {"fs": KEY, "ms_mode": KEY},
        {"name": KEY},
        {"options": {KEY: "a"}},
        {"options": {"key": f"{KEY}!"}},
        {"options": {"ms_client_mode": f"x{KEY}"}},
        {"options": {"key": KEY, "fsid": "$key"}},
    ):
        with pytest.raises(ConfigError) as refused:
            load(**{"mon_host": "a"} | how)
        assert KEY[:10] not in str(refused.value)
        assert "\n" not in str(refused.value)


# Monitors.

V2, V1 = MonAddress("v2", "1.2.3.4", 3300), MonAddress("v1", "1.2.3.4", 6789)
SIX = "fe80::1"


@pytest.mark.parametrize(
    ("text", "mons"),
    [
        ("1.2.3.4", [(V2, V1)]),
        ("1.2.3.4:6789", [(V1,)]),
        ("1.2.3.4:3300", [(V2,)]),
        ("1.2.3.4:7777", [(MonAddress("v2", "1.2.3.4", 7777), MonAddress("v1", "1.2.3.4", 7777))]),
        ("1.2.3.4:0/0", [(V2, V1)]),
        ("v1:1.2.3.4", [(V1,)]),
        ("v2:1.2.3.4", [(V2,)]),
        ("v2:1.2.3.4:99/7", [(MonAddress("v2", "1.2.3.4", 99, 7),)]),
        ("any:1.2.3.4:3300", [(V2,)]),
        ("any:1.2.3.4", [(V2, V1)]),
        ("[v2:1.2.3.4:3300,v1:1.2.3.4:6789]", [(V2, V1)]),
        ("[v1:1.2.3.4:6789/0,v2:1.2.3.4:3300/0]", [(V2, V1)]),
        ("[1.2.3.4:3300,1.2.3.4:6789]", [(V2, MonAddress("v2", "1.2.3.4", 6789))]),
        ("[1.2.3.4]", [(V2, V1)]),
        ("[v2:1.2.3.4]", [(V2,)]),
        ("[1.2.3.4]:3300", [(V2,)]),
        (SIX, [(MonAddress("v2", SIX, 3300), MonAddress("v1", SIX, 6789))]),
        (f"[{SIX}]", [(MonAddress("v2", SIX, 3300), MonAddress("v1", SIX, 6789))]),
        (f"[{SIX}]:6789", [(MonAddress("v1", SIX, 6789),)]),
        (f"v2:[{SIX}]:3300", [(MonAddress("v2", SIX, 3300),)]),
        ("v2:::1", [(MonAddress("v2", "::1", 3300),)]),
        (f"[v2:[{SIX}]:3300,v1:[{SIX}]:6789]", [(MonAddress("v2", SIX, 3300), MonAddress("v1", SIX, 6789))]),
        ("mon-a.example:3300", [(MonAddress("v2", "mon-a.example", 3300),)]),
        ("a", [(MonAddress("v2", "a", 3300), MonAddress("v1", "a", 6789))]),
        ("v2:1.2.3.4,, v1:1.2.3.4;\t[v2:1.2.3.4,v1:1.2.3.4] v2:1.2.3.4", [(V2,), (V1,), (V2, V1)]),
    ],
)
def test_mon_host_is_read_as_ceph_reads_it(text: str, mons: list[tuple[MonAddress, ...]]) -> None:
    assert list(parse_mon_host(text)) == mons


NO_MONS = r"""
[] v2: v3:a V2:a a:b a: a:65536 1.2.3.456 1.2.3 ::g [::1 ::1] [::1]3300 [v2:a, [v2:a]:80 [a,,b] a/ a/x
a/4294967296 a=b a@b - é a/٣
"""


@pytest.mark.parametrize("text", ["", " ,;", *NO_MONS.split()])
def test_what_is_no_monitor_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match=r"mon_host .*; write 10\.0\.0\.1|mon_host is empty"):
        parse_mon_host(text)


def test_an_address_prints_as_mon_host_takes_it() -> None:
    for text in ("v2:1.2.3.4:99", "v1:[fe80::1]:6789", "v2:mon.example:3300"):
        assert str(parse_mon_host(text)[0][0]) == text


@given(st.text(alphabet=st.sampled_from("v12any:[]/,; 3300.af-%٣\0"), max_size=40) | st.text(max_size=20))
def test_any_mon_host_is_understood_or_refused(text: str) -> None:
    try:
        mons = parse_mon_host(text)
    except ConfigError:
        return
    assert all(0 < address.port < 65536 and address.host for mon in mons for address in mon)
    assert all(parse_mon_host(str(address)) for mon in mons for address in mon)


# CEPH_ARGS.


@pytest.mark.parametrize(
    ("ceph_args", "argv", "together"),
    [
        ("", ["ls"], ["ls"]),
        (" --id  a ", ["ls", "/"], ["--id", "a", "ls", "/"]),
        ("-k '/a b'", [], ["-k", "'/a", "b'"]),
        ("--id a -- b", ["ls"], ["--id", "a", "ls", "--", "b"]),
        ("-- b", ["ls", "--", "a"], ["ls", "--", "a", "b"]),
    ],
)
def test_ceph_args_go_before_the_arguments(ceph_args: str, argv: list[str], together: list[str]) -> None:
    assert with_ceph_args(argv, {"CEPH_ARGS": ceph_args}) == together


# All of it.

CHARACTERS = ["\n", "\n", "\n", " = ", "=", " ", *"#'\\,${}\0/1"]
SECTIONS = ["[global]", "[client]", "[client.admin]"]
WORDS = ["secure", "crc", "none", "cephx", "a", "v2:", "$key", "${keyring}", KEY, *OPTIONS]
LINES = [f"\n{name} = ${other}\n" for name in OPTIONS for other in OPTIONS]
fragments = st.sampled_from([*CHARACTERS, *SECTIONS, *WORDS]) | st.sampled_from(LINES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(fragments, max_size=30).map("".join) | st.text(max_size=40))
def test_any_conf_gives_a_config_or_is_refused_in_one_line(text: str) -> None:
    Path("any.conf").write_bytes(f"mon host = a\n{text}".encode("utf-8", "surrogatepass"))
    try:
        config = load_config("any.conf", environ=NOWHERE)
    except ConfigError as refused:
        said = str(refused)
    else:
        said = repr(config)
    assert KEY[:10] not in said
    assert "\n" not in said
