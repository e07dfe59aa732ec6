"""Plant faults in the code, one at a time, and say which of them the tests do not notice.

python tools/mutants.py                plants 120 faults in six packages; half an hour on two cores
python tools/mutants.py maps --seed 1  plants others, in one of them

mutmut and cosmic-ray plant every fault there is: thousands, each with the same tests. This takes a fixed sample, and
for each fault the tests of its package. Which faults are taken depends on their own lines, not on the rest of the code.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PROCESSES, SECONDS = 2, 600  # a fault that makes the tests run longer is noticed

# For each package the number of faults, and its tests, those that notice most first.
PACKAGES = {
    "maps": (18, "hand_worked geometry evidence grid explanation pipeline overlay resuming explain_evidence placement"),
    "heads": (
        28,
        "outputs proof features odd_heads receptive_field repeatable changed_networks unsupported_networks hand_worked "
        "examination engines families networks explanation placement inspection weights",
    ),
    "images": (
        22,
        "reading images decoding samples bands inputs lists archives unreadable_images bad_pictures bad_input "
        "annotations resuming",
    ),
    "drawing": (12, "overlay legend blending explain_evidence batch"),
    "runs": (
        16,
        "workers run_folder merging resuming batch blending explain_evidence explain_runs explain_command commands",
    ),
    "report": (12, "report_evidence report_command report_page report_controls report_edges"),
    "report/page": (12, "report_evidence report_page report_controls report_edges"),
}

_SWAPS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
_CALLS = {
    **{"min": "max", "max": "min", "amin": "amax", "amax": "amin", "argmin": "argmax", "argmax": "argmin"},
    **{"floor": "ceil", "ceil": "floor", "round": "int", "rint": "floor", "all": "any", "any": "all"},
    **{"mean": "sum", "abs": "neg", "sorted": "list"},
}
_JAVASCRIPT = {
    **{" < ": " <= ", " > ": " >= ", " <= ": " < ", " >= ": " > ", " === ": " !== ", " !== ": " === "},
    **{" + ": " - ", " - ": " + ", " * ": " / ", " / ": " * ", " && ": " || ", " || ": " && "},
    **{"Math.min": "Math.max", "Math.max": "Math.min", "Math.round": "Math.floor", "Math.floor": "Math.ceil"},
}

# Faults that change nothing that a test could notice, by the line that they make.
_EQUIVALENT: dict[str, str] = {}


@dataclass(frozen=True)
class Fault:
    """A replacement of some bytes of a file."""

    file: str
    start: int
    end: int
    text: bytes

    def planted(self) -> bytes:
        """Return the content of the file with the fault."""
        source = (ROOT / self.file).read_bytes()
        return source[: self.start] + self.text + source[self.end :]

    @property
    def line(self) -> int:
        return (ROOT / self.file).read_bytes().count(b"\n", 0, self.start) + 1

    @property
    def before(self) -> str:
        return (ROOT / self.file).read_text("utf-8").splitlines()[self.line - 1].strip()

    @property
    def after(self) -> str:
        return self.planted().decode().splitlines()[self.line - 1].strip()


class _Finder(ast.NodeVisitor):
    """Collects replacements (start, end, text) of code that is neither a text nor an annotation."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.found: list[tuple[int, int, bytes]] = []
        self.visit(ast.parse(source))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)

    def swap(self, left: ast.expr, operator: ast.AST, right: ast.expr) -> None:
        if type(operator) in _SWAPS:
            old, new = _SWAPS[type(operator)]
            gap = self.span(left)[1], self.span(right)[0]
            start = self.source.index(old.encode(), *gap)
            self.found.append((start, start + len(old), new.encode()))

    def visit_Raise(self, node: ast.AST) -> None:
        """Leave messages alone."""

    visit_JoinedStr = visit_Import = visit_ImportFrom = visit_Raise  # noqa: N815

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    visit_ClassDef = visit_FunctionDef  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.found.append((*self.span(node), b"pass"))
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.found.append((*self.span(node), b"pass"))
        self.visit(node.value)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.swap(node.left, node.op, node.right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.swap(node.values[0], node.op, node.values[1])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            self.swap(left, operator, right)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start, end = self.span(node)
        if isinstance(node.op, (ast.Not, ast.USub)):
            self.found.append((start, end, self.source[self.span(node.operand)[0] : end]))
        self.generic_visit(node)

    def visit_If(self, node: ast.If | ast.IfExp | ast.While) -> None:
        start, end = self.span(node.test)
        if isinstance(node.test, (ast.Name, ast.Call, ast.Attribute)):
            self.found.append((start, end, b"not " + self.source[start:end]))
        self.generic_visit(node)

    visit_IfExp = visit_While = visit_If  # noqa: N815

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.found.append((*self.span(node), str(not node.value).encode()))
        elif isinstance(node.value, (int, float)):
            other = node.value + 1 if isinstance(node.value, int) else 2 * node.value + (node.value == 0)
            self.found.append((*self.span(node), repr(other).encode()))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _CALLS:
            end = self.span(node.func)[1]
            self.found.append((end - len(name), end, _CALLS[name].encode()))
        self.generic_visit(node)


def sample(package: str, count: int, seed: int) -> list[Fault]:
    """Choose faults of a package, at most one a line."""
    paths = sorted(path for path in (ROOT / "cam" / package).iterdir() if path.suffix in (".py", ".js"))
    faults = [fault for path in paths for fault in _faults_in(path)]
    rank = {fault: sha256(f"{seed} {fault.file} {fault.before} {fault.after}".encode()).digest() for fault in faults}
    chosen: dict[tuple[str, int], Fault] = {}
    for fault in sorted(faults, key=rank.__getitem__):
        if len(chosen) < count:
            chosen.setdefault((fault.file, fault.line), fault)
    return list(chosen.values())


def _faults_in(path: Path) -> Iterator[Fault]:
    source, file = path.read_bytes(), str(path.relative_to(ROOT))
    for replacement in _find_in_javascript(source) if path.suffix == ".js" else _Finder(source).found:
        fault = Fault(file, *replacement)
        if path.suffix == ".py":
            try:
                compile(fault.planted(), path, "exec")
            except SyntaxError:
                continue
        yield fault


def _find_in_javascript(source: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Find replacements in code, not in comments and texts."""
    texts = rb'/\*.*?\*/|//[^\n]*|`[^`]*`|"[^"\n]*"'
    code = re.sub(texts, lambda text: b"_" * len(text[0]), source, flags=re.DOTALL)
    for old, new in _JAVASCRIPT.items():
        yield from ((*match.span(), new.encode()) for match in re.finditer(re.escape(old.encode()), code))


def run_tests(trees: SimpleQueue[Path], package: str, fault: Fault | None = None) -> str:
    """Run the tests of a package in a free copy of the tree; return what fails first, "" if nothing does."""
    tree = trees.get()
    try:
        if fault:
            (tree / fault.file).write_bytes(fault.planted())
            os.utime(tree / fault.file, (fault.start, fault.start))  # or bytecode of the original would run
        return _first_failure(package, tree)
    finally:
        if fault:
            shutil.copy2(ROOT / fault.file, tree / fault.file)
        trees.put(tree)


def _first_failure(package: str, tree: Path) -> str:
    files = [f"cam/{package}", *(f"tests/test_{name}.py" for name in PACKAGES[package][1].split())]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", f"--basetemp={tree}-tmp", *files]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with (tree / "output").open("w+") as output:
        process = subprocess.Popen(  # noqa: S603
            command, cwd=tree, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"more than {SECONDS} seconds"
        output.seek(0)
        lines = output.read().splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return "" if process.returncode == 0 else (failures or lines[-1:] or ["no output"])[0]


def is_noticed(trees: SimpleQueue[Path], fault: Fault) -> bool:
    """Plant a fault, and print what the tests say."""
    failure = run_tests(trees, Path(fault.file).parent.relative_to("cam").as_posix(), fault)
    place = f"{fault.file}:{fault.line}  {fault.before}  ->  {fault.after}"
    print(f"{'noticed' if failure else 'MISSED '}  {place}  {failure[:100]}", flush=True)
    return bool(failure)


def plant(packages: Sequence[str], seed: int) -> int:
    """Plant the sample; return 1 if over 5 % of it is not noticed."""
    faults = [fault for package in packages for fault in sample(package, PACKAGES[package][0], seed)]
    equivalent = [fault for fault in faults if fault.after in _EQUIVALENT]
    faults = [fault for fault in faults if fault.after not in _EQUIVALENT]
    with TemporaryDirectory() as folder, ThreadPoolExecutor(PROCESSES) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(PROCESSES):
            tree, ignored = Path(folder, str(number)), shutil.ignore_patterns(".*", "build", "dist", "__pycache__")
            trees.put(Path(shutil.copytree(ROOT, tree, ignore=ignored)))
        if failures := [failure for failure in pool.map(partial(run_tests, trees), packages) if failure]:
            sys.exit(f"The tests fail without any fault: {failures[0]}")
        noticed = list(pool.map(partial(is_noticed, trees), faults))
    print(f"\n{sum(noticed)} of {len(faults)} noticed ({100 * sum(noticed) / len(faults):.0f} %); not noticed:")
    for fault, was_noticed in zip(faults, noticed, strict=True):
        if not was_noticed:
            print(f"{fault.file}:{fault.line}\n    {fault.before}\n    {fault.after}")
    for fault in equivalent:
        print(f"Left out, for it changes nothing ({_EQUIVALENT[fault.after]}):\n    {fault.file}: {fault.after}")
    return int(sum(noticed) < 0.95 * len(faults))


if __name__ == "__main__":
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="*", choices=list(PACKAGES), default=[], help="all by default")
    parser.add_argument("--seed", type=int, default=0, help="another sample")
    options = parser.parse_args()
    sys.exit(plant(options.packages or list(PACKAGES), options.seed))
