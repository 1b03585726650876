"""From nothing to a lab that takes reservations: database, hypervisor, image, rows, vcld. Again: finds it as it is."""

from __future__ import annotations

import fcntl
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.keys import management_key
from vcl_provision.drivers.provisioner import LocalHost, LocalLab
from vcl_provision.faces.images.comparing import files_of
from vcl_provision.faces.lab.builder import LabBuilder
from vcl_provision.faces.lab.daemon import LabDaemon, write_settings
from vcl_provision.faces.lab.folder import LabFolder, remember
from vcl_provision.faces.lab.hypervisor import local_host, require_fit
from vcl_provision.faces.lab.images import Had, have_image, revision_name
from vcl_provision.faces.lab.people import DEMO_USER, own_keys, usual_user
from vcl_provision.faces.stages import Stages
from vcl_provision.model.faults import Refused
from vcl_provision.model.lab import VmProfile
from vcl_provision.store import catalogue, embedded, listings, migrate
from vcl_provision.store.catalogue import NewComputer, NewImage
from vcl_provision.store.database import Connection, listen

LEAST_RAM_MB = 1024
LOADS = 30
"""Seconds that the first load is expected to take; later ones are measured."""


@dataclass(frozen=True, kw_only=True)
class LabUp:
    """A lab that runs."""

    lab: LabFolder
    dsn: str
    module: str
    host: str
    images: Sequence[str]
    computers: Sequence[str]
    users: Sequence[str]


def bring_up(folder: Path, *, module: str, computers: int, stages: Stages) -> LabUp:
    """Brings it up, or finds it up, with the computers that it has if those are more. Raises Refused with what is missing, and what its parts raise."""
    lab = LabFolder(folder.absolute())
    host = require_possible(lab, module)
    with _alone(lab):
        lab.module_note.write_text(f"{module}\n", encoding="utf-8")  # first: from here on it can be taken down
        with stages.stage("database: PostgreSQL of our own"):
            dsn = _database(lab)
            computers = max(computers, _had(dsn, module))
        with stages.stage(f"hypervisor: {module}"):
            there = host.up(lab.of_module(module), computers)
        revisions = _images(there, stages)
        with stages.stage(f"rows: {computers} computers, images, users"):
            users = _fill(lab, dsn, module, there, revisions)
        with stages.stage("management node: vcld"):
            write_settings(lab, dsn)
            LabDaemon(lab).start()
        if not lab.simulated:
            LabBuilder(lab).start()
        remember(lab)
    return LabUp(
        lab=lab,
        dsn=dsn,
        module=module,
        host=there.host_name,
        images=[image.name for image in there.images],
        computers=[slot.name for slot in there.slots],
        users=users,
    )


def require_possible(lab: LabFolder, module: str) -> type[LocalHost]:
    """What brings the hypervisor up. Raises Refused if this machine, or what lies in the folder, does not allow it."""
    host = local_host(module)
    require_fit(module, host)
    if lab.module not in {"", module}:
        raise Refused(
            f"the lab in {lab.path} is one on {lab.module}, not on {module}",
            f"take it away first: vcl down --purge --folder {lab.path}; or give this one a folder of its own: --folder",
        )
    return host


@contextmanager
def _alone(lab: LabFolder) -> Generator[None]:
    """One at a time per folder."""
    try:
        lab.path.mkdir(parents=True, exist_ok=True)
        lock = (lab.path / "up.lock").open("w")
    except OSError as no:
        raise Refused(f"cannot make a lab in {lab.path}: {no.strerror}", "choose a folder of yours: --folder") from no
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _database(lab: LabFolder) -> str:
    dsn = embedded.start(lab.path)
    with closing(listen(dsn)) as listener:
        migrate.migrate(listener.connection)
    return dsn


def _had(dsn: str, module: str) -> int:
    with closing(listen(dsn)) as listener:
        return sum(computer.module == module for computer in listings.computers(listener.connection))


def _images(there: LocalLab, stages: Stages) -> dict[str, Had]:
    revisions: dict[str, Had] = {}
    for image in there.images:
        with stages.stage(f"image: {image.name}") as say:
            revisions[image.name] = have_image(image, Path(there.repository_path), say)
    return revisions


def _fill(lab: LabFolder, dsn: str, module: str, there: LocalLab, revisions: dict[str, Had]) -> list[str]:
    with closing(listen(dsn)) as listener, listener.connection.transaction():
        _put_machines(listener.connection, module, there)
        _put_images(listener.connection, module, there, revisions)
        return _put_people(listener.connection, lab)


def _put_machines(conn: Connection, module: str, there: LocalLab) -> None:
    profile = VmProfile(
        name=there.host_name,
        repository_path=there.repository_path,
        datastore_path=there.datastore_path,
        vm_path=there.vm_path,
        network=there.network,
        overrides=there.overrides,
    )
    catalogue.put_host(
        conn, name=there.host_name, address=there.host_address, module=module, profile=profile, install_types=[module]
    )
    ram_mb = max(LEAST_RAM_MB, *(image.min_ram_mb for image in there.images))
    for slot in there.slots:
        computer = NewComputer(
            name=slot.name,
            host=there.host_name,
            module=module,
            private_address=slot.private_address,
            mac=slot.mac,
            ram_mb=ram_mb,
        )
        catalogue.put_computer(conn, computer)


def _put_images(conn: Connection, module: str, there: LocalLab, revisions: dict[str, Had]) -> None:
    for image in there.images:
        had = revisions[image.name]
        new = NewImage(
            name=image.name,
            revision=had.number,
            revision_name=revision_name(image, had.number),
            os=image.os,
            os_module=image.os_module,
            install_type=module,
            min_ram_mb=image.min_ram_mb,
            root_access=image.sudo,
            load_seconds=LOADS,
            files=files_of(had.descriptor) if had.descriptor else (),
        )
        catalogue.put_image(conn, new)


def _put_people(conn: Connection, lab: LabFolder) -> list[str]:
    """The demonstration's user and whoever sits here: both with the lab's own key, the latter with their own too."""
    key = management_key(lab.user_key).public
    people = {DEMO_USER: [key], usual_user(): [key, *own_keys()]}
    for name, keys in people.items():
        catalogue.put_user(conn, name, keys=keys)
    return sorted(people)
