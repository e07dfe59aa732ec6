"""The commands of `cam evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import tiff

from cam.images.io import read_image, write_image

SAMPLES = Path(__file__).parents[1] / "samples"
KNOWN = json.loads((SAMPLES / "samples.json").read_text())["samples"]


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """One folder a class, of scenes of one digit."""
    for name, truth in KNOWN.items():
        if len(truth["classes"]) == 1:
            folder = tmp_path / "digits" / str(truth["classes"][0])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((SAMPLES / name).read_bytes())
    return tmp_path / "digits"


def values(content: str) -> dict[tuple[str, str], float]:
    return {(row["method"], row["metric"]): row["value"] for row in json.loads(content)["rows"]}


def test_boxes_of_the_samples(run, tmp_path):
    rows = [
        f"{name},{class_idx},{','.join(map(str, box))}"
        for name, truth in KNOWN.items()
        for class_idx, box in zip(truth["classes"], truth["boxes"], strict=True)
    ]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    (tmp_path / "images").symlink_to(SAMPLES)
    out = tmp_path / "boxes.json"
    result = run("evaluate", "boxes", tmp_path / "boxes.csv", "-m", "digits", "--evidence", "logit", "-o", out)
    assert result.exit_code == 0, result.output
    assert "95 % interval" in result.output
    assert f"{len(KNOWN)} images, seed 0" in result.output
    content = json.loads(out.read_text())
    assert (content["benchmark"], content["model"], content["seed"]) == ("boxes", "digits", 0)
    of_metric = {(row["method"], row["metric"]): row for row in content["rows"]}
    assert {method for method, _ in of_metric} == {"logit", "gaussian", "uniform"}
    assert content["settings"]["fit"] == "whole"
    logit, uniform = of_metric["logit", "pointing"], of_metric["uniform", "pointing"]
    assert logit["value"] > 0.8 > 0.4 > uniform["value"]
    assert logit["low"] <= logit["value"] <= logit["high"]


def test_images_of_twelve_bits_are_measured_as_those_of_eight(run, tmp_path):
    five = read_image(SAMPLES / "five.png")[..., 0]
    (tmp_path / "deep.tif").write_bytes(tiff(five.astype("<u2") * 16))
    write_image(tmp_path / "plain.png", np.repeat(five[..., None], 3, 2))
    x0, y0, x1, y1 = KNOWN["five.png"]["boxes"][0]
    rows = []
    for name, options in (("deep.tif", ["--value-range", "0,4080"]), ("plain.png", [])):
        (tmp_path / "boxes.csv").write_text(f"{name},5,{x0},{y0},{x1},{y1}")
        command = "evaluate", "boxes", tmp_path / "boxes.csv", "-m", "digits", "--evidence", "logit", "--json"
        result = run(*command, *options)
        assert result.exit_code == 0, result.output
        content = json.loads(result.stdout)
        assert content["settings"].get("value_range") == ([0, 4080] if options else None)
        rows.append([row for row in content["rows"] if row["method"] == "logit"])
    assert rows[0] == rows[1]


def test_grid_of_digits_as_json_with_maps_from_files(run, digits, tmp_path):
    arguments = ("evaluate", "grid", digits, "-m", "digits", "--size", 2, "--mosaics", 3, "--json")
    result = run(*arguments, "--save", tmp_path / "mosaics")
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "mosaics" / "mosaic-2x2-002.png").shape == (144, 144, 3)
    tiles = (tmp_path / "mosaics" / "mosaics.csv").read_text().splitlines()
    assert len(tiles) == 1 + 3 * 4
    assert tiles[1].split(",")[0] == "mosaic-2x2-000.png"
    assert values(result.output)["logit", "hit 2x2"] > 0.7
    assert json.loads(run(*arguments, "--size", 2).output)["rows"] == json.loads(result.output)["rows"]
    assert values(result.output)["gaussian", "share 2x2"] == pytest.approx(0.25, abs=0.01)
    (tmp_path / "gradcam").mkdir()
    empty = run(*arguments, "--maps", tmp_path / "gradcam")
    assert empty.exit_code == 2
    assert "gradcam has no .npy file" in empty.output
    np.save(tmp_path / "gradcam" / "other.npy", np.zeros((2, 2)))
    missing = run(*arguments, "--maps", tmp_path / "gradcam")
    assert missing.exit_code == 2
    assert "gradcam/mosaic-2x2-000.png.npy' cannot be read" in missing.output
    for number in range(3):  # all heat is in the upper left tile, for every class
        heat = np.zeros((144, 144))
        heat[:72, :72] = 1
        np.save(tmp_path / "gradcam" / f"mosaic-2x2-{number:03}.npy", heat)
    assert values(run(*arguments, "--maps", tmp_path / "gradcam").output)["gradcam", "share 2x2"] == 0.25


def test_a_folder_of_no_class_costs_its_images(run, digits):
    (digits / "ten").mkdir()
    (digits / "ten" / "a.png").write_bytes(b"never read")
    arguments = "--size", 2, "--mosaics", 1, "--confidence", 0, "--evidence", "logit", "--json"
    result = run("evaluate", "grid", digits, "-m", "digits", *arguments)
    assert result.exit_code == 3, result.output
    ((path, reason),) = json.loads(result.output)["failed"].items()
    assert path == str(digits / "ten" / "a.png")
    assert reason.startswith(f"The folder '{digits / 'ten'}' matches no class: 'ten' is not among the labels")


def test_faithfulness_and_sanity_of_a_sample(run):
    photo = SAMPLES / "five.png"
    result = run("evaluate", "faithfulness", photo, "-m", "digits", "--steps", 8, "--evidence", "logit", "--json")
    assert result.exit_code == 0, result.output
    numbers = values(result.output)
    assert numbers["logit", "insertion_blur"] > numbers["uniform", "insertion_blur"]
    assert numbers["logit", "deletion_blur"] < numbers["uniform", "deletion_blur"]
    result = run("evaluate", "sanity", photo, "-m", "digits", "--stages", 2, "--evidence", "logit", "--json")
    assert result.exit_code == 0, result.output
    assert values(result.output)["logit", "completeness_error"] <= 1e-5
    assert abs(values(result.output)["logit", "rank_correlation@all"]) < 0.9


def test_placement_of_a_digit(run, tmp_path):
    x0, y0, x1, y1 = KNOWN["five.png"]["boxes"][0]
    write_image(tmp_path / "five.png", read_image(SAMPLES / "five.png")[y0:y1, x0 - 19 : x1 + 19])
    arguments = ("--canvas", 72, "--object-size", 30, "--each", 4, "--evidence", "logit")
    result = run("evaluate", "placement", tmp_path, "-m", "digits", *arguments, "--json")
    assert result.exit_code == 0, result.output
    methods = {method for method, _ in values(result.output)}
    assert methods == {"logit measured", "logit stretched", "gaussian", "uniform"}


@pytest.mark.parametrize("color", ["1,2", "0,0,256", "-1,0,0", "black"])
def test_a_background_is_a_color(run, color):
    result = run("evaluate", "placement", SAMPLES / "five.png", "-m", "digits", "--background", color)
    assert result.exit_code == 2
    assert f"--background must be red, green and blue from 0 to 255, such as 0,0,0, got {color!r}." in result.output


@pytest.mark.parametrize("benchmark", ["sanity", "faithfulness", "placement"])
def test_no_readable_image_is_an_error(run, tmp_path, benchmark):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    result = run("evaluate", benchmark, tmp_path / "bad.png", "-m", "digits")
    assert result.exit_code == 2
    assert "Nothing was measured" in result.output
    assert "bad.png" in result.output


def test_a_bad_image_is_listed_and_repeated_evidence_is_measured_once(run, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    arguments = ("--evidence", "logit", "--evidence", "logit", "--stages", 2, "-o", tmp_path / "sanity.json")
    result = run("evaluate", "sanity", tmp_path / "bad.png", SAMPLES / "five.png", "-m", "digits", *arguments)
    assert result.exit_code == 3
    assert "failed" in result.stderr
    assert "bad.png" in result.stderr
    content = json.loads((tmp_path / "sanity.json").read_text())
    assert [Path(path).name for path in content["failed"]] == ["bad.png"]
    names = [(row["method"], row["metric"]) for row in content["rows"]]
    assert len(set(names)) == len(names)


def test_methods_are_rows_of_one_table(run, tmp_path):
    """Of a flattened map and one linear layer integrated gradients are the gradient at the features, as in HiResCAM."""
    methods = "--method", "integrated", "--method", "hirescam", "--method", "gradcam", "--method", "gradcam"
    model = "-m", "position-flatten", "--json"
    result = run("evaluate", "faithfulness", SAMPLES / "five.png", *model, "--steps", 4, *methods)
    assert result.exit_code == 0, result.output
    numbers = values(result.stdout)
    assert list(dict.fromkeys(method for method, _ in numbers)) == [
        "integrated",
        "hirescam",
        "gradcam",
        "gaussian",
        "uniform",
    ]
    metrics = {metric for _, metric in numbers}
    differences = [abs(numbers["integrated", m] - numbers["hirescam", m]) for m in metrics]
    assert max(differences) < 1e-3
    assert any(numbers["integrated", metric] != numbers["gradcam", metric] for metric in metrics)
    both = run(
        "evaluate", "faithfulness", SAMPLES / "five.png", *model, "--steps", 4, *methods[:2], "--evidence", "logit"
    )
    assert {method for method, _ in values(both.stdout)} == {"logit", "integrated", "gaussian", "uniform"}


def test_a_head_that_is_no_average_is_measured_by_its_logit_maps(run):
    arguments = SAMPLES / "five.png", "-m", "position-flatten"
    result = run("evaluate", "faithfulness", *arguments, "--steps", 4, "--json")
    assert {method for method, _ in values(result.stdout)} == {"logit", "gaussian", "uniform"}
    for refused in (["sanity"], ["faithfulness", "--evidence", "margin"], ["faithfulness", "--method", "exact"]):
        result = run("evaluate", *refused, *arguments)
        assert result.exit_code == 2
        assert (
            "needs a head that is an average over positions, and that of 'position-flatten' is not-gap" in result.output
        )


def test_placement_by_other_methods_and_in_an_earlier_layer(run, tmp_path):
    x0, y0, x1, y1 = KNOWN["five.png"]["boxes"][0]
    write_image(tmp_path / "five.png", read_image(SAMPLES / "five.png")[y0:y1, x0 - 19 : x1 + 19])
    arguments = tmp_path, "-m", "digits", "--canvas", 72, "--object-size", 30, "--each", 4, "--json"
    rows = [
        values(run("evaluate", "placement", *arguments, *options).stdout)
        for options in (
            ["--evidence", "logit"],
            ["--method", "gradcam", "--method", "integrated"],
            ["--layer", "layer2"],
        )
    ]
    exact, others, earlier = rows
    assert {method for method, _ in others} >= {"gradcam measured", "integrated stretched", "uniform"}
    for method in ("gradcam", "integrated"):  # behind an average both are the exact map, of its positive part
        key = f"{method} measured", "centroid_distance"
        assert others[key] == pytest.approx(exact["logit measured", "centroid_distance"], abs=1e-3)
    assert earlier["logit measured", "centroid_distance"] != exact["logit measured", "centroid_distance"]


def test_two_methods_with_one_name_are_an_error(run, tmp_path):
    (tmp_path / "gaussian").mkdir()
    np.save(tmp_path / "gaussian" / "five.npy", np.zeros((2, 2)))
    result = run("evaluate", "faithfulness", SAMPLES / "five.png", "-m", "digits", "--maps", tmp_path / "gaussian")
    assert result.exit_code == 2
    assert "Rename the folder" in result.output
