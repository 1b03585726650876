"""From a lab to nothing left running; with its images and its database kept, or removed as well."""

from __future__ import annotations

import shutil

from vcl_provision.faces.lab.builder import LabBuilder
from vcl_provision.faces.lab.daemon import LabDaemon
from vcl_provision.faces.lab.folder import LabFolder, forget
from vcl_provision.faces.lab.hypervisor import local_host
from vcl_provision.faces.stages import Stages
from vcl_provision.model.faults import Refused
from vcl_provision.store import embedded


def take_down(lab: LabFolder, *, purge: bool, stages: Stages) -> None:
    """Stops vcld, machines, network, database; succeeds if nothing runs. `purge` removes the folder with all in it.

    Raises Refused for a folder that is no lab.
    """
    if not lab.module:
        raise Refused(f"there is no lab in {lab.path}", "vcl up brings one up; --folder names another place")
    with stages.stage("vcld ends"):
        LabBuilder(lab).stop()
        LabDaemon(lab).stop()
    with stages.stage("machines and network end"):
        _end_hypervisor(lab)
    with stages.stage("database ends"):
        end_database = embedded.remove if purge else embedded.stop
        end_database(lab.path)
    forget(lab)
    if purge:
        with stages.stage(f"{lab.path} is removed"):
            shutil.rmtree(lab.path)


def megabytes(lab: LabFolder) -> int:
    """What the lab takes on the disk."""
    files = (path.lstat() for path in lab.path.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(status.st_blocks * 512 for status in files) // 1_000_000


def _end_hypervisor(lab: LabFolder) -> None:
    if not lab.module:
        return
    local_host(lab.module).down(lab.of_module(lab.module))
