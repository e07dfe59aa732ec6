from __future__ import annotations

import gc
import math
import operator
import subprocess
import sys
import threading
import time
import weakref
from functools import partial

import pytest

from cam.images.read import run_with_timeout


def helpers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "cam-deadline"}


def test_what_is_done_in_time_comes_back_from_another_thread() -> None:
    assert run_with_timeout(60, threading.current_thread) is not threading.current_thread()
    assert run_with_timeout(math.inf, lambda: 7) == 7


def test_what_is_raised_is_raised_where_it_is_waited_for() -> None:
    for error in (ValueError("bad"), KeyboardInterrupt("stop"), MemoryError("full")):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            run_with_timeout(60, fail)
        assert caught.value is error
    assert run_with_timeout(60, lambda: 7) == 7


def test_threads_are_used_again() -> None:
    assert len({run_with_timeout(60, threading.get_ident) for _ in range(50)}) == 1


def test_what_hangs_is_left_and_its_thread_ends_with_it() -> None:
    release, before = threading.Event(), helpers()
    run_with_timeout(60, lambda: 0)
    hanging: list[threading.Thread] = []

    def hang() -> None:
        hanging.append(threading.current_thread())
        release.wait(60)

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        run_with_timeout(0.1, hang)
    assert 0.1 <= time.monotonic() - started < 20
    assert run_with_timeout(60, threading.current_thread) is not hanging[0]
    assert hanging[0].daemon
    release.set()
    hanging[0].join(60)
    assert not hanging[0].is_alive()
    assert len(helpers()) <= len(before) + 1


def test_many_threads_wait_each_for_its_own() -> None:
    results: dict[int, list[int]] = {}

    def wait(n: int) -> None:
        results[n] = [run_with_timeout(60, partial(operator.mul, n, k)) for k in range(200)]

    threads = [threading.Thread(target=wait, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [n * k for k in range(200)] for n in range(8)}
    assert len(helpers()) <= 10


def test_results_are_not_held() -> None:
    class Large:
        pass

    large = weakref.ref(run_with_timeout(60, Large))
    held = Large()
    task = weakref.ref(held)
    run_with_timeout(60, lambda held=held: None)
    del held
    deadline = time.monotonic() + 20
    while (large() or task()) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert large() is None
    assert task() is None


def test_what_hangs_does_not_keep_the_program_from_ending() -> None:
    program = """
import time
from cam.deadline import run_with_timeout
try: run_with_timeout(0.1, lambda: time.sleep(600))
except TimeoutError: print(7)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert (answer.stdout, answer.stderr) == ("7\n", "")
