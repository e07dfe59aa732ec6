"""Jobs for several threads, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice, takewhile
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from cam.images.decode import memory_reused
from cam.images.io import one_thread

Job = TypeVar("Job")

Result = TypeVar("Result")

_SECONDS = 2.0


def in_order(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int | None = None,
    ahead: int = 4,
    meanwhile: Callable[[], None] = lambda: None,
) -> Generator[Result]:
    """Do jobs side by side, and give their results in the order of the jobs.

    The libraries' own threads are shared out meanwhile: a worker a core needs no others. When the caller stops, or an
    exception gets in the way, jobs that have begun are finished and the others are not begun; of a KeyboardInterrupt
    while a result is waited for, the caller hears after the results of the jobs that had begun.

    Args:
        work: what to do with a job; lets go of the interpreter's lock while it computes.
        jobs: taken as they are needed.
        workers: threads; as many as torch may use by default, which is the number of cores or OMP_NUM_THREADS.
        ahead: jobs a worker that are under way or done and not yet taken: how far others may run ahead of a slow one.
        meanwhile: called every two seconds while a result is waited for.

    Raises:
        Exception: what `work` raises, when its turn comes.

    Example:
        >>> list(in_order(lambda number: 2 * number, range(5), workers=2))
        [0, 2, 4, 6, 8]
    """
    remaining = iter(jobs)
    workers = workers or torch.get_num_threads()
    with _shared_by(workers), ThreadPoolExecutor(workers, "cam") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            while True:
                room = ahead * workers - len(waiting)
                waiting.extend(pool.submit(work, job) for job in islice(remaining, room))
                if not waiting:
                    return
                while not wait(islice(waiting, 1), _SECONDS).done:
                    meanwhile()
                yield waiting.popleft().result()
        except KeyboardInterrupt:  # what is in hand is done, and told, before the caller stops
            pool.shutdown(cancel_futures=True)
            yield from (job.result() for job in takewhile(lambda job: not job.cancelled(), waiting))
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _shared_by(workers: int) -> Iterator[None]:
    """Let torch use so many threads a call that the workers together have as many as it had alone; the others one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))  # of workers that are started from here on
    try:
        with threadpool_limits(1, "blas"), one_thread(), memory_reused():
            yield
    finally:
        torch.set_num_threads(threads)
