"""A file from the web, by its SHA-256: installation media, guest additions."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository.descriptor import Blob
from vcl_provision.images.repository.folder import FolderPlace
from vcl_provision.images.repository.place import CHUNK
from vcl_provision.images.repository.space import space_of
from vcl_provision.images.repository.transfer import Content, Meter, Progress, Target, put, unheard
from vcl_provision.model.faults import Refused, Transient

ANSWERS = 30.0
"""Seconds in which a server has to say something more."""


def download(url: str, sha256: str, folder: Path, *, patience: Patience, progress: Progress = unheard) -> Path:
    """Brings a file from an http or https address to a folder, as a file named by its SHA-256; returns its path.

    It is there whole and verified, or not at all; cut off, it goes on where it was (RFC 9110, section 14). Raises
    Refused if the server has another content, or none, Transient if it cannot be reached or ends too early, Cancelled,
    TimedOut.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise Refused(f"{url} is no address to download from", "one that begins with https:// or http://")
    source = WebSource(url=url)
    target = folder / sha256
    if target.exists():
        return target
    blob = Blob(sha256=sha256, bytes=source.length())
    space_of(folder).require(blob.bytes)
    put(source, Target(place=FolderPlace(folder), path=sha256, blob=blob), Meter(blob.bytes, progress), patience)
    return target


@dataclass(frozen=True, kw_only=True)
class WebSource:
    """What a web server has at an address."""

    url: str

    def __str__(self) -> str:
        return self.url

    def length(self) -> int:
        """Bytes, as the server says. Raises Refused if it does not."""
        with self.errors(), self._asked("HEAD", {}) as answer:
            length = answer.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused(f"{self.url} does not say its length", "get it by hand, and add it from a file")
        return int(length)

    def open(self, offset: int) -> Content:
        with self.errors():
            answer = self._asked("GET", {"Range": f"bytes={offset}-"} if offset else {})
            if offset and answer.status != 206:  # it knows no ranges: what is here already passes by once more
                _skip(answer, offset)
            return _Body(answer)

    @contextlib.contextmanager
    def errors(self) -> Generator[None]:
        try:
            yield
        except HTTPError as no:
            if no.code >= 500 or no.code == 429:
                raise Transient(f"{self.url} cannot be had now: {no.code} {no.reason}") from no
            raise Refused(f"{self.url} cannot be had: {no.code} {no.reason}", "look at the address") from no
        except IncompleteRead as no:
            raise Transient(f"{self.url} ended too early", "ask again: it goes on where it was") from no
        except (URLError, HTTPException, OSError) as no:
            raise Transient(f"{self.url} cannot be reached: {no}") from no

    def _asked(self, method: str, headers: dict[str, str]) -> HTTPResponse:
        request = Request(self.url, method=method, headers={"Accept-Encoding": "identity", **headers})  # noqa: S310 - http only
        return cast("HTTPResponse", urlopen(request, timeout=ANSWERS))  # noqa: S310 - likewise


class _Body:
    """An answer's content; one that ends before its length is an error, and no end."""

    def __init__(self, answer: HTTPResponse) -> None:
        self._answer = answer

    def readinto(self, room: memoryview) -> int:
        count = self._answer.readinto(room)
        if not count and self._answer.length:
            raise IncompleteRead(b"", self._answer.length)
        return count

    def close(self) -> None:
        self._answer.close()


def _skip(answer: HTTPResponse, count: int) -> None:
    while count and (chunk := answer.read(min(CHUNK, count))):
        count -= len(chunk)
