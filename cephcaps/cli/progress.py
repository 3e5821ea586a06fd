"""How far a long file has been read: a bar on stderr, where somebody sees it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cephcaps.cli.captures import LARGE, size_of
from cephcaps.cli.output import on_terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Progress"]


class Progress:
    """Writes lines on stderr, and below them a bar while a large file is read and only the bar is on the terminal."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: Any = None
        self._file: BinaryIO | None = None

    @contextmanager
    def over(self, name: str, file: BinaryIO) -> Iterator[None]:
        """While ``file`` is read."""
        size = size_of(file)
        if size < LARGE or on_terminal() or sys.stderr is None or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        bar = Bar(
            BarColumn(), DownloadColumn(), TimeRemainingColumn(),
            console=Console(stderr=True), auto_refresh=False, transient=True,
        )  # fmt: skip
        self._bar, self._file, self._task = bar, file, bar.add_task(name, total=size)
        try:
            with bar:
                yield
        finally:
            self._bar = self._file = None

    def step(self) -> None:
        """Show where the file is read. To be called now and then."""
        if self._bar is not None and self._file is not None:
            self._bar.update(self._task, completed=self._file.tell(), refresh=True)

    def say(self, line: str) -> None:
        """Write a line."""
        if self._bar is None:
            click.echo(line, err=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
