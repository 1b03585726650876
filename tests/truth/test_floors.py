"""The architecture as DESIGN says it: which room may know which, and how large things may grow."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
OURS = [TOP / "vcl_provision", TOP / "modules"]
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "functions", "stuff", "tools", "data"}
CLIENTS = {"libvirt"}
"""Hypervisors' own clients, which their modules may import."""


def files(*roots: Path) -> list[Path]:
    return sorted(path for root in roots for path in root.rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines, the docstring left out."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def typed(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    args = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    if args and args[0].arg in {"self", "cls"}:
        args = args[1:]
    return function.returns is not None and all(arg.annotation is not None for arg in args)


def test_imports_go_down_only() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([lint, "--no-cache"], cwd=TOP, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("path", files(TOP / "modules"), ids=lambda path: str(path.relative_to(TOP)))
def test_a_module_imports_the_contract_the_standard_library_and_its_own_client(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | CLIENTS
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            assert name == "vcl_provision.drivers" or name.split(".")[0] in allowed, f"{path}: {name}"


def test_no_room_of_ours_names_a_hypervisor() -> None:
    """But images: what hypervisors read and hand to their guests is known by their names."""
    known = ("libvirt", "vmware", "virtualbox", "vsphere", "qemu:///")
    for path in files(TOP / "vcl_provision"):
        if (TOP / "vcl_provision/images") in path.parents:
            continue
        text = path.read_text().lower()
        assert not [name for name in known if name in text], path


def test_no_file_and_no_function_has_outgrown_its_reader() -> None:
    lengths: list[int] = []
    for path in files(*OURS):
        assert path.read_text().count("\n") <= 300, path
        assert path.stem not in EMPTY_NAMES, path
        for function in functions(path):
            assert length(function) <= 60, f"{path}:{function.lineno} {function.name}"
            assert typed(function), f"{path}:{function.lineno} {function.name} is not typed"
            lengths.append(length(function))
    assert statistics.median(lengths) <= 8
    assert sorted(lengths)[int(0.9 * (len(lengths) - 1))] <= 25


def test_every_ignore_has_its_reason() -> None:
    for path in files(*OURS, TOP / "tests", TOP / "benchmarks"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code, found, after = line.partition("# noqa")
            if not found or '"' in after or "'" in code[-2:]:
                continue
            assert " - " in after, f"{path}:{number}: say why"


def test_what_the_public_contract_has_is_explained() -> None:
    for path in files(TOP / "vcl_provision" / "drivers"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node) or _is_plain_protocol(node), f"{path}:{node.lineno} {node.name}"


def _is_plain_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
