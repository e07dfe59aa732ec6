"""Explaining on a cluster, with a stand-in for Ray: `test_cluster_runs.py` has real ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest
import torch
from clips import moving_digit, write_clip
from fake_ray import FakeRay, KilledError
from PIL import Image
from runs import SAMPLES, assert_same_results, contents, explain_into, lines

import cam.runs.explainer
from cam.classifiers.load import load_classifier
from cam.classifiers.truth import Truth
from cam.errors import CamError, DiskFullError, ModelError, StoppedError, UsageError
from cam.explanations.options import TrueClass
from cam.images.find import Picture, find_pictures
from cam.runs import processes as processes_module
from cam.runs.batches import process_batch
from cam.runs.cluster import Cluster
from cam.runs.options import RunOptions
from cam.runs.processes import Load, ProcessDiedError, load_seeded, retry_alone, running
from cam.runs.run import explain_folder

DIGITS = {"model": "digits", "device": "auto"}


@pytest.fixture
def ray(monkeypatch):
    """A cluster of two cores."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    monkeypatch.setitem(sys.modules, "ray", FakeRay(CPU=2.0))
    yield sys.modules["ray"]
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    Image.core.set_blocks_max(0)
    Image.core.clear_cache()


def explain_on(out: Path, *inputs: Path, **options):
    cluster = Cluster("local", DIGITS)
    options = {"format": "png", "batch_size": 1, **options}
    return explain_folder(
        load_seeded(cluster.arguments), find_pictures(inputs), out, RunOptions(**options), processes=cluster
    )


def killing(monkeypatch, names: set[str], kills: int = 1000) -> list[list[str]]:
    """Let images of these names end the process that explains them; returns the names of each batch that was begun."""
    begun: list[list[str]] = []

    def process(classifier, folder, options, explained, batch):
        begun.append([picture.name.name for _, picture in batch])
        if names.intersection(begun[-1]) and sum(bool(names.intersection(batch)) for batch in begun) <= kills:
            raise KilledError
        return process_batch(classifier, folder, options, explained, batch)

    monkeypatch.setattr(cam.runs.explainer, "process_batch", process)
    return begun


def test_results_are_those_of_threads(ray, folder, tmp_path):
    run = explain_on(tmp_path / "ray", folder)
    expected = explain_into(tmp_path / "threads", load_classifier("digits"), folder)
    assert (run.explained, run.failed, len(ray.handles)) == (expected.explained, 0, 2)
    assert_same_results(tmp_path / "ray", tmp_path / "threads")
    infos = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("ray", "threads")]
    assert infos[0].pop("scale") == pytest.approx(infos[1].pop("scale"))
    assert infos[0] == infos[1]


def test_random_weights_are_the_same_in_another_process(ray, folder, tmp_path):
    ray.resources = {"CPU": 1.0}
    cluster = Cluster("local", {**DIGITS, "model": "cifar-resnet20", "random_weights": True})
    run = explain_folder(
        load_seeded(cluster.arguments), find_pictures([folder]), tmp_path, RunOptions(), processes=cluster
    )
    assert run.failed == 0


def test_clips_are_explained_too(ray, folder, tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, moving_digit([(20, 8), (30, 33), (40, 58)]), (0, 0.1, 0.2))
    inputs = tmp_path / "a.mp4", folder / "five.png", tmp_path / "b.mp4"
    assert explain_on(tmp_path / "ray", *inputs).failed == 0
    explain_into(tmp_path / "threads", load_classifier("digits"), *inputs)
    ours, theirs = lines(tmp_path / "ray"), lines(tmp_path / "threads")
    assert [line["files"] for line in ours if "files" in line] == [line["files"] for line in theirs if "files" in line]
    assert [line["clip"]["frames"] for line in (ours[0], ours[2])] == [3, 3]
    assert contents(tmp_path / "ray").keys() == contents(tmp_path / "threads").keys()

    def die(*arguments):
        raise KilledError

    monkeypatch.setattr(cam.runs.explainer, "explain_clip", die)
    assert explain_on(tmp_path / "killed", *inputs).failed == 2


def test_a_process_that_ends_is_replaced(ray, folder, tmp_path, monkeypatch):
    killing(monkeypatch, {"sevens.png"}, kills=1)
    assert explain_on(tmp_path, folder).failed == 0
    assert len(ray.handles) == 3


def test_an_image_that_ends_its_process_twice_costs_one_line(ray, folder, tmp_path, monkeypatch):
    begun = killing(monkeypatch, {"sevens.png", "five.png"})
    run = explain_on(tmp_path, folder)
    assert (run.explained, run.failed) == (8, 2)
    failed = {record["name"]: record["error"] for record in lines(tmp_path) if record["status"] == "failed"}
    assert failed.keys() == {"sevens.png", "five.png"}
    assert failed["five.png"].startswith(f"{str(folder / 'five.png')!r} crashed the process that explained it twice")
    assert sum(names == ["five.png"] for names in begun) == 2  # all batches are of one image


def test_images_of_a_batch_whose_process_ends_are_tried_alone():
    tried = []

    def call(batch):
        tried.append([index for index, _ in batch])
        if any(index in (2, 3) for index, _ in batch):
            raise ProcessDiedError
        return [-index for index, _ in batch]

    pictures = [(index, Picture(Path(f"{index}.png"), Path(f"{index}.png"))) for index in range(5)]
    assert retry_alone(call, pictures[:2], lambda index, picture: [index]) == [0, -1]
    assert retry_alone(call, pictures, lambda index, picture: [str(picture.path)]) == [0, -1, "2.png", "3.png", -4]
    assert tried == [[0, 1], [0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]


def test_an_image_that_ends_its_process_is_no_part_of_the_color_scale(ray, folder, tmp_path, monkeypatch):
    read = cam.runs.explainer.explain_batch

    def explain(classifier, pictures, options):
        if any(picture.name.name == "five.png" for picture in pictures):
            raise KilledError
        return read(classifier, pictures, options)

    monkeypatch.setattr(cam.runs.explainer, "explain_batch", explain)
    explain_on(tmp_path / "all", folder)
    monkeypatch.undo()
    others = [path for path in folder.iterdir() if path.name != "five.png"]
    explain_into(tmp_path / "others", load_classifier("digits"), *others)
    scales = [json.loads((tmp_path / name / "run.json").read_text())["scale"] for name in ("all", "others")]
    assert scales[0] == pytest.approx(scales[1])


@pytest.mark.parametrize("error", [DiskFullError("No space", "Free some"), UsageError("a", "b", "c")])
def test_errors_of_the_library_arrive_as_they_are(ray, folder, tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(cam.runs.explainer, "process_batch", fail)
    with pytest.raises(CamError) as raised:
        explain_on(tmp_path, folder)
    assert (type(raised.value), str(raised.value)) == (type(error), str(error))


def test_a_bad_image_stops_the_run_with_on_error_stop(ray, folder, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"torn")
    with pytest.raises(StoppedError, match=r"The run was stopped by '.*torn\.png'"):
        explain_on(tmp_path / "out", folder, tmp_path / "torn.png", on_error="stop")


def test_processes_that_end_while_they_load_end_the_run(ray, folder, tmp_path, monkeypatch):
    def load(self, job):
        raise KilledError

    monkeypatch.setattr(processes_module.ProcessExplainer, "load", load)
    with pytest.raises(ModelError, match=r"end while they load the model \(Killed\)"):
        explain_on(tmp_path, folder)
    assert len(ray.handles) <= 2 * 3


def test_a_process_that_loads_another_model_ends_the_run(ray, folder, tmp_path, monkeypatch):
    cluster = Cluster("local", DIGITS)
    classifier = load_seeded(cluster.arguments)
    other = load_classifier("cifar-resnet20", random_weights=True)
    monkeypatch.setattr(processes_module, "load_seeded", lambda arguments: other)
    with pytest.raises(UsageError, match=r"A process on the machine '.+' loads another model \(weights: "):
        explain_folder(classifier, find_pictures([folder]), tmp_path, RunOptions(), processes=cluster)


def test_a_machine_without_the_folder_is_named(ray, folder, tmp_path, monkeypatch):
    def move(folder):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(processes_module.os, "chdir", move)
    with pytest.raises(UsageError, match=r"has no folder '.+' \(No such file or directory\)\. Run the command in"):
        explain_on(tmp_path / "out", folder)


@pytest.mark.parametrize(
    ("resources", "device", "images", "processes", "share"),
    [
        ({"CPU": 2.0}, "auto", 10, 2, 0),
        ({"CPU": 64.0}, "auto", 10, 10, 0),  # no more than batches
        ({"CPU": 16.0, "GPU": 2.0}, "auto", 10_000, 8, 0.25),
        ({"CPU": 4.0, "GPU": 2.0}, "auto", 10_000, 4, 0.5),
        ({"CPU": 1.0, "GPU": 2.0}, "cuda", 10_000, 2, 1.0),
        ({"CPU": 3.0, "GPU": 2.0}, "cpu", 10_000, 3, 0),
    ],
)
def test_processes_share_cores_and_gpus(ray, monkeypatch, resources, device, images, processes, share):
    ray.resources = resources
    monkeypatch.setattr(processes_module.ProcessExplainer, "load", lambda self, job: (job.images, "eager"))
    cluster = Cluster("auto", {**DIGITS, "device": device})
    options, load = RunOptions(batch_size=1), Load(images, 0, 0)
    with (
        cluster.started(None, options, load) as backend,
        running(backend, cluster.arguments, None, options, (), {}, load) as started,
    ):
        assert (started.workers, ray.requested["num_gpus"], ray.requested["num_cpus"]) == (processes, share, 1)
        assert started.device == -(-images // processes)


def test_a_cluster_without_a_free_core_is_refused(ray, folder, tmp_path):
    ray.resources = {}
    with pytest.raises(UsageError, match="--ray local has no free core"):
        explain_on(tmp_path, folder)


def test_all_classes_of_the_truth_stay_with_the_driver(ray, folder, tmp_path):
    names = [str(path) for path in folder.iterdir()]
    truth = Truth({name: number % 10 for number, name in enumerate(names)})
    run = explain_on(tmp_path, folder, truth=truth, targets=(TrueClass(),))
    assert run.info["truth"]["images"] == 10
    assert {line["path"]: line["targets"][0]["class_idx"] for line in lines(tmp_path)} == truth.classes
    options = processes_module._with_truth_of([(0, Picture(Path(names[3]), Path("a")))], RunOptions(truth=truth))
    assert options.truth.classes == {names[3]: 3}


def test_a_run_that_has_nothing_to_do_starts_no_cluster(ray, folder, tmp_path):
    explain_into(tmp_path, load_classifier("digits"), folder, batch_size=1)
    assert explain_on(tmp_path, folder).earlier == 10
    assert ray.handles == []


def test_a_cluster_that_does_not_answer_is_named(ray, run, folder, tmp_path):
    def refuse(address, **settings):
        raise ConnectionError("Failed to\nconnect.")

    ray.init = refuse
    result = run("explain", folder, "-m", "digits", "-o", tmp_path, "--ray=10.0.0.1:6379")
    assert result.exit_code == 2
    assert "Error: --ray 10.0.0.1:6379 cannot be used (Failed to connect). Give the address" in result.output


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["--ray", "-o", "OUT"], "local"),
        (["-o", "OUT", "--ray"], "local"),
        (["--ray", "auto", "-o", "OUT"], "auto"),
        (["--ray=head-1.lan:6379", "-o", "OUT"], "head-1.lan:6379"),
        (["--ray=[fd00::1]:6379", "-o", "OUT"], "[fd00::1]:6379"),
    ],
)
def test_an_address_may_follow(ray, run, folder, tmp_path, arguments, address):
    result = run("explain", folder, "-m", "digits", *(tmp_path if word == "OUT" else word for word in arguments))
    assert result.exit_code == 0, result.output
    assert ray.address == address
    assert json.loads((tmp_path / "run.json").read_text())["arguments"]["ray"] == address


@pytest.mark.parametrize("address", ["photos/", "dog.jpg", "ray://head:10001", str(SAMPLES)])
def test_an_input_after_ray_is_no_address(ray, run, tmp_path, address):
    result = run("explain", "-m", "digits", "-o", tmp_path, "--ray", address, SAMPLES / "five.png")
    assert result.exit_code == 2
    assert result.output.startswith(
        f"Error: --ray {address!r} is not the address of a Ray cluster. Put --ray at the end"
    )


def test_one_machine_s_device_is_refused(ray, run, folder, tmp_path):
    result = run("explain", folder, "-m", "digits", "--device", "cuda:1", "-o", tmp_path, "--ray")
    assert (result.exit_code, result.output) == (2, "Error: --device cuda:1 is of one machine. With --ray give cuda.\n")


def test_ray_has_to_be_installed(run, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run("explain", folder, "-m", "digits", "-o", tmp_path, "--ray")
    assert result.exit_code == 1
    assert result.output.endswith("Run pip install 'gapcam[ray]'.\n")
