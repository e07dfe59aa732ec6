"""`cam explain --processes`: the results of one process, whatever ends in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from memory import ENVIRONMENT
from runs import KILLER, assert_same_results, explain_into, lines, write_noise

import cam
from cam.classifiers.load import load_classifier
from cam.classifiers.provenance import describe
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.runs.folder import RunFolder
from cam.runs.local import LocalProcesses, _LocalBackend
from cam.runs.options import RunOptions, settings_of
from cam.runs.processes import Job, Load, ProcessDiedError, ProcessExplainer, load_seeded
from cam.runs.starting import clean_start


def command(*arguments: Path | str) -> list[str]:
    words = map(str, arguments)
    return [sys.executable, "-m", "cam", "explain", *words, "--format", "png", "--processes", "2", "--device", "cpu"]


def finish(*arguments: Path | str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), env=ENVIRONMENT, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    assert "leaked" not in done.stderr
    return done


def test_results_are_those_of_one_process(folder, tmp_path):
    done = finish(folder, "-m", "digits", "-o", tmp_path / "two", "--batch-size", "2")
    assert done.returncode == 0, done.stderr
    explain_into(tmp_path / "one", load_classifier("digits", device="cpu"), folder)
    assert_same_results(tmp_path / "two", tmp_path / "one")
    infos = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("two", "one")]
    assert infos[0]["settings"] == infos[1]["settings"]


def test_an_image_that_ends_its_process_costs_one_line(tmp_path):
    (tmp_path / "net.py").write_text(KILLER)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, value in {"black": 0, "dark": 40, "gray": 90, "white": 255}.items():
        write_image(folder / f"{name}.png", np.full((64, 64, 3), value, np.uint8))
    model = "-m", "net.py:make", "--input-size", "64", "--no-weights"
    done = finish(folder, *model, "-o", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    failed = [line for line in lines(tmp_path / "out") if line["status"] == "failed"]
    assert [line["name"] for line in failed] == ["white.png"]
    assert "crashed the process that explained it twice" in failed[0]["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_no_process_outlives_the_command(tmp_path):
    folder = write_noise(tmp_path / "photos", 400)
    with subprocess.Popen(
        command(folder, "-m", "digits", "-o", tmp_path / "out", "--quiet"), env=ENVIRONMENT, start_new_session=True
    ) as process:
        while not (tmp_path / "out" / "manifest.jsonl").exists() and process.poll() is None:
            time.sleep(0.05)
        assert len(members(process.pid)) >= 3
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(process.pid) == []
    assert finish(folder, "-m", "digits", "-o", tmp_path / "out").returncode == 3  # one is no image
    assert len(lines(tmp_path / "out")) == 400


@pytest.mark.skipif(sys.platform != "linux", reason="a fork server")
def test_ctrl_c_while_processes_start_prints_no_traceback():
    script = """
        import os, signal, time
        from cam.runs.starting import begin_imports
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in jobs of a shell
        begin_imports()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for _ in range(20):
            os.killpg(0, signal.SIGINT)
            time.sleep(0.05)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, start_new_session=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_starts_with_this_package_and_without_interrupts(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "theirs")
    with clean_start():
        assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(Path(cam.__file__).parents[1]), "theirs"]
        assert os.environ["PYTHONSAFEPATH"] == "1"
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert os.environ["PYTHONPATH"] == "theirs"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_processes_that_end_leave_nothing_open():
    backend = _LocalBackend(partial(os._exit, 3), workers=1, batch_size=1, threads=1)
    counts = []
    for _ in range(4):
        process = backend.start()
        with pytest.raises(ProcessDiedError, match="exit code 3"):
            process.call("load", None)
        process.kill()
        counts.append(len(list(Path("/proc/self/fd").iterdir())))
    assert counts[1:] == [counts[0]] * 3
    for process in backend.started:
        process.end()


def test_what_a_model_keeps_of_its_streams_stays_open(tmp_path):
    (tmp_path / "net.py").write_text(
        "import logging\n"
        + KILLER.replace("    def forward", "        logging.basicConfig()\n\n    def forward").replace(
            "if bool((x > 2).flatten(1).all(1).any()):\n            os.kill(os.getpid(), signal.SIGKILL)",
            "logging.warning('a pass')",
        )
    )
    lines_of_code = {line.strip() for line in (tmp_path / "net.py").read_text().splitlines()}
    assert {"logging.basicConfig()", "logging.warning('a pass')"} <= lines_of_code
    model = "-m", "net.py:make", "--input-size", "64", "--no-weights"
    done = finish(write_noise(tmp_path / "photos", 12), *model, "-o", tmp_path / "out", cwd=tmp_path)
    assert "Logging error" not in done.stderr
    assert "a pass" not in done.stderr.partition("net.py")[2]
    assert [line["status"] for line in lines(tmp_path / "out")].count("ok") == 12


def test_processes_share_the_cores(monkeypatch):
    classifier = load_classifier("digits", device="cpu")
    for cores, count, expected in ((8, 2, (2, 4, 64)), (8, 8, (8, 1, 4)), (2, 8, (8, 1, 4)), (8, 400, (250, 1, 4))):
        monkeypatch.setattr("cam.runs.local.torch.get_num_threads", lambda cores=cores: cores)
        with LocalProcesses(count, {}, int).started(classifier, RunOptions(), Load(1000, 0, 0)) as backend:
            assert (backend.workers, backend.threads, backend.batch_size) == expected


def test_the_threads_of_a_process_explain_at_once_and_in_order(folder, tmp_path):
    """In this process: with as many threads as batches, each waits until all have begun."""
    classifier, options = load_seeded({"model": "digits", "device": "cpu"}), RunOptions(batch_size=2)
    info = describe(classifier, {})
    info |= {"settings": json.loads(json.dumps(settings_of(classifier, info, options), default=str))}
    images = list(enumerate(find_pictures([folder])))
    explainer, threads = ProcessExplainer(), torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        job = Job(
            {"model": "digits", "device": "cpu"}, RunFolder(tmp_path), options, {**info, "directory": "."}, 8, 0, 4
        )
        assert explainer.load(job) == ("cpu", "eager")
        barrier, explain = threading.Barrier(4, timeout=30), explainer._explainer.explain

        def wait_and_explain(*arguments):
            barrier.wait()
            return explain(*arguments)

        explainer._explainer.explain = wait_and_explain
        records, reason = explainer.call("explain", options, images[:8])
    finally:
        explainer._stack.close()
        torch.set_num_threads(threads)
    assert [record["index"] for record in records] == list(range(8))
    assert reason == ""


def members(session: int) -> list[str]:
    """The processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(number) == session and state != "Z":
            found.append(path.parent.name)
    return found


def test_processes_and_ray_are_refused_together(run, folder, tmp_path):
    result = run("explain", folder, "-m", "digits", "-o", tmp_path, "--processes", "2", "--ray")
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        2,
        "Error: --processes is for this machine. Leave it out with --ray.",
    )


def test_two_threads_may_end_a_process():
    backend = _LocalBackend(partial(time.sleep, 60), workers=1, batch_size=1, threads=1)
    for _ in range(5):
        process = backend.start()
        errors = []

        def call(process=process, errors=errors):
            try:
                process.call("load", None)
            except Exception as error:
                errors.append(type(error))
            process.kill()

        threads = [threading.Thread(target=call), threading.Thread(target=process.kill)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert errors == [ProcessDiedError]
