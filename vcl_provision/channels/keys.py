"""Key pairs: a guest's host key for each load, and the one key with which a management node gets into its guests."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHPrivateKeyTypes,
    load_ssh_private_key,
)

from vcl_provision.model.faults import SettingsError
from vcl_provision.model.secret import Secret


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """`public` is the line (`ssh-ed25519 AAAA...`), `private` the OpenSSH private key's text."""

    public: str
    private: Secret


def new_key() -> KeyPair:
    """A fresh ed25519 pair: 0.1 ms, and the cheapest of all keys to check in a guest without hardware's help."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return KeyPair(public=_line(key), private=Secret(private))


def new_host_key() -> KeyPair:
    """What a guest is given at its load, and must answer with from then on."""
    return new_key()


def management_key(path: Path) -> KeyPair:
    """The key in this file, made (mode 600) if there is none yet; many may ask at once, all get the same.

    Any key that OpenSSH writes will do. Raises SettingsError if it cannot be read or made, is open to others,
    needs a pass phrase or is no private key.
    """
    try:
        if not path.exists():
            _make(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SettingsError(f"the management key {path} is readable for others: chmod 600 {path}")
        return _read(path)
    except OSError as no:
        raise SettingsError(f"the management key {path} cannot be read or made: {no.strerror}") from no


def existing_key(path: Path) -> KeyPair:
    """The key in this file, which is there already. Raises SettingsError as `management_key` does, and for no file."""
    if not path.exists():
        raise SettingsError(f"there is no key {path}; make one with ssh-keygen -t ed25519 -N '' -f {path}")
    return management_key(path)


def _line(key: SSHPrivateKeyTypes) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    pair = new_key()
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(pair.private.reveal())
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(beside)  # unlike a rename it takes nothing away from whoever was faster
    except FileExistsError:
        return
    finally:
        beside.unlink()


def _read(path: Path) -> KeyPair:
    text = path.read_bytes()
    try:
        key = load_ssh_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as no:
        raise SettingsError(
            f"the management key {path} cannot be used: {no}; make one with ssh-keygen -t ed25519 -N '' -f {path}"
        ) from no
    return KeyPair(public=_line(key), private=Secret(text.decode()))
