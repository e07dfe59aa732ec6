"""Benchmarks: generated photographs, the compared programs, measurements and tables."""

from __future__ import annotations

import itertools
import re
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from cam.classifiers.load import load_classifier, load_network, wrap
from cam.heads.copies import random_inputs
from cam.images.io import read_image

ROOT = Path(__file__).parents[1]
PACKAGES = {"torchcam": ["torchcam-readme", "torchcam", "layercam"], "pytorch_grad_cam": ["gradcam", "hirescam"]}
PACKAGES["cam"] = ["library", "floor", "floor-eager", "codecs"]
PROGRAMS = [(package, program) for package, programs in PACKAGES.items() for program in programs]
SIZES = (60, 40), (33, 70)


@pytest.fixture
def small_noise(bench, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of photographs, with a smaller image of noise to crop from."""
    module = bench("photographs")
    monkeypatch.setattr(module, "_SIDE", 64)
    return module


@pytest.mark.parametrize(
    ("kind", "smallest", "largest"), [("small", 0.2, 0.2), ("2MP", 2, 2), ("mixed", 0.25, 10)], ids=str
)
def test_photographs_have_the_right_size(small_noise, kind, smallest, largest):
    rng = small_noise.np.random.default_rng(0)
    sizes = [small_noise.size_of(kind, rng) for _ in range(200)]
    megapixels = [height * width / 1e6 for height, width in sizes]
    assert 0.198 < min(megapixels) < 1.01 * smallest
    assert 0.99 * largest < max(megapixels) < 12.1
    assert all(max(size) / min(size) < 1.79 for size in sizes)


def test_photographs_are_reproducible_and_made_once(small_noise, tmp_path):
    few = small_noise.photographs(tmp_path / "a", "small", 1)
    many = small_noise.photographs(tmp_path / "b", "small", 2)
    assert few[0].read_bytes() == many[0].read_bytes()
    assert many[0].read_bytes() != many[1].read_bytes()
    assert [read_image(path).shape for path in few] == [(548, 365, 3)]
    written = many[0].stat().st_mtime_ns
    assert small_noise.photographs(tmp_path / "b", "small", 2) == many
    assert many[0].stat().st_mtime_ns == written


def test_noise_has_the_spectrum_of_photographs(bench):
    noise = bench("photographs").natural_noise(256, 3)
    amplitude = abs(torch.fft.rfft2(torch.from_numpy(noise[..., 0])))
    octaves = [amplitude[0, low : 2 * low].square().mean().sqrt() for low in (4, 8, 16, 32, 64)]
    for slow, fast in itertools.pairwise(octaves):
        assert 1.5 < slow / fast < 4


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")  # of torchvision, as torchcam's README does
@pytest.mark.parametrize(("package", "program"), PROGRAMS)
def test_every_program_writes_an_image_of_each_size(bench, squeezenet, tmp_path, package, program, monkeypatch):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, size in zip(photos, SIZES, strict=True):
        Image.effect_noise(size, 50).convert("RGB").save(path)
    programs = bench("programs")
    arguments = [program, "squeezenet1_1", str(squeezenet), str(tmp_path / "out"), *map(str, photos)]
    monkeypatch.setattr(sys, "argv", ["programs.py", *arguments])
    programs.main()
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in written] == ["a.jpg", "b.jpg"]
    for path, (width, height) in zip(written, SIZES, strict=True):
        drawn = read_image(path).shape
        assert drawn[0] >= height
        assert drawn[1] >= width
        assert drawn[:2] == (height, width) or program == "library"  # which has a legend


def test_every_program_is_tested(bench):
    assert set(bench("programs").PROGRAMS) - {program for _, program in PROGRAMS} == {
        "floor-compile",
        "floor-onnxruntime",
    }


def test_random_weights_give_scores_of_usual_size(bench, tmp_path):
    bench("programs").save_weights("resnet18", tmp_path / "a.pth")
    network = load_network("resnet18", weights=tmp_path / "a.pth").network
    with torch.inference_mode():
        scores = network(random_inputs(2, (3, 224, 224), seed=1))
    assert 0.1 < scores.std() < 100


def test_costs_are_subtracted(bench):
    compare = bench("compare")
    cost = compare.Cost(10, 18, 500, 5).without(compare.Cost(2, 3, 400, 1))
    assert cost == compare.Cost(8, 15, 500, 4)


def test_time_and_memory_of_a_process_are_measured(bench):
    compare = bench("compare")
    allocate = "import time; time.sleep(0.2); held = bytearray(800_000_000); held[::4096] = b'x' * 195_313"
    cost = compare.in_process(compare.run, ["-c", allocate], 3)  # without the memory of this process
    assert 0.2 < cost.wall < 30
    assert cost.cpu < cost.wall
    assert 800_000_000 / 2**20 < cost.memory < 850
    with pytest.raises(SystemExit, match="status 7"):
        compare.run(["-c", "raise SystemExit(7)"], 1)


def test_rows_hold_ratios_within_a_round(bench):
    compare = bench("compare")
    setting = compare.Setting("net", Path("net.pth"), "small", [])
    rounds = [
        {
            "torchcam-readme": compare.Cost(10 * slow, 20 * slow, 900, 100),
            "floor": compare.Cost(2 * slow, 4 * slow, 700, 100),
            "floor-eager": compare.Cost(1.6 * slow, 3.2 * slow, 700, 100),
            "cam explain": compare.Cost(2 * slow, 4 * slow, 800, 100),
        }
        for slow in (1, 3, 2)
    ]
    rows = {row[2]: row for row in compare.rows(setting, rounds)}
    assert rows["cam explain"][3:7] == [f"{ratio} ({ratio} to {ratio})" for ratio in ("0.20", "0.20", "1.00", "1.25")]
    assert rows["cam explain"][7:] == ["25.0", "800"]
    assert rows["floor"][6] == "-"


def test_our_floor_has_the_engine_of_the_command(bench):
    own_floor = bench("compare").own_floor
    assert own_floor("cam explain") == "floor-eager"
    assert own_floor("cam explain --tta --engine onnxruntime") == "floor-onnxruntime"
    assert own_floor("gradcam") == ""


@pytest.mark.parametrize("program", ["codecs", pytest.param("cam explain", marks=pytest.mark.slow)])
def test_programs_are_compared_as_processes(bench, squeezenet, tmp_path, monkeypatch, capsys, program):
    compare = bench("compare")
    monkeypatch.setattr(compare, "BUILD", squeezenet.parent)
    for number in range(3):
        Image.effect_noise((50, 40), 50).convert("RGB").save(tmp_path / f"{number}.png")
    arguments = ["--models", "squeezenet1_1", "--pictures", str(tmp_path), "--rounds", "1", "--only", program]
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
    compare.main()
    output, log = capsys.readouterr()
    assert re.findall(r"^\| squeezenet1_1 \| \S+ \| (.+?) \|", output, re.MULTILINE) == [program]
    assert "pictures=2" in log


def test_an_unknown_program_is_an_error(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare.py", "--only", "nonsense"])
    with pytest.raises(SystemExit):
        bench("compare").main()
    assert "'nonsense' is not one of torchcam-readme" in capsys.readouterr().err


def test_a_table_replaces_the_last_one(bench, tmp_path, monkeypatch):
    tables = bench("tables")
    page = tmp_path / "page.md"
    page.write_text("# A\n<!-- one -->\nold\n<!-- end of one -->\nb\n<!-- two -->\n<!-- end of two -->\n")
    monkeypatch.setattr(sys, "argv", ["/somewhere/compare.py", "--only", "cam explain"])
    tables.publish(tables.table(["a", "b"], [["1", "2"], ["3", "4"]]), "one", page)
    text = page.read_text()
    assert "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n<!-- end of one -->\nb\n<!-- two -->\n" in text
    assert text.startswith("# A\n<!-- one -->\n`python benchmarks/compare.py --only 'cam explain'`, 20")
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "old" not in text
    with pytest.raises(SystemExit, match="must have the lines <!-- three -->"):
        tables.publish("", "three", page)


def test_spread_shows_median_and_quartiles(bench):
    spread = bench("tables").spread
    assert spread([3, 1, 2, 5, 4]) == "3.00 (2.00 to 4.00)"
    assert spread([1.0049, 1.0049], digits=3) == "1.005 (1.005 to 1.005)"
    assert (spread([]), spread([0.255])) == ("-", "0.26")


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_measured_maps_are_exact(bench, name):
    forward = bench("forward")
    network = load_network(name, random_weights=True).network
    classifier = wrap(network)
    inputs = random_inputs(2, (3, 224, 224))
    all_maps, five_maps = forward.all_maps(classifier, inputs), forward.five_maps(classifier, inputs)
    with torch.inference_mode():
        logits = network(inputs)
    torch.testing.assert_close(all_maps.mean((2, 3)) + classifier.head.bias, logits, rtol=1e-4, atol=1e-4)
    best = logits.topk(5).indices
    best_maps = torch.stack([maps[index] for maps, index in zip(all_maps, best, strict=True)])
    torch.testing.assert_close(five_maps, best_maps)


def test_parts_are_measured_in_both_programs(bench, squeezenet):
    parts = bench("parts")
    functions = [function for functions in parts.PARTS.values() for function in functions]
    before = [getattr(*function) for function in functions]
    files = sorted((ROOT / "samples").glob("*.png"))
    ours = parts.measure(partial(parts.explain, load_classifier("digits", device="cpu"), files))
    bare = parts.measure(partial(parts.floor, "squeezenet1_1", squeezenet, files=files, engine="eager"))
    assert [getattr(*function) for function in functions] == before
    assert set(ours.wall) == {*parts.PARTS, parts.ALL}
    assert set(bare.wall) == {"decode", "prepare", "network", "encode", "write", parts.ALL}
    for clock in (ours, bare):
        assert all(seconds > 0 for seconds in clock.wall.values())
        assert sum(clock.wall[name] for name in ("decode", "prepare", "network", "encode")) < clock.wall[parts.ALL]
        assert sum(clock.cpu[name] for name in ("decode", "prepare", "network", "encode")) < clock.cpu[parts.ALL]


def test_make_bench_runs_the_commands_on_the_page():
    page, makefile = ((ROOT / name).read_text("utf-8") for name in ("docs/performance.md", "Makefile"))
    commands = {re.sub(r"^\t\.venv-[a-z]+/bin/", "", line) for line in makefile.splitlines() if "benchmarks/" in line}
    marks = set(re.findall("<!-- ([a-z0-9]+) -->", page))
    assert {line.partition(" --table ")[2] for line in commands if " --table " in line} == marks
    assert set(re.findall("^`(python benchmarks/.*?)`", page, re.MULTILINE)) <= commands


def test_the_table_of_parts_has_medians_and_ratios(bench):
    parts = bench("parts")

    def clock_of(seconds):
        clock = parts.Clock()
        clock.wall["network"] = clock.cpu["network"] = seconds
        clock.wall[parts.ALL], clock.cpu[parts.ALL] = 2 * seconds, 3 * seconds
        return clock

    rows = {
        row[1]: row[2:] for row in parts.rows("small", 10, [(clock_of(3), clock_of(2)), (clock_of(4), clock_of(2))])
    }
    assert rows["network"] == ["350.0", "350.0", "200.0", "200.0"]
    assert rows["legend"] == ["-"] * 4
    assert rows["all of it"] == ["700.0", "1050.0", "400.0", "600.0"]
    assert rows["all of it, over the floor"] == ["1.75 (1.62 to 1.88)", "1.75 (1.62 to 1.88)", "1", "1"]
