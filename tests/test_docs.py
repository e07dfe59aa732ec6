"""The documents are true: commands parse, snippets run, links lead somewhere, and names in the architecture exist."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from cam.cli.main import main

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "llms.txt", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"


def commands(page: Path) -> list[str]:
    """Indented command lines, and commands in backticks inside tables."""
    text = page.read_text("utf-8")
    return re.findall(r"^    (cam .+)$", text, re.MULTILINE) + re.findall(
        r"^\|.*?`(cam [a-z]+ [^`]+)`", text, re.MULTILINE
    )


def parse(line: str) -> str:
    """Parse a command line; return the command's full name."""
    words = shlex.split(line, comments=True)[1:]
    group: click.Group = main
    for depth, word in enumerate(words):
        command = group.commands[word]
        if not isinstance(command, click.Group):
            command.make_context(word, words[depth + 1 :], **main.context_settings)
            return " ".join(words[: depth + 1])
        group = command
    raise AssertionError(f"{line!r} names no command")


def leaves(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """All commands that are not groups, by their full names."""
    commands: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        inner = leaves(command, f"{prefix}{name} ") if isinstance(command, click.Group) else {prefix + name: command}
        commands |= inner
    return commands


LINES = [(page.name, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_commands_parse(page, line, tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    monkeypatch.chdir(tmp_path)
    parse(line)


# Stand-ins for what the recipes of docs/runs.md call: they print the command that they would run, on one line.
STUBS = """
cam() { echo cam "$@"; }
sbatch() { if [ "$1" = --parsable ]; then echo 17; else echo sbatch "$1" "$2"; ${@:3}; fi; }
ray() { echo ray "$@"; }
export SLURM_ARRAY_TASK_ID=3 SLURM_CPUS_PER_TASK=8 JOB_COMPLETION_INDEX=4
"""


def test_the_recipes_for_several_machines_run(tmp_path):
    text = (ROOT / "docs" / "runs.md").read_text("utf-8")
    scripts = re.findall(r"```bash\n(.+?)```", text, re.DOTALL) + re.findall(r"- (cam explain .+)", text)
    shown = [
        subprocess.run(["bash", "-ec", STUBS + script], capture_output=True, text=True, check=True).stdout.splitlines()
        for script in scripts
    ]
    cluster, slurm, merging, gpus, kubernetes = shown
    assert [line.split()[:2] for line in cluster] == [["ray", "start"]] * 2
    assert slurm[0].endswith("--shard 3/16")
    assert kubernetes[0].endswith("--shard 5/16")
    assert merging[0] == "sbatch --dependency=afterok:17 --wrap"
    assert sorted(line.split()[-1] for line in gpus[:8]) == [f"{part}/8" for part in range(1, 9)]
    assert gpus[8:] == ["cam merge out"]
    for line in (*slurm, *kubernetes, *gpus):
        parse(line)


def test_every_command_is_shown_in_a_document(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert {parse(line) for _, line in LINES} == set(leaves(main))


def test_the_readme_is_short_and_its_snippet_runs(monkeypatch, capsys):
    text = README.read_text("utf-8")
    assert text.count("\n") < 180
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["explanation"].label == "7"  # type: ignore[attr-defined]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["5", "7"]


@pytest.mark.parametrize("page", ["explain", "models", "library"])
def test_snippets_run(page, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / f"{page}.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert names["classifier"].head.kind == "gap-linear"
    written = {"explain": "sevens.png", "library": "seven.png"}
    assert page not in written or (tmp_path / "build" / written[page]).stat().st_size > 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_no_path_of_a_machine_is_named(page):
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert re.match("https?:", link) or (page.parent / link).exists(), link
    assert "shared/" not in text


def test_files_and_functions_of_the_architecture_exist():
    """A file is followed by the function that it names: `cam/x/y.py`: `function`."""
    text = ARCHITECTURE.read_text("utf-8")
    pairs = re.findall(r"`(cam/[\w/]+\.py)`(?:: `(\w+)`)?", text)
    assert len(pairs) >= 20
    for file, function in pairs:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        assert not function or function in names, f"{file} has no {function}"
    packages = {path.name for path in (ROOT / "cam").iterdir() if (path / "__init__.py").exists()}
    assert packages <= set(re.findall(r"`(\w+)/`", text))


@pytest.mark.parametrize("name", sorted(leaves(main)))
def test_every_help_has_an_example_that_parses(name):
    command = leaves(main)[name]
    (example,) = re.findall(r"Example: (cam .*)", inspect.cleandoc(command.help or ""))
    assert parse(example) == name
    with click.Context(command, info_name=name, **main.context_settings) as context:
        assert "Example:" in command.get_help(context)
