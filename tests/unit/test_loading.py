"""Modules are found, imported under names of their own, checked; a broken one stops nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from vcl_provision.drivers.conformance.subject import subject
from vcl_provision.drivers.loading import Listed, Modules
from vcl_provision.model.faults import BrokenModule, Refused, SettingsError

SMALL = '''
"""A small one.

More about it.
"""
from dataclasses import dataclass
from vcl_provision.drivers import Inventory, Provisioner, Seconds

@dataclass(frozen=True, kw_only=True)
class Options:
    binary: str = "qemu"
    patience: Seconds = 5.0

class Small(Provisioner[Options], Inventory):
    Options = Options
    def node_status(self, computer, revision): ...
    def does_image_exist(self, revision, host): ...
    def retrieve_image(self, revision, host): ...
    def load(self, computer, revision, firstboot): ...
    def capture(self, computer, revision): ...
    def control_VM(self, computer, action): ...
    def get_image_size(self, revision, host): ...
    def inventory(self, host): ...

MODULE = Small
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "provisioning").mkdir()
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def listed(site: Path, name: str) -> Listed:
    return next(each for each in Modules([site]).listing() if each.name == name and each.kind == "provisioning")


def broken(site: Path, text: str) -> str:
    write(site / "provisioning" / "bad.py", text)
    found = listed(site, "bad")
    assert found.state == "broken"
    return found.error


def test_a_file_in_a_sites_folder_is_a_module_of_its_name(site: Path) -> None:
    write(site / "provisioning" / "small.py", SMALL)
    modules = Modules([site])
    assert "small" in modules.names("provisioning")
    assert modules.provisioner("small").__name__ == "Small"
    found = listed(site, "small")
    assert (found.state, found.summary, found.capabilities) == ("ok", "A small one.", ["Inventory"])
    assert found.path == str(site / "provisioning" / "small.py")


def test_the_files_of_a_modules_folder_import_one_another(site: Path) -> None:
    write(site / "provisioning" / "folded" / "__init__.py", "from .inner import Small\nMODULE = Small\n")
    write(site / "provisioning" / "folded" / "inner.py", SMALL)
    module = Modules([site]).provisioner("folded")
    assert module.__module__ == "vcl_modules.provisioning.folded.inner"
    assert listed(site, "folded").path == str(site / "provisioning" / "folded")


def test_a_module_that_nobody_uses_is_not_imported(site: Path, tmp_path: Path) -> None:
    write(site / "provisioning" / "loud.py", f"open({str(tmp_path / 'imported')!r}, 'w').close()\n" + SMALL)
    modules = Modules([site])
    modules.names("provisioning")
    modules.check_options()
    assert not (tmp_path / "imported").exists()
    modules.listing()
    assert (tmp_path / "imported").exists()


def test_an_edited_file_is_imported_anew_and_an_unchanged_one_is_not(site: Path) -> None:
    write(site / "provisioning" / "small.py", SMALL)
    first = Modules([site]).provisioner("small")
    assert Modules([site]).provisioner("small") is first
    write(site / "provisioning" / "small.py", SMALL + "\n# edited\n")
    assert Modules([site]).provisioner("small") is not first


def test_a_file_that_does_not_import_is_listed_with_its_error_and_line_and_stops_nothing(site: Path) -> None:
    write(site / "provisioning" / "small.py", SMALL)
    error = broken(site, "x = 1\nimport no_such_library\n")
    assert "does not import: ModuleNotFoundError: No module named 'no_such_library' (line 2 of bad.py)" in error
    assert listed(site, "small").state == "ok"
    with pytest.raises(BrokenModule, match="no_such_library") as refused:
        Modules([site]).provisioner("bad")
    assert "vcl module check" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("x = 1\n", "names no MODULE"),
        ("API = 2\n" + SMALL, "is written for API 2, this is API 1"),
        ("MODULE = 3\n", "MODULE is no subclass of Provisioner"),
        (SMALL.replace("def load(", "def lode("), "Small does not write load"),
        (SMALL.replace("def inventory(", "def inventry("), "Small does not write Inventory.inventory"),
        (SMALL.replace("@dataclass(frozen=True, kw_only=True)", "@dataclass"), "Options can be changed"),
        (SMALL.replace("@dataclass(frozen=True, kw_only=True)", ""), "Options is no dataclass"),
        (SMALL.replace('binary: str = "qemu"', "binary: str"), "Options has no default for binary"),
    ],
)
def test_what_breaks_the_contracts_form_is_named(site: Path, text: str, said: str) -> None:
    assert said in broken(site, text)


def test_a_file_whose_name_is_no_name_is_listed_as_broken(site: Path) -> None:
    write(site / "provisioning" / "my-own.py", SMALL)
    assert "is no name for a module" in listed(site, "my-own").error


def test_a_module_that_sets_up_no_hypervisor_says_so(site: Path) -> None:
    write(site / "provisioning" / "small.py", SMALL)
    with pytest.raises(Refused, match="sets up no hypervisor of its own"):
        Modules([site]).local_host("small")


def test_an_unknown_module_is_refused_with_the_nearest_known_one(site: Path) -> None:
    write(site / "provisioning" / "small.py", SMALL)
    with pytest.raises(BrokenModule, match="did you mean 'small'"):
        Modules([site]).provisioner("smal")


def install(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, *, name: str, value: str) -> None:
    """Puts a package with an entry point where pip would."""
    write(folder / "lab_package.py", text)
    facts = folder / "lab_package-1.0.dist-info"
    write(facts / "METADATA", "Metadata-Version: 2.1\nName: lab_package\nVersion: 1.0\n")
    write(facts / "entry_points.txt", f"[vcl_provision.provisioning]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(folder)  # pyright: ignore[reportUnknownMemberType] - pytest leaves its argument untyped
    monkeypatch.delitem(sys.modules, "lab_package", raising=False)


@pytest.mark.parametrize("value", ["lab_package", "lab_package:Small"])
def test_an_installed_package_brings_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    install(tmp_path / "packages", SMALL, monkeypatch, name="installed", value=value)
    assert Modules().provisioner("installed").__name__ == "Small"


def test_a_sites_folder_wins_over_an_installed_one_and_it_is_said(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "packages", SMALL, monkeypatch, name="small", value="lab_package")
    write(site / "provisioning" / "small.py", SMALL)
    found = listed(site, "small")
    assert found.path == str(site / "provisioning" / "small.py")
    assert found.note == "instead of entry point lab_package"


def test_options_come_from_the_modules_table(site: Path) -> None:
    write(site / "provisioning" / "small.py", SMALL)
    options = Modules([site], {"small": {"patience": "2 min"}}).options("provisioning", "small")
    assert (options.binary, options.patience) == ("qemu", 120.0)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"smal": {}}, r"vcld.toml: \[modules.smal\]: there is no such module; did you mean 'small'"),
        ({"small": {"binry": "x"}}, r"vcld.toml: \[modules.small\] has no setting 'binry'; did you mean 'binary'"),
        ({"small": {"patience": "2 mins"}}, "'mins' is no unit of time"),
        ({"small": 3}, "must be a table"),
    ],
)
def test_wrong_options_are_refused_at_the_start(site: Path, tables: dict[str, object], said: str) -> None:
    write(site / "provisioning" / "small.py", SMALL)
    with pytest.raises(SettingsError, match=said):
        Modules([site], tables).check_options()


def test_options_of_a_broken_module_are_passed_over_at_the_start(site: Path) -> None:
    write(site / "provisioning" / "bad.py", "import no_such_library\n")
    Modules([site], {"bad": {"colour": "red"}}).check_options()


def test_modules_of_two_kinds_with_one_name_share_the_table(site: Path) -> None:
    write(site / "provisioning" / "small.py", SMALL)
    write(site / "os" / "small.py", GUEST)
    modules = Modules([site], {"small": {"binary": "x", "shell": "zsh"}})
    assert modules.options("provisioning", "small").binary == "x"
    assert modules.options("os", "small").shell == "zsh"
    with pytest.raises(SettingsError, match="shel"):
        Modules([site], {"small": {"shel": "zsh"}}).check_options()


GUEST = """
from dataclasses import dataclass
from vcl_provision.drivers import Guest

@dataclass(frozen=True, kw_only=True)
class Options:
    shell: str = "bash"

class Small(Guest[Options]):
    Options = Options
    def _do(self, *_): ...
    wait_ready = post_load = reserve = add_user = grant_access = revoke_access = _do
    is_connected = notify_user = sanitize = delete_user = pre_capture = reboot = shutdown = _do

MODULE = Small
"""


def test_a_folder_that_is_no_module_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BrokenModule, match=f"{tmp_path} is no module: there is no __init__.py") as caught:
        subject(Path())
    assert "a folder with __init__.py" in caught.value.hint
