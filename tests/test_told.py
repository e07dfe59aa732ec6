"""What the commands say where things go wrong: what failed, that they were cut short, that nobody can hear them."""

from __future__ import annotations

from runs import DIGITS, SAMPLES, lines


def test_what_failed_is_told_also_where_a_run_is_cut_short(run, tmp_path, monkeypatch):
    (tmp_path / "bad.png").write_text("text")
    inputs = SAMPLES / "five.png", tmp_path / "bad.png"
    assert run("explain", *inputs, *DIGITS, "-o", tmp_path / "out").exit_code == 3

    def cut(classifier, pictures, out, options, arguments, report):
        for line in lines(out):
            report(line)
        raise KeyboardInterrupt

    monkeypatch.setattr("cam.runs.run.explain_folder", cut)
    result = run("explain", *inputs, *DIGITS, "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (130, "")
    heading, failed, stopped = result.stderr.splitlines()
    assert heading.split() == ["failed", "why"]
    assert failed.startswith(f"{tmp_path / 'bad.png'}  '{tmp_path / 'bad.png'}' is not an image")
    assert stopped.startswith("Stopped. Finished images are in ")


def test_every_command_that_is_cut_short_says_so(run, monkeypatch):
    def cut(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cam.classifiers.inspection.inspect_model", cut)
    result = run("inspect", "digits")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")


def test_no_name_is_cut_on_a_narrow_terminal(run, tmp_path, monkeypatch):
    folder = tmp_path / "a very long folder of photographs of the year"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"photograph-number-{number}.jpg").write_text("text")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    told = run("explain", folder, *DIGITS, "-o", tmp_path / "out").stderr
    assert "…" not in told
    for number in (1, 2):
        assert told.count(f"number-{number}") == 2  # in its column, and in the reason


def test_a_full_disk_behind_what_is_printed_is_one_sentence(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cam.cli.printing.show_models", full)
    result = run("models")
    assert (result.exit_code, result.stdout) == (1, "")
    message = "Standard output cannot be written (No space left on device)."
    assert result.stderr == f"Error: {message} Free disk space, or send the output elsewhere.\n"
