"""Transfers among threads and processes: one for all who ask, taken over when killed, refused if there is no room."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import BinaryIO, ClassVar

import pytest
from a_need import need_root
from fix_repository import ImageMaker, sftp_address
from fix_sshd import Sshd

from vcl_provision.channels.keys import new_host_key
from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import (
    ImageDescriptor,
    Repository,
    collect,
    delete,
    find_or_build,
    garbage,
    is_held,
    open_repository,
    verify,
)
from vcl_provision.images.repository.download import download
from vcl_provision.images.repository.folder import FLUSH
from vcl_provision.images.repository.layout import PARTIAL, blob_path
from vcl_provision.model.faults import Refused, Transient, WrongHostKey

MIB = 1 << 20
AT_ONCE = 20

FETCH = """
import os, signal, sys
from pathlib import Path
from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import open_repository

address, name, folder, killed_after = sys.argv[1:]
repository = open_repository(address)
place, opened, heard = repository.place, [], []

def counted(path, offset=0):
    opened.append((path, offset))
    return type(place).open(place, path, offset)

def hear(done, total):
    heard.append(done)
    if killed_after != "never" and done > int(killed_after):
        os.kill(os.getpid(), signal.SIGKILL)

place.open = counted
repository.fetch(repository.get(name), Path(folder), patience=Patience(120), progress=hear)
print(*[offset for path, offset in opened if path.startswith("blobs")])
"""


def fetching(repository: Repository, name: str, folder: Path, killed_after: str = "never") -> subprocess.Popen[str]:
    """A process that fetches; it says from which offsets on it read contents."""
    argv = [sys.executable, "-c", FETCH, repository.place.url, name, str(folder), killed_after]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> list[int]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [int(word) for word in out.split()]


@pytest.fixture
def far(sshd: Sshd, tmp_path: Path) -> Iterator[Repository]:
    """A repository on another machine: nothing of it can be shared with this one's folders."""
    folder = tmp_path / "far"
    folder.mkdir()
    repository = open_repository(sftp_address(sshd, folder))
    yield repository
    repository.close()


def test_twenty_threads_ask_and_one_fetches(
    far: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = maker.image(system=b"x" * (8 * MIB))
    far.add(image, maker.files, patience=patience)
    place, opened = far.place, list[str]()

    def counted(path: str, offset: int = 0) -> BinaryIO:
        opened.append(path)
        return type(place).open(place, path, offset)

    monkeypatch.setattr(place, "open", counted)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        asking = [threads.submit(far.fetch, image, tmp_path / "host", patience=patience) for _ in range(AT_ONCE)]
        for each in asking:
            each.result()
    assert is_held(tmp_path / "host", image)
    assert sorted(opened) == sorted(blob_path(blob) for blob in image.blobs)


def test_processes_ask_and_one_fetches(far: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path) -> None:
    image = maker.image(system=b"x" * (8 * MIB))
    far.add(image, maker.files, patience=patience)
    processes = [fetching(far, image.name, tmp_path / "host") for _ in range(4)]
    assert [offset for process in processes for offset in said(process)] == [0, 0, 0]
    assert is_held(tmp_path / "host", image)


def test_a_fetch_that_is_killed_is_taken_over_where_it_was(
    far: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path
) -> None:
    """By one who was waiting for it all the while."""
    image = maker.image(system=os.urandom(48 * MIB), boot=None)
    far.add(image, maker.files, patience=patience)
    host = tmp_path / "host"
    killed = fetching(far, image.name, host, killed_after=str(20 * MIB))
    patience.until(lambda: list(host.glob(f"{PARTIAL}/*")), "the fetch to begin", every=0.01)
    waiting = fetching(far, image.name, host)
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    (offset,) = said(waiting)
    assert offset >= 16 * MIB
    assert is_held(host, image)
    assert sha256((host / image.system_disk.blob.sha256).read_bytes()).hexdigest() == image.system_disk.blob.sha256
    assert list(host.glob(f"{PARTIAL}/*")) == []


def test_what_was_left_of_a_fetch_and_is_wrong_is_not_believed(
    far: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path
) -> None:
    """Long enough that it is flushed while it comes, by the attempt in vain and by the one after it."""
    length = 2 * FLUSH + MIB
    image = maker.image(system=b"x" * length, boot=None)
    far.add(image, maker.files, patience=patience)
    host = tmp_path / "host"
    killed = fetching(far, image.name, host, killed_after="0")
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    (partial,) = (host / PARTIAL).iterdir()
    for wrong in (b"y" * 1000, b"x" * (length + MIB)):
        partial.write_bytes(wrong)
        far.fetch(image, host, patience=patience)
        assert (host / image.system_disk.blob.sha256).read_bytes() == b"x" * length
        (host / image.system_disk.blob.sha256).unlink()


def test_zeros_are_no_bytes_on_the_disk_and_still_part_of_the_sum(
    far: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path
) -> None:
    content = b"x" * 100_000 + bytes(20 * MIB) + b"y" * 70_000 + bytes(300_001)
    image, host = maker.image(system=content, boot=None), tmp_path / "host"
    far.add(image, maker.files, patience=patience)
    killed = fetching(far, image.name, host, killed_after=str(10 * MIB))  # goes on after a hole, too
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    far.fetch(image, host, patience=patience)
    master = host / image.system_disk.blob.sha256
    assert master.read_bytes() == content
    assert master.stat().st_blocks * 512 < MIB


def test_masters_of_a_folder_on_the_same_disk_are_not_copied(
    folder_repository: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path
) -> None:
    image = maker.image()
    folder_repository.add(image, maker.files, patience=patience)
    folder_repository.fetch(image, tmp_path / "host", patience=patience)
    blob = image.system_disk.blob
    stored = folder_repository.path_of(blob)
    assert stored
    assert stored.samefile(tmp_path / "host" / blob.sha256)
    assert not stored.samefile(maker.files[blob.sha256])  # whose owner may write to it
    assert stored.stat().st_mode & 0o777 == 0o444


def test_files_that_are_given_away_are_not_copied(
    folder_repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    image = maker.image()
    folder_repository.take_in(image, maker.files, patience=patience)
    stored = folder_repository.path_of(image.system_disk.blob)
    assert stored
    assert stored.samefile(maker.files[image.system_disk.blob.sha256])


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    need_root()
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_would_be_full_is_named_before_anything_is_written(
    folder_repository: Repository, maker: ImageMaker, patience: Patience, tiny_disk: Path
) -> None:
    image = maker.image(system=b"x" * (4 * MIB - 50_000))  # it would fit, and fill the disk
    folder_repository.add(image, maker.files, patience=patience)
    full = rf"{tiny_disk} is full: \d+ bytes are free, {image.size_bytes} are needed and \d+ stay free"
    with pytest.raises(Refused, match=full):
        folder_repository.fetch(image, tiny_disk, patience=patience)
    with pytest.raises(Refused, match=full):
        open_repository(tiny_disk).add(image, maker.files, patience=patience)
    assert [path for path in tiny_disk.rglob("*") if path.stat().st_size > 1000 and path.is_file()] == []


def test_a_disk_that_others_fill_meanwhile_leaves_nothing_either(
    far: Repository, maker: ImageMaker, patience: Patience, tiny_disk: Path
) -> None:
    image = maker.image(system=b"x" * (3 * MIB), boot=None)
    far.add(image, maker.files, patience=patience)

    def fill(done: int, _total: int) -> None:
        if done == 0:
            (tiny_disk / "ballast").write_bytes(b"y" * (2 * MIB))

    with pytest.raises(Refused, match=f"{tiny_disk} is full"):
        far.fetch(image, tiny_disk, patience=patience, progress=fill)
    assert [path.name for path in tiny_disk.rglob("*") if path.is_file()] == ["ballast"]


def test_a_full_disk_of_another_machine_is_named(
    sshd: Sshd, maker: ImageMaker, patience: Patience, tiny_disk: Path
) -> None:
    there = open_repository(sftp_address(sshd, tiny_disk))
    with pytest.raises(Refused, match=rf"sftp://.*{tiny_disk} is full: \d+ bytes are free, \d+ are needed"):
        there.add(maker.image(system=b"x" * (5 * MIB)), maker.files, patience=patience)

    def fill(done: int, _total: int) -> None:
        if done == 0:
            (tiny_disk / "ballast").write_bytes(b"y" * (3 * MIB))

    with pytest.raises(Refused, match=rf"sftp://.*{tiny_disk} is full: \d+ bytes are free"):
        there.add(maker.image(system=b"x" * (2 * MIB)), maker.files, patience=patience, progress=fill)
    there.close()


# paramiko reads ahead in a thread of its own, which complains of the connection too
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_another_machine_that_goes_away_is_transient_and_the_transfer_goes_on_later(
    far: Repository, sshd: Sshd, maker: ImageMaker, patience: Patience, tmp_path: Path
) -> None:
    image = maker.image(system=os.urandom(24 * MIB), boot=None)
    far.add(image, maker.files, patience=patience)

    def drop(done: int, total: int) -> None:
        if done > total // 2:
            sshd.drop_connections()

    with pytest.raises(Transient, match="cannot be"):
        far.fetch(image, tmp_path / "host", patience=patience, progress=drop)
    heard: list[int] = []
    far.fetch(image, tmp_path / "host", patience=patience, progress=lambda done, _: heard.append(done))
    assert heard[1] > 8 * MIB
    assert is_held(tmp_path / "host", image)


def test_a_machine_with_another_host_key_is_not_believed(sshd: Sshd, tmp_path: Path) -> None:
    address = sftp_address(sshd, tmp_path)
    known = sshd.folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {new_host_key().public}\n")
    with pytest.raises(WrongHostKey):
        open_repository(address).revisions()
    known.write_text("")
    with pytest.raises(Refused, match=r"no host key of .* is known in .*known_hosts"):
        open_repository(address).revisions()


# Who is needed, and what is garbage.


def test_a_revision_that_is_needed_is_not_deleted(
    folder_repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    parent, child = maker.image(), maker.image("debian12-v2", parent="debian12-v1")
    for image in (parent, child):
        folder_repository.add(image, maker.files, patience=patience)
    with pytest.raises(Refused, match="debian12-v1 is needed by its child debian12-v2"):
        delete(folder_repository, "debian12-v1", needed={}, patience=patience)
    with pytest.raises(Refused, match="debian12-v2 is needed by computer vm1, request 7"):
        delete(
            folder_repository, "debian12-v2", needed={"debian12-v2": ["computer vm1", "request 7"]}, patience=patience
        )
    with pytest.raises(Refused, match="holds no image debian12-v9") as refused:
        delete(folder_repository, "debian12-v9", needed={}, patience=patience)
    assert "debian12-v1" in refused.value.hint
    delete(folder_repository, "debian12-v2", needed={}, patience=patience)
    delete(folder_repository, "debian12-v1", needed={}, patience=patience)
    assert folder_repository.revisions().good == []


def test_a_bad_descriptor_can_be_deleted_and_keeps_garbage_until_then(
    folder_repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    """It cannot be known what it names."""
    image = maker.image()
    folder_repository.add(image, maker.files, patience=patience)
    folder_repository.place.write("revisions/debian12-v1.yaml", b"name: debian12-v1\ndisks: [cut off")
    now = datetime.now(UTC) + timedelta(days=2)
    with pytest.raises(
        Refused, match="has bad descriptors, and what they name cannot be known: debian12-v1 is no YAML"
    ):
        garbage(folder_repository, now=now)
    delete(folder_repository, "debian12-v1", needed={}, patience=patience)
    assert len([each for each in garbage(folder_repository, now=now) if each.path.startswith("blobs")]) == 3


def test_who_collects_waits_for_who_adds(folder_repository: Repository, maker: ImageMaker, patience: Patience) -> None:
    """Although each content is, by the clock of the collection, long past its grace."""
    image, done = maker.image(), list[str]()

    def sweep() -> None:
        list(collect(folder_repository, now=datetime.now(UTC) + timedelta(days=9), patience=patience))
        done.append("collected")

    threads: list[Thread] = []

    def begin(moved: int, total: int) -> None:
        if moved == total and not threads:  # all is there, and nothing of it has a name yet
            threads.append(Thread(target=sweep))
            threads[0].start()
            threads[0].join(0.5)
            done.append("added")

    folder_repository.add(image, maker.files, patience=patience, progress=begin)
    threads[0].join()
    assert done == ["added", "collected"]
    assert [each.fault for each in verify(folder_repository, [image], patience=patience)] == ["", "", ""]


def test_what_was_taken_away_meanwhile_is_sent_again(
    folder_repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    """By a collection on another machine, whose locks are not seen here."""
    image = maker.image()
    folder_repository.add(image, maker.files, patience=patience)
    second = replace(image, name="debian12-v2", parent="")
    create = folder_repository.place.create

    def taken_and_created(path: str, content: bytes) -> None:
        folder_repository.place.remove(blob_path(image.system_disk.blob))
        create(path, content)

    folder_repository.place.create = taken_and_created  # type: ignore[method-assign]
    folder_repository.add(second, maker.files, patience=patience)
    assert [each.fault for each in verify(folder_repository, [second], patience=patience)] == ["", "", ""]


# On demand.

BUILD = """
import os, signal, sys, pickle
from pathlib import Path
from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import find_or_build, open_repository

address, log, image, files, killed = pickle.loads(Path(sys.argv[1]).read_bytes())
repository = open_repository(address)

def build():
    with open(log, "a") as file:
        file.write("built\\n")
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    repository.add(image, files, patience=Patience(60))
    return image

print(find_or_build(repository, "Debian 12  server AMD64", build, patience=Patience(60)).name)
"""


def building(
    repository: Repository, log: Path, image: ImageDescriptor, maker: ImageMaker, *, killed: bool = False
) -> subprocess.Popen[bytes]:
    told = log.with_name(f"told-{killed}")
    told.write_bytes(pickle.dumps((repository.place.url, str(log), image, maker.files, killed)))
    return subprocess.Popen([sys.executable, "-c", BUILD, str(told)], stdout=subprocess.PIPE)


def test_twenty_want_an_image_that_is_not_there_and_one_builds_it(
    folder_repository: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path
) -> None:
    """Twenty threads here, and three processes."""
    image, log = maker.image(), tmp_path / "log"

    def build() -> ImageDescriptor:
        with log.open("a") as file:
            file.write("built\n")
        folder_repository.add(image, maker.files, patience=patience)
        return image

    processes = [building(folder_repository, log, image, maker) for _ in range(3)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        wanted = [
            threads.submit(find_or_build, folder_repository, "debian 12 server amd64", build, patience=patience)
            for _ in range(AT_ONCE)
        ]
        found = [each.result() for each in wanted]
    assert found == [image] * AT_ONCE
    assert [process.communicate(timeout=60)[0] for process in processes] == [b"debian12-v1\n"] * 3
    assert log.read_text() == "built\n"


def test_a_builder_that_is_killed_is_followed_by_the_next(
    folder_repository: Repository, maker: ImageMaker, tmp_path: Path
) -> None:
    image, log = maker.image(), tmp_path / "log"
    killed = building(folder_repository, log, image, maker, killed=True)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert folder_repository.revisions().good == []
    after = building(folder_repository, log, image, maker)
    assert after.communicate(timeout=60)[0] == b"debian12-v1\n"
    assert log.read_text() == "built\nbuilt\n"


def test_an_image_of_another_recipe_is_not_the_one(
    folder_repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    old, new = maker.image(recipe="old"), maker.image("debian12-v2", recipe="new")
    folder_repository.add(old, maker.files, patience=patience)
    found = find_or_build(folder_repository, old.key, lambda: new, patience=patience, recipe="new")
    assert found == new
    assert find_or_build(folder_repository, old.key, lambda: new, patience=patience) == old


# From the web.


class Web(BaseHTTPRequestHandler):
    """Answers ranges or not, as told; and ends in the middle, as often as told."""

    content = b""
    ranges = True
    cut_off = 0
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/iso" else 404)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        said = self.headers.get("Range", "")
        self.asked.append(said)
        offset = int(said.removeprefix("bytes=").rstrip("-")) if said and self.ranges else 0
        self.send_response(206 if offset else 200)
        self.send_header("Content-Length", str(len(self.content) - offset))
        self.end_headers()
        whole = self.content[offset:]
        if type(self).cut_off:
            type(self).cut_off -= 1
            whole = whole[: len(whole) // 2]
        self.wfile.write(whole)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nobody wants to read it."""


@pytest.fixture
def web() -> Iterator[tuple[type[Web], str]]:
    handler = type("Told", (Web,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield handler, f"http://127.0.0.1:{server.server_port}/iso"
        server.shutdown()


@pytest.mark.parametrize("ranges", ["ranges", ""])
def test_a_download_that_is_cut_off_goes_on_where_it_was(
    web: tuple[type[Web], str], patience: Patience, tmp_path: Path, ranges: str
) -> None:
    handler, url = web
    handler.content, handler.ranges, handler.cut_off = os.urandom(10 * MIB), bool(ranges), 1
    wanted = sha256(handler.content).hexdigest()
    with pytest.raises(Transient, match="ended too early"):
        download(url, wanted, tmp_path, patience=patience)
    assert not (tmp_path / wanted).exists()
    assert download(url, wanted, tmp_path, patience=patience).read_bytes() == handler.content
    assert handler.asked == ["", f"bytes={5 * MIB}-"]
    download(url, wanted, tmp_path, patience=patience)
    assert len(handler.asked) == 2


def test_a_download_of_another_content_leaves_nothing(
    web: tuple[type[Web], str], patience: Patience, tmp_path: Path
) -> None:
    handler, url = web
    handler.content = b"not what was meant"
    with pytest.raises(Refused, match=f"{url} is damaged: its checksum differs"):
        download(url, sha256(b"meant").hexdigest(), tmp_path, patience=patience)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(Refused, match="cannot be had: 404"):
        download(f"{url}/none", sha256(b"meant").hexdigest(), tmp_path, patience=patience)
    with pytest.raises(Transient, match="cannot be reached"):
        download("http://127.0.0.1:9/iso", sha256(b"meant").hexdigest(), tmp_path, patience=patience)
