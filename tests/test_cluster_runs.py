"""`cam explain --ray` on real local clusters: the results of a local run, whatever is killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from memory import ENVIRONMENT
from runs import KILLER, contents, lines, write_noise

from cam.images.io import write_image

pytest.importorskip("ray", reason="pip install 'gapcam[ray]', or make test-ray")
pytestmark = pytest.mark.slow
PICTURES = 150


def command(folder: Path, out: Path, *arguments: str) -> list[str]:
    arguments = ("-m", "digits", *arguments) if "-m" not in arguments else arguments
    return [sys.executable, "-m", "cam", "explain", str(folder), "-o", str(out), "--format", "png", *arguments]


def finish(*arguments: Path | str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), env=ENVIRONMENT, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    return done


def started(*arguments: Path | str) -> subprocess.Popen[str]:
    """In a new session, as from a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command(*arguments),
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_noise(tmp_path_factory.mktemp("pictures"), PICTURES)


@pytest.fixture(scope="module")
def local(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("local")
    assert finish(folder, out).returncode == 3
    return out


def assert_same(out: Path, expected: Path) -> None:
    """The same bytes, but for what run.json says of the command."""
    ours, theirs = contents(out), contents(expected)
    infos = [json.loads(files.pop("run.json")) for files in (ours, theirs)]
    for info in infos:
        del info["arguments"]
    assert infos[0] == infos[1]
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def parents() -> dict[int, tuple[int, bytes]]:
    """The parent and the title of each process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(path.name)] = parent, (path / "cmdline").read_bytes()
    return found


def cluster_of(driver: int) -> dict[int, bytes]:
    """The processes below one, with their titles."""
    known, below = parents(), {driver}
    while more := {process for process, (parent, _) in known.items() if parent in below} - below:
        below |= more
    return {process: known[process][1] for process in below - {driver}}


def wait_for_the_end_of(cluster: dict[int, bytes]) -> None:
    """All processes have ended; one that nobody waits for has no title."""
    remaining = list(cluster)
    for _ in range(600):
        now = parents()
        remaining = [process for process in cluster if now.get(process, (0, b""))[1]]
        if not remaining:
            return
        time.sleep(0.1)
    raise AssertionError([cluster[process] for process in remaining])


def wait_for_lines(out: Path, count: int) -> None:
    for _ in range(1200):
        time.sleep(0.05)
        if (out / "manifest.jsonl").exists() and len((out / "manifest.jsonl").read_bytes().splitlines()) >= count:
            return
    raise AssertionError(f"no {count} lines after a minute")


def test_results_are_those_of_a_local_run(folder, local, tmp_path):
    done = finish(folder, tmp_path / "out", "--json", "--ray")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["explained"] == PICTURES - 1
    assert_same(tmp_path / "out", local)


def test_a_killed_process_costs_nothing(folder, local, tmp_path):
    with started(folder, tmp_path / "out", "--ray") as driver:
        wait_for_lines(tmp_path / "out", 16)
        explaining = [
            process for process, title in cluster_of(driver.pid).items() if title.startswith(b"ray::ProcessExplainer")
        ]
        assert len(explaining) == 2
        os.kill(explaining[0], signal.SIGKILL)
        output, errors = driver.communicate(timeout=200)
    assert driver.returncode == 3, errors
    assert f"{PICTURES - 1} explained, 1 failed" in output
    assert_same(tmp_path / "out", local)


def test_a_killed_driver_goes_on(folder, local, tmp_path):
    out = tmp_path / "out"
    with started(folder, out, "--ray") as driver:
        wait_for_lines(out, 16)
        cluster = cluster_of(driver.pid)
        driver.kill()
    done = finish(folder, out, "--ray")
    assert (done.returncode, "explained by an earlier run" in done.stdout) == (3, True)
    assert_same(out, local)
    wait_for_the_end_of(cluster)  # the first cluster ended with its driver


def test_ctrl_c_keeps_what_is_done_and_ends_the_cluster(folder, local, tmp_path):
    out = tmp_path / "out"
    with started(folder, out, "--ray") as driver:
        wait_for_lines(out, 16)
        cluster = cluster_of(driver.pid)
        os.killpg(driver.pid, signal.SIGINT)
        _, errors = driver.communicate(timeout=200)
    assert driver.returncode == 130, errors
    assert errors.endswith(f"Stopped. Run the same command to continue in {str(out)!r}.\n")
    assert 16 <= len(lines(out)) < PICTURES
    wait_for_the_end_of(cluster)
    assert finish(folder, out).returncode == 3  # without Ray, too
    assert_same(out, local)


def test_a_bad_picture_stops_the_run_with_on_error_stop(folder, tmp_path):
    done = finish(folder, tmp_path / "out", "--on-error", "stop", "--ray")
    assert done.returncode == 1
    assert f"The run was stopped by '{folder / '33.png'}'" in done.stderr


def test_a_picture_that_kills_its_process_costs_one_line(folder, tmp_path):
    (tmp_path / "net.py").write_text(KILLER)
    room = tmp_path / "in"
    room.mkdir()
    for number in range(24):
        (room / f"{number}.png").hardlink_to(folder / f"{number}.png")
    write_image(room / "20.5.png", np.full((40, 40, 3), 255, np.uint8))
    done = finish(room, Path("out"), "-m", "net.py:make", "--input-size", "32", "--ray", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    records = lines(tmp_path / "out")
    assert [record["name"] for record in records if record["status"] == "failed"] == ["20.5.png"]
    assert len(records) == 25
    assert [record["error"] for record in records if record["error"]] == [
        f"{str(room / '20.5.png')!r} crashed the process that explained it twice, possibly out of memory. "
        "Make it smaller, or convert it to another format."
    ]


def test_processes_read_and_write_addresses(folder, local, tmp_path):
    """`local://` is a file system of fsspec that processes share; its addresses are relative here."""
    (tmp_path / "photos").symlink_to(folder)
    done = finish("local://photos", "local://out", "--ray", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert f"{PICTURES - 1} explained, 1 failed: local://out\n" in done.stdout
    assert contents(tmp_path / "out").keys() == contents(local).keys()
    for name, content in contents(local).items():
        assert name.endswith(("jsonl", "json")) or (tmp_path / "out" / name).read_bytes() == content
    assert [record["path"] for record in lines(tmp_path / "out")[:2]] == [
        "local://photos/0.png",
        "local://photos/1.png",
    ]
    assert "(149 explained by an earlier run)" in finish("local://photos", "local://out", cwd=tmp_path).stdout


@pytest.fixture
def two_machines(tmp_path) -> Iterator[tuple[str, str]]:
    """Network namespaces with a Ray node each, of one core; the first has the head at 10.99.7.1."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need the rights of root, and ip")
    names, ray = (f"cam-{os.getpid()}-a", f"cam-{os.getpid()}-b"), Path(sys.executable).with_name("ray")
    environment = {**ENVIRONMENT, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    start = ray, "start", "--num-cpus", "1", "--object-store-memory", "100000000", "--temp-dir"

    def call(*words: object) -> None:
        done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    temporary = mkdtemp(prefix="cam-ray-")  # sockets have short names only
    try:
        for name in names:
            call("ip", "netns", "add", name)
        call("ip", "link", "add", "eth-a", "netns", names[0], "type", "veth", "peer", "eth-b", "netns", names[1])
        for number, (name, device) in enumerate(zip(names, ("eth-a", "eth-b"), strict=True), 1):
            call("ip", "-n", name, "addr", "add", f"10.99.7.{number}/24", "dev", device)
            call("ip", "-n", name, "link", "set", "lo", "up")
            call("ip", "-n", name, "link", "set", device, "up")
        here, there = (("ip", "netns", "exec", name, *start, temporary) for name in names)
        call(*here, "--head", "--node-ip-address", "10.99.7.1", "--port", "6399", "--include-dashboard=false")
        call(*there, "--address", "10.99.7.1:6399", "--node-ip-address", "10.99.7.2")
        yield names
    finally:
        for name in names:
            for process in processes_in(name):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(temporary, ignore_errors=True)


def processes_in(name: str) -> list[int]:
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(process) for process in listed.stdout.split()]


def test_two_machines_share_a_run(two_machines, folder, local, tmp_path):
    out, (here, there) = tmp_path / "out", two_machines
    words = ["ip", "netns", "exec", here, *command(folder, out, "--ray", "10.99.7.1:6399")]
    with subprocess.Popen(
        words,
        env={**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        wait_for_lines(out, 32)
        titles = [[parents().get(process, (0, b""))[1] for process in processes_in(name)] for name in (here, there)]
        output, errors = driver.communicate(timeout=200)
    assert driver.returncode == 3, errors
    assert [sum(title.startswith(b"ray::ProcessExplainer") for title in of_machine) for of_machine in titles] == [1, 1]
    assert f"{PICTURES - 1} explained, 1 failed" in output
    assert_same(out, local)
