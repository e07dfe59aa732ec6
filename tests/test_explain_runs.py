"""cam explain over many pictures: lists, parts, limits, and what the command says of a run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from packed import make_tar
from pictures import tiff
from runs import DIGITS, NAMES, PNG, SAMPLES, classes, contents, lines

from cam.images.io import read_image, write_image


def test_a_list_names_the_inputs(run, folder, whole, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("label,path\n" + "".join(f"x,{folder / name}\n" for name in NAMES))
    assert run("explain", "--list", table, *DIGITS, "-o", tmp_path / "out").exit_code == 0
    assert classes(tmp_path / "out") == classes(whole)


def test_a_list_comes_from_standard_input(folder, whole, tmp_path):
    from click.testing import CliRunner

    from cam.cli.main import main

    text = "\0".join(str(folder / name) for name in NAMES)
    done = CliRunner().invoke(main, ["explain", "--list", "-", *DIGITS, "-o", str(tmp_path / "out")], input=text)
    assert done.exit_code == 0, done.output
    assert classes(tmp_path / "out") == classes(whole)


def test_a_pattern_selects_images(run, folder, tmp_path):
    assert run("explain", folder, *DIGITS, "-o", tmp_path, "--pattern", "s*.png").exit_code == 0
    assert [Path(line["path"]).name for line in lines(tmp_path)] == [name for name in NAMES if name.startswith("s")]


def test_no_input_is_an_error(run, tmp_path):
    result = run("explain", *DIGITS, "-o", tmp_path)
    assert result.exit_code == 2
    assert "No inputs. Give images, folders, globs or archives, or --list FILE." in result.stderr


def test_a_bad_entry_of_a_list_costs_its_own_line(run, folder, whole, tmp_path):
    (tmp_path / "empty").mkdir()
    named = [str(folder / name) for name in NAMES]
    gone = [str(tmp_path / "gone[1].png"), str(tmp_path / "empty"), str(tmp_path / "*.png")]
    (tmp_path / "list.txt").write_text("\n".join([*named[:2], *gone, *named[2:]]))
    result = run("explain", "--list", tmp_path / "list.txt", *DIGITS, "-o", tmp_path / "out")
    assert result.exit_code == 3, result.output
    failed = [line for line in lines(tmp_path / "out") if line["status"] == "failed"]
    assert [line["path"] for line in failed] == gone
    assert [line["path"] for line in lines(tmp_path / "out") if line["status"] == "ok"] == named
    for name in gone:  # on the command line each is a mistake
        assert run("explain", folder, name, *DIGITS, "-o", tmp_path / "refused").exit_code == 2


def test_the_longest_file_names_are_shortened(run, folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    names = [f"{letter * 250}.png" for letter in "ab"] + ["\N{CAT FACE}" * 62 + ".png"]
    for name in names:
        shutil.copy(folder / NAMES[0], photos / name)
    result = run("explain", photos, *DIGITS, "--channels", "1", "--report", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    parts = [part for line in lines(tmp_path / "out") for part in (line, *line["targets"])]
    files = [name for part in parts for name in part["files"].values()]
    assert len(set(files)) == 3 * len(names)
    assert all((tmp_path / "out" / name).is_file() for name in files)


@pytest.mark.parametrize(
    ("first", "then"), [([], ["--shard", "1/2"]), (["--shard", "1/2"], []), (["--shard", "1/2"], ["--shard", "2/2"])]
)
def test_shards_with_other_settings_leave_results_alone(run, folder, tmp_path, first, then):
    assert run("explain", folder, *DIGITS, "-o", tmp_path / "out", *first).exit_code == 0
    before = contents(tmp_path / "out")
    result = run("explain", folder, *DIGITS, "-o", tmp_path / "out", "--opacity", "0.3", *then)
    assert result.exit_code == 2
    assert "holds results with other settings (--opacity 0.85, now --opacity 0.3)" in " ".join(result.output.split())
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_an_impossible_shard_is_an_error(run, folder, tmp_path, shard):
    result = run("explain", folder, *DIGITS, "-o", tmp_path / "out", "--shard", shard)
    assert result.exit_code == 2
    assert f"--shard must be a part such as 1/3, 2/3 or 3/3, got {shard!r}." in result.stderr


def test_the_first_bad_image_can_stop_the_run(run, folder, tmp_path):
    (tmp_path / "0.png").write_text("text")
    result = run("explain", tmp_path / "0.png", folder, *DIGITS, "-o", tmp_path / "out", "--on-error", "stop")
    assert result.exit_code == 1
    assert re.search(r"Error: The run was stopped by .*0\.png' is not an image", result.stderr)


def test_the_same_command_again_counts_earlier_images(run, folder, whole):
    again = run("explain", folder, *PNG, "-o", whole)
    assert again.exit_code == 0
    assert f"{len(NAMES)} explained, 0 failed ({len(NAMES)} explained by an earlier run): {whole}" in again.stdout
    summary = json.loads(run("explain", folder, *PNG, "-o", whole, "--json").stdout)
    counts = {"explained": len(NAMES), "failed": 0, "earlier": len(NAMES), "truth": None}
    expected = {**counts, "note": "", "left_out": {}, "out": str(whole), "errors": {}}
    assert {name: summary[name] for name in expected} == expected


def test_files_that_are_not_read_are_counted_at_the_end_and_in_run_json(run, tmp_path):
    """In an archive, too, whose member has a name of 5000 digits, which Python refuses to convert to a number."""
    five = (SAMPLES / "five.png").read_bytes()
    make_tar(tmp_path / "a.tar", (f"{'1' * 5000}.png", five), ("b.jxl", b"x"), ("scan.DCM", b"x"))
    ended = run("explain", tmp_path / "a.tar", *DIGITS, "-o", tmp_path / "out")
    assert ended.exit_code == 0
    assert "\n2 files left out: .dcm 1, .jxl 1\n" in ended.stdout
    assert json.loads((tmp_path / "out" / "run.json").read_text())["left_out"] == {".dcm": 1, ".jxl": 1}
    assert lines(tmp_path / "out")[-1]["status"] == "ok"


def test_images_that_are_no_inputs_any_more_are_counted(run, tmp_path):
    command = *DIGITS, "-o", tmp_path / "out"
    assert "manifest" not in run("explain", SAMPLES / "five.png", *command).stdout
    again = run("explain", SAMPLES / "sevens.png", *command)
    assert "not among the inputs, and out of the manifest: 1 of an earlier run\n" in again.stdout
    assert [Path(line["path"]).name for line in lines(tmp_path / "out")] == ["sevens.png"]
    assert len(list((tmp_path / "out").glob("five.png.*"))) == 1  # the overlay stays


def test_images_whose_names_change_with_the_inputs_are_not_called_gone(run, folder, tmp_path):
    (tmp_path / "more").mkdir()
    shutil.copy(SAMPLES / "five.png", tmp_path / "more")
    command = *DIGITS, "-o", tmp_path / "out"
    first = run("explain", folder, *command).stdout
    again = run("explain", folder, tmp_path / "more", *command).stdout
    assert "not among the inputs" not in first + again
    assert len(lines(tmp_path / "out")) == len(list(folder.iterdir())) + 1


def test_numbers_become_pixels_as_the_options_say(run, tmp_path):
    """A digit of 12 bits in the second of five bands."""
    five = read_image(SAMPLES / "five.png")[..., 0]
    bands = np.zeros((*five.shape, 5), "<u2")
    bands[..., 1] = five * 16.0
    (tmp_path / "five.tif").write_bytes(tiff(bands))
    command = "explain", tmp_path / "five.tif", *DIGITS, "-o", tmp_path / "out"
    assert run(*command).exit_code == 1
    assert "five.tif' has 5 bands, more than its colors" in lines(tmp_path / "out")[0]["error"]
    assert run(*command, "--bands", "2").exit_code == 1  # a run without results is replaced
    assert "values from 752 to 2464, whose black and white" in lines(tmp_path / "out")[0]["error"]
    command = *command, "--value-range", "0,4080"
    assert run(*command, "--bands", "2").exit_code == 0
    refused = run(*command)
    assert refused.exit_code == 2
    assert "other settings (--bands 2, now no --bands)" in refused.stderr
    (line,) = lines(tmp_path / "out")
    assert line["targets"][0]["label"] == "5"
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert (settings["bands"], settings["value_range"]) == ([2], [0, 4080])
    write_image(tmp_path / "gray.png", np.repeat(five[..., None], 3, 2))
    assert run("explain", tmp_path / "gray.png", *DIGITS, "-o", tmp_path / "plain").exit_code == 0
    assert lines(tmp_path / "plain")[0]["targets"][0]["logit"] == pytest.approx(line["targets"][0]["logit"], rel=1e-5)


def test_smaller_overlays(run, tmp_path):
    assert run("explain", SAMPLES / "sevens.png", *DIGITS, "-o", tmp_path, "--max-side", "150").exit_code == 0
    (line,) = lines(tmp_path)
    drawn = read_image(tmp_path / line["targets"][0]["files"]["overlay"])
    height, width = line["size"]
    assert max(height, width) > 150
    y, x = line["targets"][0]["peak"]  # in pixels of the photograph
    boxes = json.loads((SAMPLES / "samples.json").read_text())["samples"]["sevens.png"]["boxes"]
    assert any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes)
    assert drawn.shape[1] == 300  # 150, enlarged until the legend of 280 fits


@pytest.mark.parametrize(
    ("option", "message"), [("--max-bytes", "over the limit of 100"), ("--max-pixels", "over the limit of 100")]
)
def test_limits(run, tmp_path, option, message):
    assert run("explain", SAMPLES / "five.png", *DIGITS, "-o", tmp_path, option, "100").exit_code == 1
    (line,) = lines(tmp_path)
    assert message in line["error"]
    assert option in line["error"]


def test_a_decoder_that_hangs_costs_one_line(run, tmp_path, monkeypatch):
    import time

    import cam.images.read as module

    original = module.decode_image

    def hang(file, path, *args, **kwargs):
        if path.endswith("five.png"):
            time.sleep(3)
        return original(file, path, *args, **kwargs)

    monkeypatch.setattr(module, "decode_image", hang)
    result = run("explain", SAMPLES / "five.png", SAMPLES / "sevens.png", *DIGITS, "-o", tmp_path, "--timeout", "0.5")
    assert result.exit_code == 3
    five, sevens = lines(tmp_path)
    assert (five["status"], sevens["status"]) == ("failed", "ok")
    assert "0.5 s" in five["error"]
    assert "--timeout" in five["error"]
    monkeypatch.undo()  # and what that advises can be done
    result = run("explain", SAMPLES / "five.png", SAMPLES / "sevens.png", *DIGITS, "-o", tmp_path, "--timeout", "90")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--precision", "float16", "float32"), ("--timeout", "nan", "--timeout must be a number above 0, got 'nan'.")],
)
def test_a_wrong_option_is_an_error_before_an_earlier_run_is_overwritten(run, whole, option, value, message):
    before = contents(whole)
    result = run("explain", SAMPLES, *DIGITS, "-o", whole, "--overwrite", option, value)
    assert result.exit_code == 2
    assert message in result.stderr
    assert contents(whole) == before


def test_run_json_names_the_engine(run, tmp_path):
    assert run("explain", SAMPLES / "five.png", *DIGITS, "-o", tmp_path, "--engine", "eager").exit_code == 0
    assert json.loads((tmp_path / "run.json").read_text())["engine"] == "eager"
