from __future__ import annotations

import threading
import time

import pytest
import torch

from cam.runs.workers import in_order


def test_results_come_in_the_order_of_the_jobs_whichever_is_done_first():
    delays = [0.05, 0.0, 0.03, 0.0, 0.0, 0.02, 0.0, 0.0]

    def work(index: int) -> int:
        time.sleep(delays[index])
        return index

    assert list(in_order(work, range(8), workers=4)) == list(range(8))


def test_jobs_are_done_side_by_side():
    meeting = threading.Barrier(3, timeout=10)
    assert sorted(in_order(lambda _: meeting.wait(), range(3), workers=3)) == [0, 1, 2]


def test_no_more_jobs_are_taken_than_may_wait():
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


def test_what_goes_wrong_is_raised_in_its_turn_and_later_jobs_are_not_begun():
    begun = []

    def work(job: int) -> int:
        begun.append(job)
        if job == 3:
            raise ValueError("job 3")
        return job

    results = in_order(work, range(1000), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="job 3"):
        next(results)
    assert len(begun) <= 3 + 2 * 4


def test_a_stop_comes_after_the_results_of_what_is_in_hand(monkeypatch):
    monkeypatch.setattr("cam.runs.workers._SECONDS", 0.05)
    begun, told = [], []

    def work(job: int) -> int:
        begun.append(job)
        time.sleep(0.3)
        return job

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        told.extend(in_order(work, range(100), workers=2, meanwhile=stop))
    assert told == sorted(begun) == [0, 1]


def test_workers_compute_with_one_thread_each_and_the_caller_has_its_own_back():
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


def test_a_long_wait_is_used(monkeypatch):
    monkeypatch.setattr("cam.runs.workers._SECONDS", 0.02)
    waited = []
    results = in_order(lambda job: time.sleep(0.3 * job), [0, 1], workers=2, meanwhile=lambda: waited.append(1))
    next(results)
    assert len(waited) <= 1
    next(results)
    assert 5 <= len(waited) <= 15


def test_nothing_goes_on_behind_the_callers_back():
    before = threading.active_count()
    list(in_order(lambda job: job, range(10), workers=4))
    assert threading.active_count() == before
