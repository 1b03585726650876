"""A repository of images: descriptors, and the contents that they name, somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import layout
from vcl_provision.images.repository.catalogue import Catalogue, Listing
from vcl_provision.images.repository.delivery import Delivery, held_in
from vcl_provision.images.repository.descriptor import Blob, ImageDescriptor
from vcl_provision.images.repository.document import LARGEST, parse, written
from vcl_provision.images.repository.locks import together
from vcl_provision.images.repository.matching import matching, nearest
from vcl_provision.images.repository.opening import open_place
from vcl_provision.images.repository.place import Place, Sink
from vcl_provision.images.repository.sharing import share_blocks, share_file
from vcl_provision.images.repository.space import same_disk, space_of
from vcl_provision.images.repository.sums import known
from vcl_provision.images.repository.transfer import (
    FileSource,
    Meter,
    PlaceSource,
    Progress,
    Source,
    Target,
    chunks,
    fill,
    unheard,
)
from vcl_provision.model.faults import Refused
from vcl_provision.model.space import full

SCRATCH = Path("/var/tmp")  # noqa: S108 - who uses it makes a folder of their own in it
"""Where images are made for a repository that is not a folder of this machine: large, and not in memory."""

MARGIN = 64 << 20
"""Bytes that stay free where the size of the disk is not known."""


def open_repository(address: str | Path) -> Repository:
    """The repository at a path or URL (see opening.ADDRESSES). Raises Refused for one that cannot be understood."""
    return Repository(open_place(str(address)))


class Repository:
    """Images at one place. Revisions are added once and never changed; contents are named by their SHA-256, kept once.

    Whatever asks the place raises Transient if it cannot be reached, Refused if it will not let us. For many threads.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._catalogue = Catalogue(place)

    def __str__(self) -> str:
        return str(self.place)

    def revisions(self) -> Listing:
        """All that there is, good and bad, by name. Boots nothing, asks no hypervisor."""
        return self._catalogue.listing()

    def has(self, name: str) -> bool:
        """Whether there is a descriptor of this name, good or bad."""
        return self._catalogue.find(name) is not None

    def get(self, name: str) -> ImageDescriptor:
        """The revision of this name. Raises Refused if there is none (with the nearest), or it is bad (with why)."""
        found = self._catalogue.find(name)
        if isinstance(found, ImageDescriptor):
            return found
        if found is not None:
            hint = "restore the file, or remove the revision: vcl images delete"
            raise Refused(f"the descriptor of {name} in {self} {found.reason}", hint)
        near = nearest(name, self.revisions().good)
        hint = f"there is {', '.join(near)}" if near else "build, import or copy it there"
        raise Refused(f"{self} holds no image {name}", hint)

    def match(self, words: str) -> list[ImageDescriptor]:
        """Those that the words fit ("debian 12", "ubuntu server"), the best first. Raises Refused if none does."""
        good = self.revisions().good
        found = matching(words, good)
        if not found:
            near = nearest(words, good)
            hint = f"nearest: {', '.join(near)}" if near else "vcl images list shows what there is"
            raise Refused(f"{self} holds no image that fits {words!r}", hint)
        return found

    def add(
        self,
        descriptor: ImageDescriptor,
        files: Mapping[str, Path],
        *,
        patience: Patience,
        progress: Progress = unheard,
    ) -> None:
        """Adds a revision: its contents first, verified, then its descriptor. `files` by SHA-256 stay their owner's.

        Contents that are there already are not sent, and need no file. Raises Refused if there is another revision of
        the name, a file is missing or not what the descriptor says, or there is no room; then nothing is listed.
        Cut off, it goes on where it was the next time.
        """
        ways = [share_blocks]
        self._add(descriptor, Delivery(_given(files, descriptor), ways, patience=patience, progress=progress))

    def take_in(
        self,
        descriptor: ImageDescriptor,
        files: Mapping[str, Path],
        *,
        patience: Patience,
        progress: Progress = unheard,
    ) -> None:
        """As `add`, with files that are given away: where it can be they are not copied, and must not be written to."""
        ways = [share_blocks, share_file]
        self._add(descriptor, Delivery(_given(files, descriptor), ways, patience=patience, progress=progress))

    def copy_to(
        self, other: Repository, descriptor: ImageDescriptor, *, patience: Patience, progress: Progress = unheard
    ) -> None:
        """Adds a revision of this repository to another one, of whatever kind. Raises what `add` does."""
        other._add(descriptor, Delivery(self._source, [share_blocks], patience=patience, progress=progress))

    def fetch(
        self,
        descriptor: ImageDescriptor,
        folder: Path,
        *,
        patience: Patience,
        progress: Progress = unheard,
        keep_free_mb: int | None = None,
    ) -> None:
        """Brings a revision's contents to a folder of this machine, as files named by their SHA-256.

        Each is there whole and verified, or not at all. Many may ask, in threads and processes: one transfers, and when
        it is killed the next goes on. `keep_free_mb` MiB stay free, else the usual part of the disk. Raises Refused for
        a damaged repository (named) or a full disk, Cancelled.
        """
        targets = held_in(folder, descriptor.blobs)
        space_of(folder).require(self._room_for(targets, folder), keep_free_mb)
        self._bring(targets, patience, progress)

    def room_for(self, descriptor: ImageDescriptor, folder: Path) -> int:
        """Bytes that `fetch` would add to the folder's disk: of what is missing, unless files can be shared with it."""
        return self._room_for(held_in(folder, descriptor.blobs), folder)

    def fetch_one(self, blob: Blob, folder: Path, *, patience: Patience) -> None:
        """As `fetch`, one content."""
        targets = held_in(folder, [blob])
        space_of(folder).require(self._room_for(targets, folder))
        self._bring(targets, patience, unheard)

    def send(self, blob: Blob, sink: Sink, *, patience: Patience, progress: Progress = unheard) -> None:
        """Writes a content, verified, to a sink that only the caller writes to: on a host whose files are not here."""
        fill(self._source(blob), sink, known(blob), Meter(blob.bytes, progress), patience)

    def chunks(self, blob: Blob) -> Iterator[memoryview]:
        """A content, not verified; a chunk is good until the next. Raises Refused if it is missing."""
        return chunks(self._source(blob), 0, blob.bytes)

    def path_of(self, blob: Blob) -> Path | None:
        """The file of a content, if the repository is a folder of this machine; only to be read."""
        return self.place.local_path(layout.blob_path(blob))

    def scratch_folder(self) -> Path:
        """Where to make files that it is to take in: on its own disk if it is a folder of this machine."""
        return self.place.local_path(layout.PARTIAL) or SCRATCH

    def close(self) -> None:
        self.place.close()

    def _room_for(self, targets: Sequence[Target], folder: Path) -> int:
        if self._shares_disk_with(folder):
            return 0
        return sum(target.lacks for target in targets if not target.there)

    def _bring(self, targets: Sequence[Target], patience: Patience, progress: Progress) -> None:
        missing = [target for target in targets if not target.there]
        Delivery(self._source, [share_blocks, share_file], patience=patience, progress=progress).bring(missing)

    def _source(self, blob: Blob) -> PlaceSource:
        return PlaceSource(place=self.place, path=layout.blob_path(blob))

    def _add(self, descriptor: ImageDescriptor, delivery: Delivery) -> None:
        self._require_new(descriptor)
        gate = self.place.lock_folder() / layout.GARBAGE_LOCK
        with together(gate, f"the collection of garbage in {self}", delivery.patience):
            self._deliver(descriptor, delivery)
            try:
                self.place.create(layout.descriptor_path(descriptor.name), written(descriptor))
            except FileExistsError:
                self._require_new(descriptor)
            # Garbage collected from another machine may include what was relied on above, before it was named.
            self._deliver(descriptor, replace(delivery, progress=unheard))

    def _deliver(self, descriptor: ImageDescriptor, delivery: Delivery) -> None:
        targets = [
            Target(place=self.place, path=layout.blob_path(blob), blob=blob, strict=True) for blob in descriptor.blobs
        ]
        for target in targets:
            self.place.write(layout.claim_path(target.blob.sha256), b"")  # before it is relied on that one is there
        missing = [target for target in targets if not target.there]
        self._require_room(sum(target.blob.bytes for target in missing))
        delivery.bring(missing)

    def _require_new(self, descriptor: ImageDescriptor) -> None:
        try:
            content = self.place.read(layout.descriptor_path(descriptor.name), LARGEST + 1)
        except FileNotFoundError:
            return
        if not _says(content, descriptor):
            said = f"{self} has a revision {descriptor.name} already, and it is another one"
            raise Refused(said, "a revision never changes: give the new one another name")

    def _require_room(self, needed: int) -> None:
        if folder := self.place.local_path(""):
            space_of(folder).require(needed)
        elif needed and (free := self.place.free_bytes()) is not None and free < needed + MARGIN:
            raise full(str(self), free=free, needed=needed, kept=MARGIN)

    def _shares_disk_with(self, folder: Path) -> bool:
        own = self.place.local_path(layout.BLOBS)
        return own is not None and same_disk(own, folder)


def _says(content: bytes, descriptor: ImageDescriptor) -> bool:
    """Whether it is this revision's, perhaps as a version wrote it that knew fewer sums."""
    try:
        return parse(content) == descriptor
    except Refused:
        return False


def _given(files: Mapping[str, Path], descriptor: ImageDescriptor) -> Callable[[Blob], Source]:
    def source_of(blob: Blob) -> Source:
        if blob.sha256 not in files:
            said = f"no file was given for the {descriptor.said_of(blob)}, and the repository has no such content"
            raise Refused(said, f"give the file with the SHA-256 {blob.sha256}")
        return FileSource(file=files[blob.sha256])

    return source_of
