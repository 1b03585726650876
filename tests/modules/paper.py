"""Machines of paper: a file each. The smallest module that keeps the whole contract, to be broken in many ways."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcl_provision.drivers import (
    Channel,
    CommandFailed,
    Computer,
    FirstBoot,
    Found,
    GuestExec,
    Inventory,
    Metrics,
    NodeStatus,
    Patience,
    Power,
    Provisioner,
    Ran,
    Reading,
    Refused,
    Revision,
    Step,
    Transient,
    VmHost,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    pause: float = 0.0


class Paper(Provisioner[Options], GuestExec, Inventory, Metrics):
    """A machine is `<name>.machine` with its facts, its disk `<name>.disk`."""

    Options = Options

    def node_status(self, computer: Computer, revision: Revision) -> NodeStatus:
        machine = self._machine(computer)
        if not machine or machine["owner"] != self.task.owner or machine["power"] != "on" or computer.tainted:
            return NodeStatus.RELOAD
        if machine["revision"] != revision.id or machine["host_key"] != computer.host_key:
            return NodeStatus.RELOAD
        return NodeStatus.READY if computer.prepared else NodeStatus.POST_LOAD

    def does_image_exist(self, revision: Revision, host: VmHost | None) -> bool:
        return self._image(revision, host).exists()

    def retrieve_image(self, revision: Revision, host: VmHost | None) -> None:
        with self.task.locks.hold(f"image {revision.name}", patience=self.task.patience):
            target, beside = self._image(revision, host), self._image(revision, host).with_suffix(".part")
            if target.exists():
                return
            stored = self._stored(revision, host).read_text()
            with beside.open("w") as out:
                for piece in stored:
                    self._pause()
                    out.write(piece)
                    out.flush()
            beside.replace(target)

    def load(self, computer: Computer, revision: Revision, firstboot: FirstBoot) -> None:
        self.control_VM(computer, Power.REMOVE)
        self.task.record("remove", folder=str(self._folder(computer.host)), name=computer.name)
        self.task.say(Step.TRANSFERVM)
        if not self.does_image_exist(revision, computer.host):
            raise Transient(f"image {revision.name} is not on the host")
        self._pause()
        self._write(computer, ".disk", {"owner": self.task.owner})
        self.task.say(Step.VMSETUPCONFIG)
        facts = {"owner": self.task.owner, "power": "on", "revision": revision.id, "host_key": firstboot.host_key}
        self._write(computer, ".machine", {**facts, "image": self._image(revision, computer.host).read_text()})
        self._pause()
        self.task.say(Step.BOOTING)
        self.task.reach(computer, alive=lambda: self._is_on(computer, firstboot))

    def capture(self, computer: Computer, revision: Revision) -> None:
        machine = self._own(computer)
        if not machine:
            raise Refused(f"there is no machine {computer.name}")
        target = self._stored(revision, computer.host, is_there=False)
        self.task.record("forget_part", part=f"{target}.part")
        Path(f"{target}.part").write_text(machine["image"])
        Path(f"{target}.part").replace(target)

    def control_VM(self, computer: Computer, action: Power) -> None:
        machine = self._own(computer)
        if action is Power.REMOVE:
            self._clear(self._folder(computer.host), computer.name)
        elif machine:
            power = {Power.OFF: "off", Power.SUSPEND: "suspended"}.get(action, "on")
            self._write(computer, ".machine", {**machine, "power": power})

    def get_image_size(self, revision: Revision, host: VmHost | None) -> int:
        return self._stored(revision, host).stat().st_size

    def guest_channel(self, computer: Computer) -> Channel:
        machine = self._machine(computer)
        if not machine or machine["power"] != "on" or not machine["image"].endswith("."):
            raise Transient(f"{computer.name} does not answer")
        return Inside()

    def inventory(self, host: VmHost) -> Sequence[Found]:
        lying = sorted([*self._folder(host).glob("*.disk"), *self._folder(host).glob("*.machine")])
        return [Found(name=file.stem, owner=self._read(file).get("owner", ""), what=file.name) for file in lying]

    def metrics(self, computer: Computer) -> Reading:
        return Reading(cpu_seconds=1.0, memory_bytes=computer.ram_mb << 20)

    def undo_remove(self, folder: str, name: str) -> None:
        self._clear(Path(folder), name)

    def undo_forget_part(self, part: str) -> None:
        Path(part).unlink(missing_ok=True)

    def _clear(self, folder: Path, name: str) -> None:
        for file in (folder / f"{name}.machine", folder / f"{name}.disk"):
            if self._read(file).get("owner") == self.task.owner:
                self._pause()
                file.unlink(missing_ok=True)

    def _own(self, computer: Computer) -> dict[str, Any]:
        """Our machine; none if the slot is empty. Raises Refused if it is another's."""
        for suffix in (".machine", ".disk"):
            owner = self._read(self._folder(computer.host) / f"{computer.name}{suffix}").get("owner", self.task.owner)
            if owner != self.task.owner:
                raise Refused(f"slot {computer.name} is {owner}'s")
        return self._machine(computer)

    def _machine(self, computer: Computer) -> dict[str, Any]:
        return self._read(self._folder(computer.host) / f"{computer.name}.machine")

    def _is_on(self, computer: Computer, firstboot: FirstBoot) -> bool:
        machine = self._machine(computer)
        return machine.get("power") == "on" and machine["host_key"] == firstboot.host_key

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            return json.loads(file.read_text())
        except FileNotFoundError:
            return {}

    def _write(self, computer: Computer, suffix: str, facts: dict[str, Any]) -> None:
        target = self._folder(computer.host) / f"{computer.name}{suffix}"
        beside = target.with_name(f".{target.name}.{id(facts)}")
        beside.write_text(json.dumps(facts))
        shutil.move(beside, target)

    def _image(self, revision: Revision, host: VmHost | None) -> Path:
        return self._folder(host) / f"{revision.name}.image"

    def _stored(self, revision: Revision, host: VmHost | None, *, is_there: bool = True) -> Path:
        file = Path(host.profile.repository_path if host else "") / revision.name
        if is_there and not file.exists():
            raise Refused(f"there is no image {revision.name}")
        return file

    def _folder(self, host: VmHost | None) -> Path:
        return Path(host.address if host else "")

    def _pause(self) -> None:
        self.task.patience.sleep(self.options.pause)


class Inside:
    """The guest: it can say true."""

    def run(
        self,
        argv: Sequence[str],
        *,
        patience: Patience,
        stdin: bytes = b"",
        name: str = "",
        changes: bool = True,
        accept: Sequence[int] = (0,),
    ) -> Ran:
        ran = Ran(argv=argv, status=0 if argv[0] == "true" else 127)
        if ran.status not in accept:
            raise CommandFailed(f"{name or argv[0]}: command not found", ran=ran)
        return ran

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        """There is nowhere to put it."""

    def close(self) -> None:
        """Nothing is open."""


MODULE = Paper
