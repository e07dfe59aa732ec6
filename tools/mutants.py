"""Plant faults in the code, one at a time, and say which of them the tests do not notice.

python tools/mutants.py                plants 120 faults in six packages; half an hour on two quiet cores
python tools/mutants.py maps --seed 1  plants others, in one of them

mutmut and cosmic-ray plant every fault there is: thousands, each with the same tests. This takes a fixed sample, and
for each fault the tests of its package. Which faults are taken depends on their own lines, not on the rest of the code.
"""

from __future__ import annotations

import ast
import multiprocessing
import os
import re
import shutil
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[1]
PROCESSES, SECONDS = 2, 1200  # a fault that makes the tests run longer is noticed

# For each package the number of faults, and its tests, those that notice most first.
PACKAGES = {
    "maps": (18, "hand_worked geometry evidence overlay grid explanation expect"),
    "heads": (
        28,
        "outputs proof features hand_worked odd_heads receptive_field repeatable changed_networks unsupported_networks "
        "examination",
    ),
    "images": (
        22,
        "reading images decoding samples bands inputs lists choosing archives unreadable_images bad_pictures "
        "annotations library",
    ),
    "drawing": (12, "overlay legend blending"),
    "runs": (
        16,
        "workers cluster merging resuming run_truth tables batch blending explain_evidence explain_runs",
    ),
    "report": (
        12,
        "report_evidence report_command report_controls report_summary report_list report_names report_page",
    ),
    "report/page": (
        12,
        "report_evidence report_page report_controls report_summary report_list report_answer report_edges "
        "report_names report_media",
    ),
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

# Faults that change nothing that a test could notice: how the line that they make begins, and why.
_EQUIVALENT = {
    "exists = np.abs(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab) - lab).max(-1) <= 0.5": "no difference is exactly 0.5",
    'lock = FileLock(self.out / f".lock{self._suffix}", timeout=1)': "it only waits a second longer before it refuses",
    'count = int.from_bytes(content[start : start + 2], "big") if start > 4 else 1': "the file begins with other bytes",
    "return alive if alive.any() and _spread(slices[alive], 0) < limit else None": "no spread is exactly the limit",
    "head = head.to(device, torch.float64 if dtype != torch.float64 else torch.float32)": "they are float32 numbers",
    "_ROUNDING = 2e-06": "both are far below a pixel, and far above rounding",
    "is_whole = frame.seen == (0, 1, width, height)": "what is seen is painted over",
    "guess = first + _MORE_CELLS * (start * cells)": "a wrong guess only takes longer",
    "bias = torch.where(bias.abs() < 2e-12 * logits": "both are far above rounding, and no bias is so small",
}


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
    def package(self) -> str:
        return Path(self.file).parent.relative_to("cam").as_posix()

    @property
    def line(self) -> int:
        return (ROOT / self.file).read_bytes().count(b"\n", 0, self.start) + 1

    @property
    def before(self) -> str:
        return (ROOT / self.file).read_text("utf-8").splitlines()[self.line - 1].strip()

    @property
    def after(self) -> str:
        return self.planted().decode().splitlines()[self.line - 1].strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}\n    {self.before}\n    {self.after}"


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


class _FirstFailure:
    """A plugin of pytest that keeps the name of the test, or of the file, that fails first."""

    name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.name = self.name or (report.nodeid if report.failed else "")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.name = self.name or (report.nodeid if report.failed else "")


def _stop(*_: object) -> None:
    raise TimeoutError


def run_tests(package: str, fault: Fault | None = None) -> str:
    """Run the tests of a package in a copy of the tree, in a separate process; return what fails, "" if nothing."""
    first = _FirstFailure()
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(SECONDS)
    with TemporaryDirectory() as folder, Path(os.devnull).open("w") as silent:
        tree = Path(shutil.copytree(ROOT, Path(folder, "tree"), ignore=shutil.ignore_patterns(".*", "build", "dist")))
        if fault:
            (tree / fault.file).write_bytes(fault.planted())
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)  # of the programs that tests start
        sys.path.insert(0, str(tree))
        files = [f"cam/{package}", *(f"tests/test_{name}.py" for name in PACKAGES[package][1].split())]
        with redirect_stdout(silent), redirect_stderr(silent):
            status = pytest.main(["-x", "-q", "--tb=no", f"--basetemp={folder}/results", *files], plugins=[first])
        os.chdir(ROOT)
    return "" if status == 0 else first.name or str(status)


def plant(packages: Sequence[str], seed: int) -> int:
    """Plant the sample; return 1 if over 5 % of it is not noticed."""
    faults = [fault for package in packages for fault in sample(package, PACKAGES[package][0], seed)]
    reasons = {fault: why for fault in faults for line, why in _EQUIVALENT.items() if fault.after.startswith(line)}
    faults = [fault for fault in faults if fault not in reasons]
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cv2", "torch", "torchvision"])  # imported once
    missed = []
    with ProcessPoolExecutor(PROCESSES, context, max_tasks_per_child=1) as pool:
        sound = [pool.submit(run_tests, package) for package in packages]
        runs = {pool.submit(run_tests, fault.package, fault): fault for fault in faults}
        if failures := [failure for run in sound if (failure := run.result())]:
            pool.shutdown(cancel_futures=True)
            sys.exit(f"Tests fail without any fault: {', '.join(failures)}")
        for run in as_completed(runs):
            fault, failure = runs[run], run.result()
            print(f"{'noticed' if failure else 'MISSED '} {fault}  {failure[:90]}", flush=True)
            missed += [] if failure else [fault]
    share = 1 - len(missed) / len(faults)
    print(
        f"\n{len(faults) - len(missed)} of {len(faults)} noticed ({100 * share:.0f} %); not noticed:", *missed, sep="\n"
    )
    for fault, why in reasons.items():
        print(f"Left out, because {why}: {fault}")
    return int(share < 0.95)


if __name__ == "__main__":
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="*", choices=list(PACKAGES), default=[], help="all by default")
    parser.add_argument("--seed", type=int, default=0, help="another sample")
    options = parser.parse_args()
    sys.exit(plant(options.packages or list(PACKAGES), options.seed))
