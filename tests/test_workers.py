"""Jobs for several threads, their results in order."""

from __future__ import annotations

import signal
import threading
import time

import pytest
import torch

from cam.runs.workers import in_order


def test_results_come_in_the_order_of_the_jobs():
    delays = [0.05, 0.0, 0.03, 0.0, 0.0, 0.02, 0.0, 0.0]

    def work(index):
        time.sleep(delays[index])
        return index

    assert list(in_order(work, range(8), workers=4)) == list(range(8))


def test_jobs_run_in_parallel():
    meeting = threading.Barrier(3, timeout=10)
    assert sorted(in_order(lambda _: meeting.wait(), range(3), workers=3)) == [0, 1, 2]


def test_only_so_many_jobs_are_taken_ahead():
    taken = []

    def jobs():
        for job in range(100):
            taken.append(job)
            yield job

    results = in_order(lambda job: job, jobs(), workers=2, ahead=3)
    for done in range(5):
        assert next(results) == done
        assert len(taken) <= done + 2 * 3
    results.close()
    assert len(taken) <= 5 + 2 * 3


def test_an_error_is_raised_in_its_turn_and_later_jobs_do_not_begin():
    begun = []

    def work(job):
        begun.append(job)
        if job == 3:
            raise ValueError("job 3")
        time.sleep(0.2 * (job > 3))
        return job

    results = in_order(work, range(1000), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="job 3"):
        next(results)
    assert len(begun) < 3 + 2 * 4


def test_ctrl_c_comes_after_the_results_of_jobs_that_have_begun():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    begun, results = [], []

    def work(job):
        begun.append(job)
        if job == 0:
            time.sleep(0.2)  # until the caller waits
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.3)
        return job

    try:
        with pytest.raises(KeyboardInterrupt):
            results.extend(in_order(work, range(100), workers=2))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert results == sorted(begun)
    assert len(begun) < 2 * 4


def test_workers_have_one_thread_each_and_the_caller_gets_its_threads_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(in_order(lambda _: torch.get_num_threads(), range(4), workers=2)) == [1] * 4
        assert torch.get_num_threads() == 2
        results = in_order(lambda _: time.sleep(0.001), range(100))
        next(results)
        results.close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_no_thread_is_left():
    before = threading.active_count()
    list(in_order(lambda job: job, range(10), workers=4))
    assert threading.active_count() == before
