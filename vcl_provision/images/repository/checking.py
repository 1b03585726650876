"""Whether what lies in a repository is what its descriptors say: every content read and summed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import layout
from vcl_provision.images.repository.descriptor import Blob, ImageDescriptor
from vcl_provision.images.repository.garbage import delete
from vcl_provision.images.repository.store import Repository
from vcl_provision.images.repository.sums import is_whole, named
from vcl_provision.images.repository.transfer import Meter, Progress, unheard


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A content and what was found: `fault` is empty if it is whole. `said` names it, and who it belongs to."""

    blob: Blob
    said: str
    fault: str


def verify(
    repository: Repository,
    descriptors: Sequence[ImageDescriptor],
    *,
    patience: Patience,
    progress: Progress = unheard,
) -> Iterator[Checked]:
    """Reads every content of these revisions once, and yields what it found. Mends nothing. Raises Cancelled."""
    said: dict[Blob, str] = {}
    for descriptor in descriptors:
        for blob in descriptor.blobs:
            said.setdefault(blob, descriptor.said_of(blob))
    meter = Meter(sum(blob.bytes for blob in said), progress)
    for blob, what in said.items():
        yield Checked(blob=blob, said=what, fault=_fault(repository, blob, meter, patience))


def remove_damaged(
    repository: Repository, descriptor: ImageDescriptor, faults: Sequence[Checked], *, patience: Patience
) -> None:
    """Takes a damaged revision away, and of its contents the damaged ones, so that it can be made again as it was."""
    delete(repository, descriptor.name, needed={}, patience=patience)
    for each in faults:
        repository.place.remove(layout.blob_path(each.blob))


def _fault(repository: Repository, blob: Blob, meter: Meter, patience: Patience) -> str:
    entry = repository.place.entry(layout.blob_path(blob))
    if entry is None:
        return "is missing"
    if entry.bytes != blob.bytes:
        return f"has {entry.bytes} bytes instead of {blob.bytes}"

    def heard(count: int) -> None:
        patience.check()
        meter.add(count)

    whole = is_whole(repository.chunks(blob), named(blob), heard)
    return "" if whole else "is damaged: its checksum differs"
