"""Work that may hang, done within a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Do something in a thread of its own, and wait no longer than that for it.

    What hangs cannot be stopped: it goes on in its thread, which keeps nobody waiting, not even the program's end.

    Args:
        seconds: how long to wait.
        work: what to do.

    Returns:
        What it returned; what it raised is raised here.

    Raises:
        TimeoutError: it takes longer.

    Example:
        >>> within(60, lambda: 6 * 7)
        42
    """
    try:
        helper = _idle.pop()
    except IndexError:
        helper = _Helper()
    helper.tasks.put(work)
    try:
        result, error = helper.answers.get(timeout=min(seconds, threading.TIMEOUT_MAX))
    except Empty:
        helper.tasks.put(None)
        raise TimeoutError from None
    _idle.append(helper)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


class _Helper:
    """A thread for one task after the other: starting one for each costs as much as decoding a small picture."""

    def __init__(self) -> None:
        self.tasks: SimpleQueue = SimpleQueue()  # type: ignore[type-arg]
        self.answers: SimpleQueue = SimpleQueue()  # type: ignore[type-arg]
        threading.Thread(target=self._run, name="cam-deadline", daemon=True).start()

    def _run(self) -> None:
        while task := self.tasks.get():
            try:
                self.answers.put((task(), None))
            except BaseException as error:  # raised again where it is waited for
                self.answers.put((None, error))
            del task  # and what it holds


_idle: deque[_Helper] = deque()
