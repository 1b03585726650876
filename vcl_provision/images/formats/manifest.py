"""The manifest of an OVF: a digest for each file, `SHA256(disk.vmdk)= 0a1b...`. Source: DSP0243, manifest file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Refused

MOST_BYTES = 64 << 10
ALGORITHM = "sha256"
CHUNK = 1 << 20
_LINE = re.compile(r"(SHA1|SHA256|SHA512) ?\(([^()]+)\) ?= ?([0-9a-fA-F]+)", re.IGNORECASE)
_LENGTHS = {"sha1": 40, "sha256": 64, "sha512": 128}

Told = Callable[[int], None]
"""Hears how many more bytes are done."""


@dataclass(frozen=True, kw_only=True)
class Digest:
    """What a file's content must hash to. SHA-1 shows damage only; against forgery it is no proof."""

    algorithm: str
    value: str


def parse_manifest(text: bytes, about: str) -> Mapping[str, Digest]:
    """File name to digest. Raises Refused, naming the first line that is none."""
    digests: dict[str, Digest] = {}
    for line in text.decode("utf-8", errors="replace").splitlines():
        found = _LINE.fullmatch(line.strip())
        if found is None and line.strip():
            raise Refused(f"{about} has a line that is no digest: {line[:80]!r}", "export the machine again")
        if found:
            digests[found[2]] = _digest(found, about, digests)
    return digests


def write_manifest(digests: Mapping[str, str]) -> bytes:
    """`digests`: file name to its SHA-256, in hexadecimal. Without blanks before the name: ESXi takes no other."""
    return "".join(f"SHA256({name})= {value}\n" for name, value in digests.items()).encode()


def hash_part(
    path: Path, offset: int, size: int, *, patience: Patience, algorithm: str = ALGORITHM, told: Told | None = None
) -> str:
    """The digest of so many bytes of a file, in hexadecimal. Raises Cancelled, and Refused if they are not there."""
    whole = hashlib.new(algorithm)
    with path.open("rb") as file:
        file.seek(offset)
        while size:
            patience.check()
            piece = file.read(min(CHUNK, size))
            if not piece:
                raise Refused(f"{path} ends {size} bytes too early", "fetch it again")
            whole.update(piece)
            size -= len(piece)
            if told:
                told(len(piece))
    return whole.hexdigest()


def _digest(found: re.Match[str], about: str, known: Mapping[str, Digest]) -> Digest:
    algorithm, value = found[1].lower(), found[3].lower()
    if len(value) != _LENGTHS[algorithm] or found[2] in known:
        raise Refused(f"{about} has a wrong digest for {found[2]}", "export the machine again")
    return Digest(algorithm=algorithm, value=value)
