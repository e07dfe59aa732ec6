"""Rules for the code: imports, lengths of files and functions, docstrings, commands in documents."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import click
import pytest

from cam.cli.main import main

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "cam").rglob("*.py"))
PROGRAMS = [*MODULES, *sorted(ROOT.glob("tools/*.py")), *sorted(ROOT.glob("benchmarks/*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
README = (ROOT / "README.md").read_text("utf-8")

# A package imports only from lower floors.
FLOORS = (
    {"errors", "version"},
    {"files", "tensors"},
    {"maps", "networks"},
    {"images", "drawing", "heads"},
    {"classifiers", "engines"},
    {"explanations"},
    {"runs", "evaluation"},
    {"report", "invariance"},
    {"cli"},
    {"__init__", "__main__"},
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
LIBRARIES = {"click", "PIL", "cv2", "matplotlib"}  # only one file of a package imports them
EXCEPTIONS = {"cli": {"click"}, "invariance": {"matplotlib"}, "images": {"PIL", "cv2"}, "drawing": {"PIL", "cv2"}}


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere, except for type checking only."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "cam").parts[0].removesuffix(".py")


def test_a_package_imports_only_from_lower_floors() -> None:
    for path in MODULES:
        package = package_of(path)
        for other in imported(path):
            if other.startswith("cam.") and (lower := other.split(".")[1]) not in (package, "models"):
                assert FLOOR[lower] < FLOOR[package], f"{path.relative_to(ROOT)} must not import {other}"


def test_there_is_no_import_cycle() -> None:
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}
    graph = {names[path]: imported(path) & set(names.values()) for path in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_one_file_of_a_package_imports_click_or_a_codec() -> None:
    importers: dict[tuple[str, str], list[Path]] = {}
    for path in MODULES:
        libraries = {name.split(".")[0] for name in imported(path)} & LIBRARIES
        for library in libraries - EXCEPTIONS.get(package_of(path), set()):
            importers.setdefault((package_of(path), library), []).append(path)
    assert {key: paths for key, paths in importers.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", [*PROGRAMS, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path: Path) -> None:
    assert path.read_text("utf-8").count("\n") <= 400


@pytest.mark.parametrize("path", [*PROGRAMS, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            statements = node.body[1:] if ast.get_docstring(node) else node.body
            length = statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0  # type: ignore[operator]
            assert length <= 60, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", sorted((ROOT / "cam" / "report" / "page").iterdir()), ids=lambda path: path.name)
def test_files_of_the_report_page_are_short_and_safe(path: Path) -> None:
    text = path.read_text("ascii")
    assert text.count("\n") <= 250
    assert max(map(len, text.splitlines())) <= 120
    assert path.suffix == ".html" or "</" not in text
    bad = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\b(?:eval|fetch)\(|XMLHttp|https?:|\son[a-z]+="
    assert re.findall(bad, text) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.stem}.{node.name} has no docstring"
    assert ast.get_docstring(tree) or path.name == "__init__.py", path


def test_public_names_of_the_package_can_be_imported() -> None:
    package = import_module("cam")
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name)) or name == "__version__"
    assert dir(package) == sorted(package.__all__)  # for completion
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


def readme_commands() -> list[str]:
    return re.findall(r"^    (cam .+)$", README, re.MULTILINE)


def parse(words: list[str]) -> str:
    """The full name of a command; raises a usage error for wrong options."""
    group: click.Group = main
    for depth, word in enumerate(words):
        command = group.commands[word]
        if not isinstance(command, click.Group):
            command.make_context(word, words[depth + 1 :], **main.context_settings)
            return " ".join(words[: depth + 1])
        group = command
    raise AssertionError(words)


def leaves(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """All commands that are not groups, by their full names."""
    commands: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        inner = leaves(command, f"{prefix}{name} ") if isinstance(command, click.Group) else {prefix + name: command}
        commands |= inner
    return commands


@pytest.mark.parametrize("line", readme_commands())
def test_commands_in_the_readme_are_valid(line: str) -> None:
    parse(shlex.split(line)[1:])


def test_every_command_is_in_the_readme() -> None:
    assert {parse(shlex.split(line)[1:]) for line in readme_commands()} == set(leaves(main))


def test_the_readme_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["explanation"].label == "7"  # type: ignore[attr-defined]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["5", "7"]


@pytest.mark.parametrize("name", sorted(leaves(main)))
def test_every_help_has_a_valid_example(name: str) -> None:
    command = leaves(main)[name]
    text = inspect.cleandoc(command.help or "")
    (example,) = re.findall(r"Example: cam (.*)", text)
    assert parse(shlex.split(example)) == name
    with click.Context(command, info_name=name, **main.context_settings) as context:
        assert "Example:" in command.get_help(context)


def test_documents_contain_no_local_path() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models/*.json")]:
        assert "shared/data" not in path.read_text("utf-8"), path
