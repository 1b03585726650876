"""A script that starts a machine in QEMU: with KVM where KVM works, else by software emulation."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator
from pathlib import Path

from vcl_provision.images.builder.deploy.built_machine import BuiltMachine
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.formats.placing import new_files
from vcl_provision.images.kvm_probe import BOOT_SECTOR

_HERE = Path(__file__).parent
NAME = "run"


def write_start_script(machine: BuiltMachine, folder: Path, *, overwrite: bool = False) -> str:
    """Lays `run` beside the machine's disks; what it is given goes to QEMU. Returns how it is used."""
    with new_files(folder / NAME, overwrite=overwrite) as made:
        made.write_text(start_script(machine), encoding="utf-8")
        made.chmod(0o755)
    return (
        f"start {machine.name} with ./{NAME} in its folder; then: ssh -p 2222 root@127.0.0.1 "
        f"(SSH_PORT=2223 ./{NAME} takes another port; what follows ./{NAME} goes to QEMU)"
    )


def start_script(machine: BuiltMachine) -> str:
    """The script's text. It finds the disks in its own folder, so the folder can be moved."""
    firmware = ""
    if machine.loader is Loader.UEFI:
        firmware = 'firmware=$(find_firmware)\nset -- -drive "if=pflash,format=raw,readonly=on,file=$firmware" "$@"\n'
    filled = {
        "@NAME@": machine.name,
        "@SELF@": f"./{NAME}",
        "@KVM_WORKS@": kvm_works_function(),
        "@FIRMWARE@": firmware,
        "@MACHINE@": " \\\n    ".join(_arguments(machine)),
    }
    text = (_HERE / "run.sh").read_text(encoding="utf-8")
    for word, value in filled.items():
        text = text.replace(word, value)
    return text


def kvm_works_function() -> str:
    """A shell function `kvm_works` that needs nothing but QEMU."""
    program = BOOT_SECTOR[:-2].rstrip(b"\0")
    text = (_HERE / "kvm-works.sh").read_text(encoding="utf-8")
    text = text.replace("@PROGRAM@", base64.b64encode(program).decode())
    return text.replace("@ZEROS@", str(len(BOOT_SECTOR) - 2 - len(program)))


def _arguments(machine: BuiltMachine) -> Iterator[str]:
    yield f"-name {machine.name} -machine pc -cpu max -m {machine.memory_mb} -smp {machine.cpus}"
    for disk in machine.disks:
        yield f"-drive {_drive(disk, machine)}"
    if machine.boot:
        yield f"-kernel {shlex.quote(machine.boot.kernel.name)}"
        if machine.boot.initrd:
            yield f"-initrd {shlex.quote(machine.boot.initrd.name)}"
        yield f"-append {shlex.quote(machine.boot.command_line)}"
    yield f"-device virtio-net-pci,netdev=net,mac={machine.address} -device virtio-rng-pci"


def _drive(disk: Path, machine: BuiltMachine) -> str:
    """QEMU doubles commas in file names."""
    return shlex.quote(f"file={disk.name.replace(',', ',,')},format={machine.disk_format},if=virtio")
