"""Options that every command takes, before its name or after, spelled as Ceph's own tools spell them."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cephcaps.client import Client

__all__ = ["CephCommand", "CephGroup", "Settings", "absolute_path", "global_options"]

C = TypeVar("C", bound=Callable[..., Any])

FORMATS = ("plain", "json", "json-pretty")
CONTEXT: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("_", "-"),
}
SEE_ALL = "Options that say which cluster and who to be there: cephcaps --help"


class Settings:
    """What the command line says beside the command.

    Attributes:
        given: arguments for `cephcaps.connect`, those given only.
        format: one of ``FORMATS``.
    """

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.format: str = "plain"
        self._options: dict[str, str] = {}
        self._verbosity = 0

    @property
    def pretty(self) -> bool:
        """Whether JSON is indented."""
        return self.format == "json-pretty"

    def take(self, name: str, value: Any) -> None:
        """Note one option; the last of several counts."""
        match name:
            case "format":
                self.format = value
            case "verbose":
                self._verbosity += value
            case "entity_id":
                self.given["name"] = f"client.{value}"
            case _:
                self.given[name] = value

    def take_option(self, name: str, value: str) -> None:
        """Note one option of ceph.conf."""
        self._options[name] = value
        self.given["options"] = self._options

    def connect(self, *, mount: bool = True) -> Client:
        """A client to be entered, which mounts the file system or not.

        From now on the library's log goes to stderr, as far as it was asked for.
        """
        from cephcaps.client import connect

        if self._verbosity or "record" in self.given:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            library = logging.getLogger("cephcaps")
            library.addHandler(handler)
            # Without -v, what ends the recording is told all the same.
            library.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(self._verbosity, 2)])
        return connect(**self.given) if mount else connect(**self.given, mount=False)


def seconds(value: str) -> float:
    """Type of an option: a time above zero."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise click.BadParameter(f"{value!r} is no number of seconds above 0")
    return number


def absolute_path(value: str) -> str:
    """Type of an argument: a path in the file system, its bytes as the library wants them."""
    path = os.fsencode(value).decode("utf-8", "surrogateescape")
    if not value.startswith("/"):
        raise click.BadParameter(f"{value!r} is relative: paths begin at the root of the mount, with /")
    return path


def global_options(*, hidden: bool = True) -> Callable[[C], C]:
    """Decorates a command with the options every one takes, out of sight in its own help where ``hidden``."""

    def note(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.ensure_object(Settings).take(param.name or "", value)

    def option(*names: str, **how: Any) -> Callable[[C], C]:
        return click.option(*names, callback=note, expose_value=False, hidden=hidden, **how)

    options = (
        option("conf", "-c", "--conf", metavar="CONF", help="ceph.conf to read."),
        option("cluster", "--cluster", metavar="NAME", help="What $cluster stands for in paths; ceph."),
        option("entity_id", "--id", "--user", metavar="ID", help="Who to be: client.ID."),
        option("name", "-n", "--name", metavar="TYPE.ID", help="Who to be; client.admin."),
        option("keyring", "-k", "--keyring", metavar="KEYRING", help="Keyring to read."),
        option("mon_host", "-m", "--mon-host", metavar="HOSTS", help="Where the monitors are."),
        option("fs", "--fs", metavar="NAME", help="The file system; the cluster's default one."),
        option("ms_mode", "--ms-mode", metavar="MODE", help="secure, crc, prefer-secure, prefer-crc or legacy."),
        option("timeout", "--connect-timeout", type=seconds, metavar="S", help="Until the file system is reached."),
        option("request_timeout", "--timeout", type=seconds, metavar="S", help="For each request after that."),
        option("record", "--record", metavar="OUT.pcapng", help="Write every message to a capture file."),
        option("format", "-f", "--format", type=click.Choice(FORMATS), help="How results look."),
        option("verbose", "-v", "--verbose", count=True, default=None, help="Log to stderr; -vv for more."),
    )

    def decorate(command: C) -> C:
        for add in reversed(options):
            command = add(command)
        return command

    return decorate


class CephCommand(click.Command):
    """A command that also takes the options of ceph.conf that cephcaps knows, such as ``--client-mountpoint /a``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT
        kwargs.setdefault("epilog", SEE_ALL)
        super().__init__(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption:
            # They are looked at only now, because few need them and everybody would wait for their module.
            self.params: list[click.Parameter] = [*self.params, *_conf_options(self.params)]
            return super().parse_args(ctx, args)


class CephGroup(CephCommand, click.Group):
    """A group that takes them too, before its command's name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, epilog=None, no_args_is_help=False, **kwargs)


def _conf_options(taken: list[click.Parameter]) -> list[click.Parameter]:
    """The options of ceph.conf, but for those whose words are ``taken``."""
    from cephcaps.config import OPTIONS

    def note(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.ensure_object(Settings).take_option(param.name or "", value)

    words = {word for param in taken for word in param.opts}
    return [
        click.Option([name, word], callback=note, expose_value=False, hidden=True)
        for name in OPTIONS
        if (word := f"--{name.replace('_', '-')}") not in words
    ]
