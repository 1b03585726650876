"""What can be seen without running anything: the file's form, its imports, how it waits."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vcl_provision.drivers import capabilities
from vcl_provision.drivers.conformance.item import Item, insist
from vcl_provision.drivers.conformance.subject import Subject, parsed
from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.provisioner import Provisioner
from vcl_provision.model.options import read_table

CONTRACT = "vcl_provision.drivers"


def it_says_what_it_is(subject: Subject) -> None:
    """The file's docstring begins with one line that says what the module drives; `vcl module list` shows it."""
    insist(ast.get_docstring(parsed(subject.file)), "the file has no docstring", 'begin it with """One line."""')


def it_imports_the_contract_and_its_own_client_only(subject: Subject) -> None:
    """Of this project it imports vcl_provision.drivers alone, so that it keeps working while all else changes."""
    for file, line, name in _imports(subject.files):
        insist(
            name.partition(".")[0] != "vcl_provision" or name == CONTRACT,
            f"{file.name} line {line} imports {name}",
            f"import what you need from {CONTRACT}; if it is not there, ask for it to be added",
        )


def its_methods_take_what_the_contract_gives(subject: Subject) -> None:
    """Each method of the contract has the parameters of the contract, by the same names."""
    base: type = Guest if issubclass(subject.module, Guest) else Provisioner
    for contract in (base, *capabilities.declared(subject.module)):
        for name in capabilities.methods(contract):
            _compare(subject.module, contract, name)


def its_options_can_all_be_left_out(subject: Subject) -> None:
    """An empty table [modules.<name>] is enough: each option has a default."""
    options: type[object] = subject.module.Options
    read_table(options, {}, where=f"[modules.{subject.name}]")


def each_undo_that_it_records_is_written(subject: Subject) -> None:
    """For each task.record("x", ...) there is a method undo_x, which is called after a crash, maybe by another node."""
    for file in subject.files:
        for call in _calls(parsed(file)):
            if not (isinstance(call.func, ast.Attribute) and call.func.attr == "record" and call.args):
                continue
            action = call.args[0]
            insist(
                isinstance(action, ast.Constant) and isinstance(action.value, str),
                f"{file.name} line {call.lineno} records an action whose name is not written there",
                'write it out: task.record("remove", ...)',
            )
            name = f"undo_{action.value}" if isinstance(action, ast.Constant) else ""
            insist(
                callable(getattr(subject.module, name, None)),
                f"{file.name} line {call.lineno} records {name.removeprefix('undo_')!r}, and there is no method {name}",
                f"write def {name}(self, ...) with the recorded arguments as its parameters",
            )


def it_waits_and_runs_through_its_task(subject: Subject) -> None:
    """No sleep, no shell, no program of its own: what goes through the task ends when it is cancelled."""
    for file in subject.files:
        if '__name__ == "__main__"' in file.read_text():
            continue  # a program of its own, which no worker waits for
        for call in _calls(parsed(file)):
            name = ast.unparse(call.func)
            insist(
                name not in _BY_THE_TASK,
                f"{file.name} line {call.lineno} calls {name}",
                _BY_THE_TASK.get(name, ""),
            )
            shell = [word for word in call.keywords if word.arg == "shell"]
            insist(
                not shell or ast.unparse(shell[0].value) == "False",
                f"{file.name} line {call.lineno} runs a shell",
                "give task.run an argument list; a shell reads what a user typed as a command",
            )


def what_it_can_do_is_inherited(subject: Subject) -> None:
    """A capability is a type that the module inherits; a method that only happens to have its name is never called."""
    for capability in capabilities.ALL:
        written = [name for name in capabilities.methods(capability) if hasattr(subject.module, name)]
        insist(
            not written or len(written) < len(capabilities.methods(capability)) or capability in subject.module.__mro__,
            f"it has {', '.join(written)} and does not inherit {capability.__name__}",
            f"write class {subject.module.__name__}(..., {capability.__name__})",
        )


STATIC: Sequence[Item[Subject]] = (
    it_says_what_it_is,
    it_imports_the_contract_and_its_own_client_only,
    its_methods_take_what_the_contract_gives,
    its_options_can_all_be_left_out,
    each_undo_that_it_records_is_written,
    it_waits_and_runs_through_its_task,
    what_it_can_do_is_inherited,
)

_BY_THE_TASK = {
    "time.sleep": "wait with self.task.wait_until(...) or self.task.patience.sleep(...), which can be cancelled",
    "sleep": "wait with self.task.wait_until(...) or self.task.patience.sleep(...), which can be cancelled",
    "os.system": "run it with self.task.run([...])",
    "os.popen": "run it with self.task.run([...])",
    "print": "tell people with self.task.say(Step..., info)",
}


def _compare(module: type, contract: type, name: str) -> None:
    wanted, given = getattr(contract, name), getattr(module, name)
    if not callable(wanted):
        return
    ours, theirs = inspect.signature(wanted).parameters, inspect.signature(given).parameters
    more = [each for each in theirs.values() if each.name not in ours and each.default is each.empty]
    insist(
        list(ours) == list(theirs)[: len(ours)] and not more,
        f"{name} takes ({', '.join(theirs)}), the contract gives ({', '.join(ours)})",
        f"write def {name}{inspect.signature(wanted)}",
    )


def _imports(files: Sequence[Path]) -> Iterator[tuple[Path, int, str]]:
    for file in files:
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Import):
                yield from ((file, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield file, node.lineno, node.module or ""


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def third_party(files: Sequence[Path]) -> list[str]:
    """Packages that the module needs beside this project and the standard library."""
    roots = {name.partition(".")[0] for _, _, name in _imports(files)}
    return sorted(roots - set(sys.stdlib_module_names) - {"vcl_provision", ""})
