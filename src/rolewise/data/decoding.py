"""The progress bar of decoding many images."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MANY = 2000  # images; fewer are read before a person would look for a bar


@contextmanager
def progress_bar(title: str, total: int, *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if it is wanted, that is a terminal and there is much to do; the function moves it by one."""
    if not shown or total < _MANY or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
