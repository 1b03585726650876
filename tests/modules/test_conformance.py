"""The kit: a module that keeps the contract passes, and each way of breaking it is caught by the item about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from vcl_provision.drivers.conformance import Report, Verdict, check_file
from vcl_provision.model.faults import SettingsError

PAPER = Path(__file__).with_name("paper.py")
SIM_GUEST = Path(__file__).parents[2] / "modules" / "os" / "sim.py"

CONF = """
call = 5
boot = 10
[host]
address = "{folder}/host"
repository_path = "{folder}/repository"
[image]
name = "letter-v1"
capture_as = "letter-v2"
[[computer]]
name = "paper1"
private_address = "10.213.0.2"
[[computer]]
name = "paper2"
private_address = "10.213.0.3"
[options]
pause = {pause}
"""


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """A module with `old` replaced by `new`, what the kit's failed item is then called and what it says."""

    item: str
    said: str
    old: str
    new: str
    pause: float = 0.0


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return describe(tmp_path, pause=0.0)


def describe(folder: Path, *, pause: float) -> Path:
    """A place for machines of paper, described for the kit."""
    (folder / "host").mkdir()
    (folder / "repository").mkdir()
    (folder / "repository" / "letter-v1").write_text("a whole image.")
    conf = folder / "against.toml"
    conf.write_text(CONF.format(folder=folder, pause=pause))
    return conf


def broken(original: Path, breakage: Breakage, folder: Path) -> Path:
    text = original.read_text()
    assert breakage.old in text, "the breakage does not fit the module any more"
    file = folder / original.name
    file.write_text(text.replace(breakage.old, breakage.new, 1))
    return file


def only_failure(report: Report, item: str) -> str:
    """What the one failed item says; it must be this one."""
    assert [failed.name for failed in report.failed] == [item], str(report)
    return report.failed[0].why


def test_a_module_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    report = check_file(PAPER, describe(tmp_path, pause=0.002))
    assert report.ok, str(report)
    assert {each.name for each in report.not_applicable} == {
        "it knows the addresses",
        "it takes snapshots",
        "nothing is loaded where a disk is full",
    }
    assert len(report.passed) > 30


STATIC = [
    Breakage(
        item="its file can be used",
        said="does not import: ModuleNotFoundError: No module named 'no_such_client' (line 5 of paper.py)",
        old="import json\n",
        new="import no_such_client\n",
    ),
    Breakage(item="its file can be used", said="names no MODULE", old="MODULE = Paper\n", new=""),
    Breakage(
        item="its file can be used",
        said="Paper does not write capture",
        old="def capture(",
        new="def catch(",
    ),
    Breakage(
        item="its file can be used",
        said="Options can be changed",
        old="@dataclass(frozen=True, kw_only=True)",
        new="@dataclass",
    ),
    Breakage(
        item="its file can be used",
        said="Options has no default for pause",
        old="pause: float = 0.0",
        new="pause: float",
    ),
    Breakage(
        item="it says what it is",
        said="no docstring",
        old=PAPER.read_text().partition("\n")[0],
        new="",
    ),
    Breakage(
        item="it imports the contract and its own client only",
        said="paper.py line 5 imports vcl_provision.model.lab",
        old="import json\n",
        new="import vcl_provision.model.lab\nimport json\n",
    ),
    Breakage(
        item="its methods take what the contract gives",
        said="get_image_size takes (self, revision), the contract gives (self, revision, host)",
        old="def get_image_size(self, revision: Revision, host: VmHost | None) -> int:",
        new="def get_image_size(self, revision: Revision) -> int:",
    ),
    Breakage(
        item="each undo that it records is written",
        said="records 'forget_part', and there is no method undo_forget_part",
        old="def undo_forget_part(",
        new="def undo_part(",
    ),
    Breakage(
        item="it waits and runs through its task",
        said="calls time.sleep",
        old="self.task.patience.sleep(self.options.pause)",
        new="time.sleep(self.options.pause)",
    ),
    Breakage(
        item="it waits and runs through its task",
        said="runs a shell",
        old="beside.write_text(json.dumps(facts))",
        new='subprocess.run(f"echo {facts} > {beside}", shell=True)',
    ),
    Breakage(
        item="what it can do is inherited",
        said="it has metrics and does not inherit Metrics",
        old="GuestExec, Inventory, Metrics)",
        new="GuestExec, Inventory)",
    ),
]


@pytest.mark.parametrize("breakage", STATIC, ids=lambda breakage: breakage.said[:40])
def test_what_can_be_seen_without_running_it_is_caught(breakage: Breakage, tmp_path: Path) -> None:
    report = check_file(broken(PAPER, breakage, tmp_path))
    assert breakage.said in only_failure(report, breakage.item)


LIVE = [
    Breakage(
        item="what is not there is no error",
        said="control_VM(off) of a missing machine raised",
        old="        elif machine:\n",
        new="        elif not machine:\n            raise Refused('there is none')\n        else:\n",
    ),
    Breakage(
        item="an image that is nowhere is refused",
        said="does_image_exist is true for what is nowhere",
        old="return self._image(revision, host).exists()",
        new="return True",
    ),
    Breakage(
        item="an image that is nowhere is refused",
        said="FileNotFoundError",
        old="if is_there and not file.exists():",
        new="if False:",
    ),
    Breakage(
        item="a killed fetch leaves no image that is believed",
        said="killed in the middle, it left an image that is said to exist and does not load",
        old='.with_suffix(".part")\n',
        new="\n            if target.exists():\n                return\n",
        pause=0.03,
    ),
    Breakage(
        item="an image is fetched once for all who ask",
        said="of four at once",
        old='with self.task.locks.hold(f"image {revision.name}", patience=self.task.patience):',
        new="if True:",
        pause=0.005,
    ),
    Breakage(
        item="an image is fetched once for all who ask",
        said="get_image_size says 0",
        old="return self._stored(revision, host).stat().st_size",
        new="return self._stored(revision, host).stat().st_size * 0",
    ),
    Breakage(
        item="a load that cannot be done leaves nothing",
        said="KeyError",
        old='raise Transient(f"image {revision.name} is not on the host")',
        new="raise KeyError(revision.name)",
    ),
    Breakage(
        item="a load ends with a machine that lets us in",
        said="was there before its undo was recorded",
        old='        self.task.record("remove"',
        new='        self._write(computer, ".disk", {"owner": self.task.owner})\n        self.task.record("remove"',
    ),
    Breakage(
        item="a load ends with a machine that lets us in",
        said="nobody was told that the guest boots",
        old="self.task.say(Step.BOOTING)",
        new="",
    ),
    Breakage(
        item="it knows what a machine holds",
        said="READY though no post-load was done",
        old="return NodeStatus.READY if computer.prepared else NodeStatus.POST_LOAD",
        new="return NodeStatus.READY",
    ),
    Breakage(
        item="it knows what a machine holds",
        said="POST_LOAD though another host key",
        old='or machine["host_key"] != computer.host_key:',
        new=":",
    ),
    Breakage(
        item="it knows what a machine holds",
        said="though a user may have been in",
        old=" or computer.tainted",
        new="",
    ),
    Breakage(
        item="it lists what is there",
        said="its owner tag is {''}",
        old='owner=self._read(file).get("owner", "")',
        new='owner=""',
    ),
    Breakage(
        item="it measures",
        said="memory is 0",
        old="memory_bytes=computer.ram_mb << 20",
        new="memory_bytes=0",
    ),
    Breakage(
        item="it runs commands inside",
        said="a command that is not there gave None",
        old='status=0 if argv[0] == "true" else 127',
        new="status=0",
    ),
    Breakage(
        item="a capture becomes an image and harms nothing",
        said="before it there was",
        old='        Path(f"{target}.part").write_text(machine["image"])',
        new="        self.control_VM(computer, Power.REMOVE)\n"
        '        Path(f"{target}.part").write_text(machine["image"])',
    ),
    Breakage(
        item="power is changed once however often it is asked for",
        said="control_VM(suspend) raised",
        old="        elif machine:\n",
        new="        elif machine and action == Power.SUSPEND and machine['power'] == 'suspended':\n"
        "            raise Refused('it is suspended')\n        elif machine:\n",
    ),
    Breakage(
        item="removing leaves nothing and may be repeated",
        said="after control_VM(remove) there is still paper1.disk",
        old='for file in (folder / f"{name}.machine", folder / f"{name}.disk"):',
        new='for file in (folder / f"{name}.machine",):',
    ),
    Breakage(
        item="an undo may be played twice",
        said="FileNotFoundError",
        old="        self._clear(Path(folder), name)",
        new='        (Path(folder) / f"{name}.machine").stat()\n        self._clear(Path(folder), name)',
    ),
    Breakage(
        item="a new load begins with an empty slot",
        said="FileExistsError",
        old="        self.control_VM(computer, Power.REMOVE)\n",
        new='        if self._machine(computer):\n            raise FileExistsError("the slot is full")\n',
    ),
    Breakage(
        item="two loads at once do not disturb each other",
        said="another load is under way",
        old="        self.task.say(Step.TRANSFERVM)\n",
        new='        if getattr(Paper, "busy", False):\n            raise Refused("another load is under way")\n'
        "        Paper.busy = True\n        self._pause()\n        Paper.busy = False\n",
        pause=0.05,
    ),
    Breakage(
        item="two loads of one slot leave one machine",
        said="another load",
        old="        self.task.say(Step.TRANSFERVM)\n",
        new='        if getattr(Paper, "busy", False):\n            raise OSError("another load is under way")\n'
        "        Paper.busy = True\n        self._pause()\n        Paper.busy = False\n",
        pause=0.05,
    ),
    Breakage(
        item="a killed load is undone or done again",
        said="after a load killed at step",
        old='        self.task.record("remove", folder=str(self._folder(computer.host)), name=computer.name)\n'
        "        self.task.say(Step.TRANSFERVM)",
        new="        self.task.say(Step.TRANSFERVM)\n"
        '        self._write(computer, ".disk", {"owner": self.task.owner})\n'
        '        self.task.record("remove", folder=str(self._folder(computer.host)), name=computer.name)',
    ),
    Breakage(
        item="a load killed at any moment is undone",
        said="after a load killed after",
        old='self.task.record("remove", folder=str(self._folder(computer.host)), name=computer.name)',
        new="",
        pause=0.05,
    ),
    Breakage(
        item="a killed removal is done again",
        said="a removal, killed and asked for again",
        old="            self._clear(self._folder(computer.host), computer.name)",
        new="            if machine:\n                self._clear(self._folder(computer.host), computer.name)",
        pause=0.05,
    ),
    Breakage(
        item="a cancelled load stops and is undone",
        said="it raised None",
        old="        self.task.reach(computer, alive=lambda: self._is_on(computer, firstboot))",
        new="        try:\n            self.task.reach(computer, alive=lambda: self._is_on(computer, firstboot))\n"
        "        except Exception:\n            return",
    ),
    Breakage(
        item="a load ends with its patience",
        said="the load went on for",
        old="        self.task.reach(computer, alive=lambda: self._is_on(computer, firstboot))",
        new="        while True:\n            try:\n"
        "                self.task.guests.channel(computer, patience=self.task.patience)\n                return\n"
        "            except Transient:\n                __import__('threading').Event().wait(0.05)",
    ),
    Breakage(
        item="a cancelled load stops and is undone",
        said="the load never asked for the guest",
        old="        self.task.reach(computer, alive=lambda: self._is_on(computer, firstboot))",
        new="",
    ),
    Breakage(
        item="a machine that dies while it boots ends the load",
        said="it raised TimedOut",
        old="alive=lambda: self._is_on(computer, firstboot)",
        new="alive=lambda: True",
    ),
    Breakage(
        item="what belongs to another lab is not touched",
        said="control_VM(off) changed it",
        old="            if owner != self.task.owner:",
        new="            if False:",
    ),
    Breakage(
        item="what belongs to another lab is not touched",
        said="control_VM(remove) removed it",
        old="        machine = self._own(computer)\n        if action is Power.REMOVE:",
        new="        machine = self._machine(computer)\n        if action is Power.REMOVE:\n"
        "            for f in self._folder(computer.host).glob(f'{computer.name}.*'):\n                f.unlink()\n"
        "        elif machine and machine['owner'] != self.task.owner:\n            return\n"
        "        if action is Power.REMOVE:",
    ),
    Breakage(
        item="what belongs to another lab is not touched",
        said="a machine of another lab is not listed",
        old="for file in lying]",
        new='for file in lying if self._read(file).get("owner") == self.task.owner]',
    ),
    Breakage(
        item="nothing is left behind",
        said="there is still",
        old="        self.task.say(Step.VMSETUPCONFIG)\n",
        new='        self._folder(computer.host).joinpath("scratch.disk").write_text(\n'
        '            json.dumps({"owner": self.task.owner}))\n',
    ),
]


@pytest.mark.parametrize("breakage", LIVE, ids=lambda breakage: f"{breakage.item}: {breakage.said[:24]}")
def test_what_breaks_on_a_machine_is_caught_by_the_item_that_is_about_it(breakage: Breakage, tmp_path: Path) -> None:
    conf = describe(tmp_path, pause=breakage.pause)
    if breakage.said.startswith(("the load", "it raised", "killed in")):
        conf.write_text(conf.read_text().replace("call = 5", "call = 2").replace("boot = 10", "boot = 2"))
    only = ["a load ends with a machine", breakage.item] if breakage.item.startswith("nothing") else [breakage.item]
    report = check_file(broken(PAPER, breakage, tmp_path), conf, only=only)
    assert breakage.said in only_failure(report, breakage.item)


GUESTS = [
    Breakage(
        item="an account is made once however often it is asked for",
        said="add_user recorded no undo",
        old='self.task.record("delete_user", scope="reservation", user=user.name)',
        new="pass",
    ),
    Breakage(
        item="names and keys that are none are refused",
        said="the name '' gave None",
        old="if not _NAME.match(user.name):",
        new="if False:",
    ),
    Breakage(
        item="names and keys that are none are refused",
        said="the key '' gave None",
        old="if not _KEY.match(key):",
        new="if False:",
    ),
    Breakage(
        item="access is opened moved and closed",
        said="Refused",
        old='        self._run(computer, "close")',
        new='        if not self.task.kept.get("closed", list, list.clear).append(1) and '
        'len(self.task.kept.get("closed", list, list.clear)) > 1:\n            raise Refused("it is closed")',
    ),
    Breakage(
        item="nobody is connected who did not connect",
        said="a user is connected from 192.0.2.7",
        old='return bool(self._ask(computer, "is_connected", user=user.name, address=str(address))["connected"])',
        new="return True",
    ),
    Breakage(
        item="a message is shown as it is",
        said="UnicodeEncodeError",
        old='self._run(computer, "notify", user=user.name, message=message)',
        new='self._run(computer, "notify", user=user.name, message=message.encode("ascii").decode())',
    ),
    Breakage(
        item="an account is removed once however often it is asked for",
        said="delete_user of",
        old='        self._run(computer, "delete_user", user=user_name)',
        new='        if user_name not in self._ask(computer, "users")["users"]:\n'
        '            raise Refused("no such user")\n'
        '        self._run(computer, "delete_user", user=user_name)',
    ),
    Breakage(
        item="adding a user killed at any step can be done again",
        said="it was begun",
        old='        self._run(computer, "add_user"',
        new='        if "half" in self._ask(computer, "users")["users"]:\n            raise Refused("it was begun")\n'
        '        self._run(computer, "add_user", user="half")\n        self._run(computer, "add_user"',
    ),
    Breakage(
        item="a machine is made clean for the next user",
        said="Refused",
        old='        self._run(computer, "clean")',
        new='        if not self._ask(computer, "users")["users"]:\n            raise Refused("nobody is there")\n'
        '        self._run(computer, "clean")',
    ),
    Breakage(
        item="an unreachable guest is asked again later",
        said="it gave None",
        old="        self.channel(computer).run([verb], patience=self.task.patience, stdin=json.dumps(said).encode())",
        new="        try:\n            self.channel(computer).run([verb], patience=self.task.patience, "
        "stdin=json.dumps(said).encode())\n        except Transient:\n            return",
    ),
    Breakage(
        item="a command that fails is told",
        said="it gave None",
        old="patience=self.task.patience, stdin=json.dumps(said).encode())\n\n\nMODULE",
        new="patience=self.task.patience, stdin=json.dumps(said).encode(), accept=range(256))\n\n\nMODULE",
    ),
    Breakage(
        item="a shutdown ends the machine",
        said="waited",
        old='self._run(computer, "poweroff")',
        new="pass",
    ),
]


@pytest.mark.parametrize("breakage", GUESTS, ids=lambda breakage: f"{breakage.item}: {breakage.said[:24]}")
def test_what_an_os_module_does_wrong_is_caught(breakage: Breakage, tmp_path: Path) -> None:
    conf = tmp_path / "against.toml"
    conf.write_text(SIM_CONF.format(folder=tmp_path))
    report = check_file(broken(SIM_GUEST, breakage, tmp_path), conf, only=[breakage.item])
    assert breakage.said in only_failure(report, breakage.item)


SIM_CONF = """
call = 3
boot = 3
provisioner = "sim"
[host]
address = "{folder}/sim.db"
[image]
name = "debian12-v1"
os_module = "sim"
[[computer]]
name = "sim1"
private_address = "10.213.0.2"
"""


def test_a_call_that_never_returns_costs_one_item_and_the_rest_is_not_tried(tmp_path: Path) -> None:
    conf = describe(tmp_path, pause=0.0)
    conf.write_text(conf.read_text().replace("call = 5", "call = 0.1").replace("boot = 10", "boot = 0.1"))
    hang = Breakage(
        item="an image that is nowhere is refused",
        said="a call did not return",
        old="return self._image(revision, host).exists()",
        new="__import__('threading').Event().wait()",
    )
    report = check_file(broken(PAPER, hang, tmp_path), conf)
    assert hang.said in only_failure(report, hang.item)
    assert report.not_applicable[0].why == "not tried: an earlier call is still running"


def test_a_module_without_a_machine_is_looked_at_and_told_how_to_give_it_one() -> None:
    report = check_file(PAPER)
    assert report.ok
    assert "give it with --against" in report.not_applicable[0].why


def test_a_report_prints_what_is_wrong_what_was_wanted_and_what_to_fix(tmp_path: Path) -> None:
    report = check_file(broken(PAPER, STATIC[8], tmp_path))
    text = str(report)
    assert "failed          each undo that it records is written" in text
    assert "wanted: For each task.record" in text
    assert "to fix: write def undo_forget_part(self, ...)" in text
    assert text.endswith(report.summary)
    assert {each.verdict for each in report.results} == set(Verdict)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[host\n", "is no TOML"),
        ("[hots]\n", "has no setting 'hots'; did you mean 'host'?"),
        ("[image]\nname = 'x'\n", "needs an [image] with a name and at least one"),
        ("[image]\nname = 'x'\n[[computer]]\nname = 'a'\nprivate_address = '10.0.0'\n", "give an IP address"),
        ("[image]\nname = 'x'\nports = ['22']\n[[computer]]\nname = 'a'\n", "'22' is no port; write it as 'tcp/22'"),
        ("boot = '2 minutes'\n", "'minutes' is no unit of time"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SettingsError) as refused:
        check_file(PAPER, tmp_path / "bad.toml")
    assert said in str(refused.value)


def test_a_description_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none.toml cannot be read: No such file"):
        check_file(PAPER, tmp_path / "none.toml")
