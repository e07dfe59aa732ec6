"""The rules of the house: imports point one way, files are short, what is public is explained, documents are true."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
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
CODECS = {"click", "PIL", "cv2", "matplotlib"}  # what one file a package may know, but for those made for it
MADE_FOR = {"cli": {"click"}, "invariance": {"matplotlib"}, "images": {"PIL", "cv2"}, "drawing": {"PIL", "cv2"}}


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it; those for type checking only do not count."""
    names = set()
    tree = ast.parse(path.read_text("utf-8"))
    checking = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    skipped = {id(inner) for node in checking for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in skipped:
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
            if other.startswith("cam.") and (below := other.split(".")[1]) not in (package, "models"):
                assert FLOOR[below] < FLOOR[package], f"{path.relative_to(ROOT)} must not import {other}"


def test_no_module_imports_itself_through_others() -> None:
    graph = {module_name(path): {other for other in imported(path) if other.startswith("cam")} for path in MODULES}
    done: set[str] = set()
    for start in graph:
        visit(start, graph, (), done)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def visit(name: str, graph: dict[str, set[str]], above: tuple[str, ...], done: set[str]) -> None:
    assert name not in above, " imports ".join((*above[above.index(name) :], name))
    if name in graph and name not in done:
        for other in graph[name]:
            visit(other, graph, (*above, name), done)
        done.add(name)


def test_one_file_a_package_knows_a_codec_or_click() -> None:
    knows: dict[tuple[str, str], list[Path]] = {}
    for path in MODULES:
        for library in {name.split(".")[0] for name in imported(path)} & CODECS - MADE_FOR.get(package_of(path), set()):
            knows.setdefault((package_of(path), library), []).append(path)
    assert {key: paths for key, paths in knows.items() if len(paths) > 1} == {}


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
def test_parts_of_the_page_are_short_and_take_names_for_data(path: Path) -> None:
    text = path.read_text("ascii")
    assert text.count("\n") <= 250
    assert max(map(len, text.splitlines())) <= 120
    assert path.suffix == ".html" or "</" not in text
    bad = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\b(?:eval|fetch)\(|XMLHttp|https?:|\son[a-z]+="
    assert re.findall(bad, text) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_what_is_public_is_explained(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.stem}.{node.name} has no docstring"
    assert ast.get_docstring(tree) or path.name == "__init__.py", path


def test_every_public_name_of_the_package_is_there() -> None:
    package = import_module("cam")
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name)) or name == "__version__"
    assert dir(package) == sorted(package.__all__)  # which completion offers
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


def readme_commands() -> list[str]:
    return re.findall(r"^    (cam .+)$", README, re.MULTILINE)


def understand(words: list[str]) -> str:
    """The name of the command, of the group's too; raises a usage error for what it does not know."""
    group: click.Group = main
    for depth, word in enumerate(words):
        command = group.commands[word]
        if not isinstance(command, click.Group):
            command.make_context(word, words[depth + 1 :], **main.context_settings)
            return " ".join(words[: depth + 1])
        group = command
    raise AssertionError(words)


def leaves(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """All commands that do something, by their whole names."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found |= leaves(command, f"{prefix}{name} ") if isinstance(command, click.Group) else {prefix + name: command}
    return found


@pytest.mark.parametrize("line", readme_commands())
def test_the_commands_of_the_readme_are_understood(line: str) -> None:
    understand(shlex.split(line)[1:])


def test_there_are_commands_in_the_readme() -> None:
    assert {understand(shlex.split(line)[1:]) for line in readme_commands()} == set(leaves(main))


def test_the_library_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    found: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), found)
    assert found["explanation"].label == "7"  # type: ignore[attr-defined]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["5", "7"]


@pytest.mark.parametrize("name", sorted(leaves(main)))
def test_every_help_has_an_example_that_is_understood(name: str) -> None:
    command = leaves(main)[name]
    text = inspect.cleandoc(command.help or "")
    (example,) = re.findall(r"Example: cam (.*)", text)
    assert understand(shlex.split(example)) == name
    with click.Context(command, info_name=name, **main.context_settings) as context:
        assert "Example:" in command.get_help(context)


def test_help_does_not_wait_for_torch() -> None:
    program = (
        "import sys, cam.cli.main; cam.cli.main.main(['--help'], standalone_mode=False); print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "False"
    assert "explain" in answer.stdout


def test_documents_name_no_path_of_a_machine() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models/*.json")]:
        assert "shared/data" not in path.read_text("utf-8"), path
