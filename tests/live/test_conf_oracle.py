"""Where the stock tools take a ceph.conf, its values here are theirs: ``ceph-conf`` and ``ceph`` as the judges."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cephcaps.config import OPTIONS, ClientConfig, load_config, parse_mon_host, with_ceph_args
from cephcaps.errors import ConfigError

HOME = "/home/x"
ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": HOME}
NAME = "client.x"
CALL = {"mon_host": "a", "key": "AQBsxAJrDcwGChAATNVP9cNLJ8ILliqZ/p8m2w=="}

pytestmark = pytest.mark.skipif(
    shutil.which("ceph-conf") is None or shutil.which("ceph") is None,
    reason="no ceph-conf or ceph: apt-get install ceph-common",
)


def stock(*args: str, environ: dict[str, str] | None = None) -> str | None:
    """What ceph-conf prints; None where it refuses the file, or knows no such key."""
    command = ["ceph-conf", *args]
    done = subprocess.run(command, env=ENVIRON | (environ or {}), capture_output=True, timeout=10, check=False)
    return done.stdout.decode().removesuffix("\n") if done.returncode == 0 else None


def stock_value(conf: Path, option: str, name: str = NAME) -> str | None:
    action = "--show-config-value" if option in OPTIONS else "--lookup"
    return stock("-c", str(conf), "--name", name, action, option)


def our_config(
    conf: Path | str, option: str = "", name: str = NAME, environ: dict[str, str] | None = None
) -> ClientConfig:
    call = {needed: value for needed, value in CALL.items() if needed != option}
    return load_config(conf, name=name, options=call, environ=ENVIRON | (environ or {}))


def our_value(conf: Path, option: str, name: str = NAME) -> str | None:
    options = our_config(conf, option, name).options
    if option in OPTIONS:
        return options.text(option)
    layer = options.given(option)
    return None if layer is None else options.expand(layer.values[option], option)


VALUES = r"""
bar
bar baz
bar  baz
"bar"
'bar'
" bar baz "
''
"bar's"
'"bar"'
'bar\'s'
"a\"b"
"a\\b"
bar's
bar"baz"
\"bar\"
\'bar'
'a' # said
'a';said
"a \# b"
"a \; b"
bar # said
bar#said
bar ; said
bar;said
bar # said; again
bar \# said
bar\;said
#
;
a\b
a\\b
a\\\\b
a\\\b
\ a\ b\x
\\
\=
a=b
=
==a
a = b
[a]
a]b
a,b;c
/a/b/../c
1.5
~/a
*
$cluster
$type
$id
$name
$num
$home
$fsid
$run_dir
$client_mountpoint
$cluster-$name.$type
${name}
${name}x
$name.x
$namex
$name_x
$Name
$name1
${name1}
${name
${ name}
${name }
${}
${}x
$
$$
$$name
$$$name
a$
$ name
$1
$unknown
${unknown}
$foo
$auth_supported
'$name'
"${id}"
\$name
$\name
$na\me
$cluster$name$id
$mon_host
"""

CONFS = [
    "foo=a\n",
    "[global]\nfoo=a\n",
    "[global]\r\nfoo=a\r\n",
    "[global]\rfoo=a\r",
    "[global]\n\n\n  \t\nfoo=a\n\n",
    "# x\n; y\n\t# z\n[global]\n # x\nfoo=a\n ; y\n",
    "[global] # x\nfoo=a\n",
    "[global];x\nfoo=a\n",
    "[global]  \t\nfoo=a\n",
    "[global]\n\tfoo\t=\ta\t\n",
    "[global]\n\vfoo\v=\va\v\n",
    "[global]\nfoo=\f'a'\f\n",
    "[global]\nfoo=a\nfoo=b\n",
    "[global]\nfoo=a\n[global]\nfoo=b\n",
    "[global]\nfoo=a\n[client]\n[global]\nbar=b\n",
    "[global]\nfoo=a\n[client]\nfoo=b\n",
    "[global]\nfoo=a\n[client]\nfoo=b\n[client.x]\nfoo=c\n",
    "[client.x]\nfoo=c\n[client]\nfoo=b\n[global]\nfoo=a\n",
    "[client.x]\nfoo=c\n[client.y]\nfoo=b\n",
    "[global]\nfoo=a\n[client.x]\nfoo=\n",
    "[global]\nfoo=a\n[client.X]\nfoo=b\n[CLIENT]\nfoo=c\n",
    "[global]\nfoo=a\n[ client.x]\nfoo=b\n[client.x ]\nfoo=c\n[client. x]\nfoo=d\n",
    "[global]\nfoo=a\n['client.x']\nfoo=b\n[client.*]\nfoo=c\n[x]\nfoo=d\n",
    "[global]\nfoo=a\n[client.\\x]\nfoo=b\n",
    "[global]\nfoo=a\n[client\\\n.x]\nfoo=b\n",
    "[a\\]b]\nfoo=x\n[a[b]\nfoo=y\n[a\\#b]\nfoo=z\n[global]\nfoo=a\n",
    "[global]\nfoo=a \\\n b\n",
    "[global]\nfoo=a\\\nb\n",
    "[global]\nfoo=a\\\r\nb\r\n",
    "[global]\nfoo=a\\\n\\\n\\\nb\n",
    "[global]\nfoo=\\\na\n",
    "[global]\nfoo= \\\n a\n",
    "[global]\nfoo=\\\n'a b'\n",
    "[global]\nfoo= \\\n'a b'\n",
    "[global]\nfoo= \\\n 'a b'\n",
    '[global]\nfoo=\\\n\t"a b"\n',
    "[global]\nfoo='a'\\\n\nbar=b\n",
    "[global]\nfoo=a\\\n# x\nbar=b\n",
    "[global]\nfoo=a # x \\\nfoo=b\n",
    "[global]\n# x \\\nfoo=a\n",
    "[global]\n# x \\\n\\\nfoo=a\n",
    "[global]\n\\\nfoo=a\n",
    "[global]\nfoo\\\n=a\n",
    "[global]\nfoo \\\n=a\n",
    "[global]\nfo\\\no=a\n",
    "[global]\nfoo=\\\n\nbar=b\n",
    "[global]\nfoo=a\\\\\nbar=b\n",
    "[global]\nfoo=a\nFoo=b\nFOO=c\n",
    "[global]\nfoo=a\nf-oo=b\nfoo-=c\n",
    "[global]\nfoo=a\n\\foo=b\nfoo\\ =c\nfoo\\==d\n",
    "[global]\nfoo=a\n'foo'=b\n\"foo\"=c\n",
    "[global]\nfoo=a\n_foo=b\nfoo_=c\n",
    "[global]\nfoo=a\nx]=b\nfoo.x=c\nfoo/x=d\n$foo=e\n",
    "[global]\ncluster=a\nname=b\nid=c\nfoo=$cluster $name $id\n",
    "[global]\nbar=b\nfoo=$bar ${bar}\n",
    "[global]\nfoo=$fsid\nfsid=6f1a2b3c-0000-4000-8000-0123456789ab\n",
    "[global]\nfoo=$host\nhost=here\n",
    "[global]\nfoo=$host\n",
    "[global]\nfoo=$keyring\nkeyring=$keyfile\nkeyfile=$client_fs\nclient fs=$name\n",
    "[global]\nfoo=$keyring\n",
    "[global]\nfoo=$client_fs\n[client]\nclient_fs=a\n[client.x]\nclient fs=b\n",
]

KEYS = [
    "foo bar",
    "foo_bar",
    "foo  bar",
    "foo\tbar",
    "foo \t bar",
    " foo bar ",
    "foo__bar",
    "foo-bar",
    "foo _bar",
    "foo\vbar",
]

OPTION_LINES = [
    "mon host = 10.0.0.1, 10.0.0.2",
    "mon_host = [v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]",
    "mon  host = a\nmon_host = b",
    "mon_host = a\nmon host = b",
    "mon-host = b\nmon host = a",
    "keyring = /etc/ceph/$cluster.$name.k",
    "keyring = ' a '",
    "keyring = $keyfile\nkeyfile = $keyring",
    "keyring = $keyfile$keyfile\nkeyfile = $client_fs",
    "keyring = $home/.ceph/$id.keyring",
    "keyring = $run_dir/${cluster}.$num",
    "keyring = a\n[client]\nkeyring = b\n[client.x]\nkeyring = c",
    "keyring = a\n[client.y]\nkeyring = c",
    "keyring =",
    "fsid = 6F1A2B3C-0000-4000-8000-0123456789AB",
    "client_fs = a b",
    "ms client mode = crc",
]


@pytest.mark.parametrize("value", VALUES.strip("\n").split("\n"))
def test_a_value_is_what_ceph_conf_says(tmp_path: Path, value: str) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text(f"[global]\nmon_host = 10.0.0.1\nfoo = {value}\n")
    expected = stock_value(conf, "foo")
    assert expected is not None
    assert our_value(conf, "foo") == (expected if value != "$mon_host" else CALL["mon_host"])


@pytest.mark.parametrize("text", CONFS)
def test_a_file_is_read_as_ceph_conf_reads_it(tmp_path: Path, text: str) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text(text, newline="")
    assert our_value(conf, "foo") == stock_value(conf, "foo")


@pytest.mark.parametrize("key", ["foo_bar", "foo__bar", "foo-bar", "foo_-bar"])
def test_a_key_is_the_one_ceph_conf_takes_it_for(tmp_path: Path, key: str) -> None:
    conf = tmp_path / "t.conf"
    for keys in (KEYS, KEYS[::-1]):  # the last of those that are the same key wins
        conf.write_text("[global]\n" + "".join(f"{written} = {written}!\n" for written in keys))
        assert our_value(conf, key) == stock_value(conf, key)


@pytest.mark.parametrize("lines", OPTION_LINES)
def test_an_option_has_the_value_ceph_conf_gives_it(tmp_path: Path, lines: str) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text(f"[global]\n{lines}\n")
    option = re.split(r"\s*=", lines)[0].replace("-", "_")
    option = re.sub(r"\s+", "_", option)
    expected = stock_value(conf, option)
    assert expected is not None
    assert our_value(conf, option) == expected or (option == "fsid" and our_config(conf).fsid == expected)


TOKENS = [
    "a",
    "b",
    " ",
    "\t",
    "\v",
    "=",
    "\\",
    "\\\n",
    "#",
    ";",
    "'",
    '"',
    "[",
    "]",
    "{",
    "}",
    "_",
    "$",
    "$name",
    "${id}",
    "$host",
]
LINES = st.builds("".join, st.lists(st.sampled_from([*TOKENS, "foo", "foo = "]), max_size=9))
FOO_LINES = st.builds("foo{}{}".format, st.sampled_from([" = ", "="]), st.lists(st.sampled_from(TOKENS)).map("".join))
HEADERS = st.sampled_from(["[global]", "[client]", "[client.x]", "[ client.x ]", "[client.y]"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FOO_LINES | LINES | HEADERS, max_size=3), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_whatever_file_ceph_conf_takes_is_read_the_same(tmp_path: Path, lines: list[str], end: str) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text("".join(line + end for line in ["[global]", *lines]), newline="")
    expected = stock_value(conf, "foo")
    if expected is not None:
        assert our_value(conf, "foo") == expected
    elif not refused_by_stock(conf):
        assert our_value(conf, "foo") is None


def refused_by_stock(conf: Path) -> bool:
    return stock("-c", str(conf), "--show-config-value", "client_mountpoint") is None


# recover_session is the kernel client's.
@pytest.mark.parametrize("option", [name for name in OPTIONS if name not in ("key", "mon_host", "recover_session")])
def test_a_default_is_the_stock_one(tmp_path: Path, option: str) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text("[global]\n")
    ours, theirs = our_value(conf, option), stock_value(conf, option)
    assert theirs is not None
    assert ours == theirs or float(ours or "nan") == float(theirs)


@pytest.mark.parametrize(
    "time", ["7", "7s", "7 sec", "2 m", "2min", "1 minute", "1h", "1hr", "2 d", "1day", "1w", "1wk", "1mo", "2y"]
)
def test_a_time_has_the_seconds_ceph_conf_gives_it(tmp_path: Path, time: str) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text(f"[global]\nclient mount timeout = {time}\n")
    assert our_config(conf).mount_timeout == float(stock_value(conf, "client_mount_timeout") or "nan")


NAMINGS = ["{0}", "/none,{0}", "/none.conf;{0}", ",{0},/none", "/$cluster.conf,{0}"]
FILES = [("a.conf", form) for form in NAMINGS] + [(file, "{0}") for file in ("a.b.conf", "a", "a.cfg", ".conf", "conf")]


@pytest.mark.parametrize(("file", "naming"), FILES)
def test_a_cluster_is_named_as_ceph_conf_names_it(tmp_path: Path, file: str, naming: str) -> None:
    (tmp_path / file).write_text("[global]\nfoo = $cluster\n")
    conf = naming.format(tmp_path / file)
    assert our_config(conf).cluster == stock("-c", conf, "--lookup", "foo")


def test_the_environment_says_what_it_says_to_ceph_conf(tmp_path: Path) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text("[global]\nkeyring = a\nfoo = $cluster\n")
    environ = {"CEPH_CONF": str(conf), "CEPH_KEYRING": "/k/$name"}
    ours = load_config(name=NAME, options=CALL, environ=ENVIRON | environ)
    assert ours.cluster == stock("--lookup", "foo", environ=environ)
    assert ours.options.text("keyring") == stock("--name", NAME, "--show-config-value", "keyring", environ=environ)


@pytest.mark.parametrize(
    "words",
    [
        "--keyring=/x",
        "--keyring  /x",
        "-k /x --id y",
        "--keyring '/x y'",
        "--keyring=/x --keyring=/y",
        "",
        "--keyring=/x --",
    ],
)
@pytest.mark.parametrize(
    "argv", [["--show-config-value", "keyring"], ["--keyring=/z", "--show-config-value", "keyring"]]
)
def test_ceph_args_stand_where_ceph_conf_puts_them(tmp_path: Path, words: str, argv: list[str]) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text("[global]\nfoo = a\n")
    argv = ["-c", str(conf), *argv]
    environ = {"CEPH_ARGS": words}
    assert stock(*with_ceph_args(argv, environ)) == stock(*argv, environ=environ)


MON_HOSTS = r"""
1.2.3.4
1.2.3.4:6789
1.2.3.4:3300
1.2.3.4:7777
1.2.3.4:0/7
v1:1.2.3.4
v2:1.2.3.4:99/5
any:1.2.3.4:77
[v2:1.2.3.4:3300,v1:1.2.3.4:6789]
[v1:1.2.3.4:6789/0,v2:1.2.3.4:3300/0]
[1.2.3.4:3300,1.2.3.4:6789]
[1.2.3.4]
[any:1.2.3.4:3300]
v2:[1.2.3.4]:3300
::1
[::1]:6789
v2:[fe80::1]:3300
v2:::1
[v2:[::1]:3300,v1:[::1]:6789]
[v2:1.2.3.4:3300,v1:1.2.3.4:6789] 1.2.3.5
1.2.3.4,,;1.2.3.5 1.2.3.6
[v2:1.2.3.4:3300],[v2:1.2.3.5:3300],1.2.3.4
"""


@pytest.mark.parametrize("mon_host", MON_HOSTS.strip().split("\n"))
def test_mon_host_means_the_monitors_of_the_monmap_that_ceph_builds(tmp_path: Path, mon_host: str) -> None:
    ours = {f"{address}/{address.nonce}" for mon in parse_mon_host(mon_host) for address in mon}
    assert ours == monmap_of(tmp_path, mon_host)


def monmap_of(tmp_path: Path, mon_host: str) -> set[str]:
    """The addresses ceph would try; it logs them before it tries the first."""
    conf = tmp_path / "t.conf"
    conf.write_text("[global]\nauth client required = none\n")
    log = ["--debug-monc=10", "--log-to-stderr=true", "--log-file=", "--connect-timeout=1"]
    command = ["ceph", "-c", str(conf), f"--mon-host={mon_host}", *log, "status"]
    addresses: set[str] = set()
    with subprocess.Popen(command, env=ENVIRON, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as ceph:
        assert ceph.stderr is not None
        for line in ceph.stderr:
            if found := re.fullmatch(r"\d+: (.*) mon\..*\n", line):
                addresses.update(re.findall(r"v[12]:(?:\[[^]]*\]|[^,[\]]*?):\d+/\d+", found[1]))
            elif addresses:
                break
        ceph.kill()
    return addresses


def test_what_ceph_conf_refuses_and_is_plain_enough_is_taken(tmp_path: Path) -> None:
    conf = tmp_path / "t.conf"
    for text in ("[global]\nfoo = a", "  [global]\nfoo = a\n", "[global]\nfoo = 'a # b'\n", "foo = a\nbar = b\n"):
        conf.write_text(text)
        assert refused_by_stock(conf)
        assert (our_value(conf, "foo") or "").startswith("a")


def test_what_neither_takes_is_refused_here_with_the_line(tmp_path: Path) -> None:
    conf = tmp_path / "t.conf"
    for text in ("[global]\nfoo\n", "[global] foo\n\n", "[global\n", "[global]\nfoo = 'a\n", "[global]\nfoo = 'a' b\n"):
        conf.write_text(text)
        assert refused_by_stock(conf)
        with pytest.raises(ConfigError, match=r"t.conf', line [12]: "):
            our_config(conf)
