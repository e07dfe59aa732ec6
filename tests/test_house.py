"""Rules for the code: imports, lengths of files and functions, docstrings, commands in documents."""

from __future__ import annotations

import ast
import inspect
import re
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "cam").rglob("*.py"))
PROGRAMS = [*MODULES, *sorted(ROOT.glob("tools/*.py")), *sorted(ROOT.glob("benchmarks/*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# A package imports only from lower floors.
FLOORS = (
    {"errors", "version"},
    {"remote"},
    {"files", "tensors"},
    {"maps", "networks"},
    {"images", "drawing", "heads"},
    {"classifiers", "engines"},
    {"explanations"},
    {"runs", "evaluation", "training"},
    {"report", "invariance", "app"},
    {"audit"},
    {"cli"},
    {"__init__", "__main__"},
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
LIBRARIES = {"click", "PIL", "cv2", "matplotlib"}  # only one file of a package imports them
EXCEPTIONS = {"cli": {"click"}, "images": {"PIL", "cv2"}, "drawing": {"PIL", "cv2"}}


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


def test_a_package_imports_only_from_lower_floors():
    for path in MODULES:
        package = package_of(path)
        for other in imported(path):
            if other.startswith("cam.") and (lower := other.split(".")[1]) not in (package, "models"):
                assert FLOOR[lower] < FLOOR[package], f"{path.relative_to(ROOT)} must not import {other}"


def test_there_is_no_import_cycle():
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}
    graph = {names[path]: imported(path) & set(names.values()) for path in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_one_file_of_a_package_imports_click_or_a_codec():
    importers: dict[tuple[str, str], list[Path]] = {}
    for path in MODULES:
        libraries = {name.split(".")[0] for name in imported(path)} & LIBRARIES
        for library in libraries - EXCEPTIONS.get(package_of(path), set()):
            importers.setdefault((package_of(path), library), []).append(path)
    assert {key: paths for key, paths in importers.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", [*PROGRAMS, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path):
    assert path.read_text("utf-8").count("\n") <= 400


@pytest.mark.parametrize("path", [*PROGRAMS, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            statements = node.body[1:] if ast.get_docstring(node) else node.body
            length = statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0  # type: ignore[operator]
            assert length <= 60, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", sorted((ROOT / "cam").glob("*/page/*")), ids=lambda path: path.name)
def test_files_of_the_pages_are_short_and_safe(path):
    text = path.read_text("ascii")
    assert text.count("\n") <= 250
    assert max(map(len, text.splitlines())) <= 120
    assert path.suffix == ".html" or "</" not in text
    bad = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\b(?:eval|fetch)\(|XMLHttp|https?:|\son[a-z]+="
    assert re.findall(bad, text) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        overload = isinstance(node, ast.FunctionDef) and "overload" in map(ast.unparse, node.decorator_list)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and not overload:
            assert ast.get_docstring(node), f"{path.stem}.{node.name} has no docstring"
    assert ast.get_docstring(tree) or path.name == "__init__.py", path


def test_the_faults_are_planted_for_tests_that_exist():
    source = (ROOT / "tools" / "mutants.py").read_text("utf-8")
    (packages,) = (node for node in ast.parse(source).body if "PACKAGES" in ast.unparse(node).partition(" = ")[0])
    named = {name for _, names in ast.literal_eval(packages.value).values() for name in names.split()}
    assert {name for name in named if not (ROOT / "tests" / f"test_{name}.py").is_file()} == set()
    assert len(named) > 40


def test_public_names_of_the_package_can_be_imported():
    package = import_module("cam")
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name)) or name == "__version__"
    assert dir(package) == sorted(package.__all__)  # for completion
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018
