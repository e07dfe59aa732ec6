"""Jobs for several threads, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from cam.images.decode import tuned_for_workers

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int | None = None, ahead: int = 4
) -> Generator[Result]:
    """Run jobs in parallel threads, by default one per core, and yield their results in the order of the jobs.

    Up to `ahead` jobs per worker are taken before their results are. When the caller stops, or a job raises, jobs that
    have begun are finished and the others are not begun. A KeyboardInterrupt during a wait is raised after the results
    of the jobs that have begun.
    """
    remaining = iter(jobs)
    workers = workers or torch.get_num_threads()
    with threads_divided_by(workers), ThreadPoolExecutor(workers, "cam") as pool:
        running: deque[Future[Result]] = deque()
        try:
            while True:
                room = ahead * workers - len(running)
                running.extend(pool.submit(work, job) for job in islice(remaining, room))
                if not running:
                    return
                result = running[0].result()
                running.popleft()
                yield result
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            yield from (job.result() for job in running if not job.cancelled())
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def threads_divided_by(workers: int) -> Iterator[None]:
    """Give each worker its share of torch's threads, and one thread of the other libraries: a core has one worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))  # of threads that start from here on
    try:
        with threadpool_limits(1, "blas"), tuned_for_workers():
            yield
    finally:
        torch.set_num_threads(threads)
