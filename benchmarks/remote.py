"""What no noise touches: commands and connections into a Linux guest, from its load until its user is in."""

from __future__ import annotations

from pathlib import Path

from fix_real_lab import RealLab

from benchmarks.real import a_real_bench, end_all, load
from benchmarks.table import Row


def run() -> list[Row]:
    with a_real_bench("small", log_level="debug") as lab:
        load(lab)
        commands = [line["command"] for line in lab.node.said("command.ran") if line["where"] == lab.computer]
        connections = _logins_of_root(lab)
        end_all(lab)
    return [
        Row("remote commands per load of a Linux guest", f"{len(commands)}", "10", "120"),
        Row("  which are", ", ".join(command.strip("'").split()[0] for command in commands)),
        Row("connections of the management node, as the guest's sshd counts them", f"{connections}", "1", "120"),
    ]


def _logins_of_root(lab: RealLab) -> int:
    """The small guest's sshd writes to its console, which libvirt keeps."""
    (console,) = Path(lab.bench.lab.vm_path).glob(f"*_{lab.computer}.console.log")
    return console.read_text(errors="replace").count("Accepted publickey for root")
