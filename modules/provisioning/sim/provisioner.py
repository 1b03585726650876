"""The simulated hypervisor as a provisioning module."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from vcl_provision.drivers import (
    A_MACHINE,
    Channel,
    CommandFailed,
    Computer,
    Disks,
    FirstBoot,
    Found,
    GuestExec,
    HostDisks,
    Inventory,
    LocalHost,
    LocalLab,
    Metrics,
    NodeStatus,
    Power,
    Provisioner,
    Ran,
    Reading,
    Refused,
    Revision,
    Space,
    Step,
    VmHost,
)

from . import machines
from .calls import enter
from .faults import Kind, Strike, Twist, strike, suffer
from .guest import connect
from .local import clear, lab
from .machines import Slot
from .options import Options
from .world import World

REPOSITORY = ""


class Sim(Provisioner[Options], Disks, GuestExec, Inventory, Metrics, LocalHost):
    """Machines are rows; they take time and go wrong as they are told to."""

    Options = Options

    def node_status(self, computer: Computer, revision: Revision) -> NodeStatus:
        if self._enter("node_status", computer.host, computer.name) is Twist.LIE:
            return NodeStatus.READY
        world = self._world(computer.host)
        machine = machines.machine_in(world, self._slot(computer))
        if machine is None or machine.owner != self.task.owner or not machine.answers(world.clock()):
            return NodeStatus.RELOAD
        if machine.revision_id != revision.id or machine.host_key != computer.host_key or computer.tainted:
            return NodeStatus.RELOAD
        return NodeStatus.READY if computer.prepared and machine.prepared else NodeStatus.POST_LOAD

    def does_image_exist(self, revision: Revision, host: VmHost | None) -> bool:
        if self._enter("does_image_exist", host) is Twist.LIE:
            return True
        return machines.image_size(self._world(host), _name(host), revision.name) is not None

    def retrieve_image(self, revision: Revision, host: VmHost | None) -> None:
        world = self._world(host)
        with self.task.locks.hold(f"sim:{world.file}:{_name(host)}:{revision.name}", patience=self.task.patience):
            if machines.image_size(world, _name(host), revision.name) is not None:
                return
            size = self._size(world, revision)
            with self._room(world, host, size):
                twist = self._enter("retrieve_image", host)
                if twist is not Twist.LIE:
                    self._write_image(world, _name(host), revision.name, size, half=twist is Twist.HALF)

    def load(self, computer: Computer, revision: Revision, firstboot: FirstBoot) -> None:
        world, slot, task = self._world(computer.host), self._slot(computer), self.task
        task.say(Step.STARTLOAD)
        self.control_VM(computer, Power.REMOVE)
        self._require_room_for_machine(world, computer.host)
        twist = self._enter("load", computer.host, computer.name)
        if twist is Twist.LIE:
            return
        task.record("remove", file=str(world.file), host=slot.host, name=slot.name, instance=firstboot.instance)
        task.say(Step.TRANSFERVM)
        machines.make_disk(world, slot, instance=firstboot.instance, image=revision.name)
        if twist is Twist.HALF:
            raise stopped("load")
        task.say(Step.VMSETUPCONFIG)
        self._start(world, slot, computer, revision, firstboot)
        task.say(Step.BOOTING)
        task.reach(computer, alive=lambda: self._is_on(slot, firstboot.instance, world))
        task.say(Step.MACHINEBOOTED)

    def capture(self, computer: Computer, revision: Revision) -> None:
        world, slot = self._world(computer.host), self._slot(computer)
        if machines.own_machine(world, slot) is None:
            raise Refused(f"there is no machine {computer.name} to capture")
        twist = self._enter("capture", computer.host, computer.name)
        if twist is Twist.LIE:
            return
        self.task.record("drop_half_image", file=str(world.file), name=revision.name)
        self._write_image(world, REPOSITORY, revision.name, self.options.image_bytes, half=twist is Twist.HALF)

    def control_VM(self, computer: Computer, action: Power) -> None:
        world, slot = self._world(computer.host), self._slot(computer)
        if not (owners := machines.owners(world, slot)):
            if action not in {Power.REMOVE, Power.OFF}:
                raise Refused(f"there is no machine {computer.name} to turn {action}")
            return
        if owners != {self.task.owner}:
            raise machines.foreign(slot, ", ".join(sorted(owners - {self.task.owner})))
        twist = self._enter("control_VM", computer.host, computer.name)
        if twist is not Twist.LIE:
            self._control(world, slot, action, half=twist is Twist.HALF)
        if twist is Twist.HALF:
            raise stopped(f"control_VM {action}")

    def get_image_size(self, revision: Revision, host: VmHost | None) -> int:
        if self._enter("get_image_size", host) is Twist.LIE:
            return 0
        return self._size(self._world(host), revision)

    def guest_channel(self, computer: Computer) -> Channel:
        world, slot = self._world(computer.host), self._slot(computer)
        return connect(world, self.options, self.task.patience, slot, host_key=computer.host_key)

    def inventory(self, host: VmHost) -> Sequence[Found]:
        if self._enter("inventory", host) is Twist.LIE:
            return []
        lying = machines.everything_on(self._world(host), host.name)
        return [Found(name=name, owner=owner, what=f"simulated {what} {name}") for name, owner, what in lying]

    def disks(self, host: VmHost) -> HostDisks:
        self._enter("disks", host)
        space = self._space(self._world(host), host)
        return HostDisks(masters=space, machines=space)

    def metrics(self, computer: Computer) -> Reading:
        self._enter("metrics", computer.host, computer.name)
        world = self._world(computer.host)
        machine = machines.own_machine(world, self._slot(computer))
        if machine is None or machine.power == Power.OFF or machine.started_at is None:
            raise Refused(f"{computer.name} is not running")
        return Reading(cpu_seconds=world.clock() - machine.started_at, memory_bytes=machine.ram_mb << 20)

    @classmethod
    def missing(cls) -> Sequence[str]:
        return []

    @classmethod
    def up(cls, folder: Path, slots: int) -> LocalLab:
        return lab(folder, slots)

    @classmethod
    def down(cls, folder: Path) -> None:
        clear(folder)

    def undo_remove(self, file: str, host: str, name: str, instance: str) -> None:
        """What one load made in a slot, and nothing that another load made there since."""
        machines.remove(self._open(file), Slot(host=host, name=name, owner=self.task.owner), instance=instance)

    def undo_drop_half_image(self, file: str, name: str) -> None:
        machines.drop_half_image(self._open(file), REPOSITORY, name)

    def _start(self, world: World, slot: Slot, computer: Computer, revision: Revision, firstboot: FirstBoot) -> None:
        """Defines the machine, switches it on; `boot` faults make it die, never answer, answer late or as another."""
        draw = self.options.delay("boot")
        seconds: float | None = draw(world.random) if draw else 0.0
        host_key, dies = firstboot.host_key, False
        met = strike(world, "boot", host=slot.host, computer=slot.name)
        match met:
            case Strike(kind=Kind.HANG):
                seconds = None
            case Strike(kind=Kind.SLOW):
                seconds += met.seconds
            case Strike(kind=Kind.LIE):
                host_key = "ssh-ed25519 of-another-machine"
            case Strike(kind=Kind.FAIL | Kind.HALF):
                dies = True
            case Strike(kind=Kind.KILL):
                suffer(met, self.task.patience)
            case _:
                pass
        machines.define(
            world,
            slot,
            computer,
            revision,
            instance=firstboot.instance,
            host_key=host_key,
            hostname=firstboot.hostname,
        )
        self.task.say(Step.STARTVM)
        machines.start(world, slot, instance=firstboot.instance, boot=seconds)
        if dies:
            machines.set_power(world, slot, instance=firstboot.instance, power="off")

    def _is_on(self, slot: Slot, instance: str, world: World) -> bool:
        machine = machines.own_machine(world, slot)
        return machine is not None and machine.instance == instance and machine.power == Power.ON

    def _control(self, world: World, slot: Slot, action: Power, *, half: bool) -> None:
        if action is Power.REMOVE:
            machines.remove(world, slot, disk_too=not half)
            return
        machine = machines.own_machine(world, slot)
        if machine is None:
            return
        draw = self.options.delay("boot")
        match action, machine.power:
            case (Power.ON, "off") | (Power.RESET, "on" | "suspended"):
                machines.start(world, slot, instance=machine.instance, boot=draw(world.random) if draw else 0.0)
            case (Power.OFF, "on" | "suspended"):
                machines.set_power(world, slot, instance=machine.instance, power="off")
            case (Power.SUSPEND, "on"):
                machines.set_power(world, slot, instance=machine.instance, power="suspended")
            case (Power.RESUME | Power.ON, "suspended"):
                machines.set_power(world, slot, instance=machine.instance, power="on")
            case _:
                pass

    def _size(self, world: World, revision: Revision) -> int:
        size = machines.image_size(world, REPOSITORY, revision.name)
        if size is not None:
            return size
        if {revision.name, revision.image} & set(self.options.absent):
            raise Refused(f"the repository holds no image {revision.name}")
        return self.options.image_bytes

    def _space(self, world: World, host: VmHost) -> Space:
        free = self.options.disk_bytes - machines.taken(world, host.name, each=self.options.machine_bytes)
        return Space(path=f"{world.file}:{host.name}", total=self.options.disk_bytes, free=max(0, free))

    def _require_room_for_machine(self, world: World, host: VmHost | None) -> None:
        if host is not None:
            self._space(world, host).require(A_MACHINE, host.profile.keep_free_mb)

    def _room(self, world: World, host: VmHost | None, size: int) -> AbstractContextManager[None]:
        """Nothing is known of a computer without a host, so that there is no end to its room."""
        if host is None:
            return nullcontext()
        return self.task.room.for_masters(
            host, lambda: size, lambda: self._space(world, host), patience=self.task.patience
        )

    def _write_image(self, world: World, place: str, name: str, size: int, *, half: bool) -> None:
        machines.put_image(world, place, name, size=size, owner=self.task.owner, whole=False)
        if half:
            raise stopped("writing the image")
        machines.put_image(world, place, name, size=size, owner=self.task.owner, whole=True)

    def _enter(self, call: str, host: VmHost | None, computer: str = "") -> Twist:
        return enter(self._world(host), self.options, self.task.patience, call, host=_name(host), computer=computer)

    def _slot(self, computer: Computer) -> Slot:
        return Slot(host=_name(computer.host), name=computer.name, owner=self.task.owner)

    def _world(self, host: VmHost | None) -> World:
        file = self.options.path or (host.address if host else "")
        if not file:
            raise Refused(
                "the simulator has no file", "set path in [modules.sim], or give the VM host one as its address"
            )
        return self._open(file)

    def _open(self, file: str) -> World:
        return self.task.kept.get(f"sim:{file}", lambda: World(Path(file), seed=self.options.seed), World.close)


def stopped(what: str) -> CommandFailed:
    said = f"scripted fault: {what} stopped half-way"
    return CommandFailed(said, ran=Ran(argv=["sim", what], status=1, stderr=said))


def _name(host: VmHost | None) -> str:
    return host.name if host else ""
