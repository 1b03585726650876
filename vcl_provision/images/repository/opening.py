"""From the address of a repository to its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from vcl_provision.images.repository.folder import FolderPlace
from vcl_provision.images.repository.place import Place
from vcl_provision.model.faults import Refused

USUAL_KEY = "~/.ssh/id_ed25519"
ADDRESSES = (
    "a folder, sftp://USER@HOST:PORT/FOLDER?keyfile=...&known_hosts=..., s3://BUCKET/PREFIX?endpoint=...&profile=..."
)


def open_place(address: str) -> Place:
    """The place at a path or URL; nothing is dialled yet. Raises Refused for an address that cannot be understood."""
    if "://" not in address:
        return _folder(address)
    url = urlsplit(address)
    ways = {"file": _file, "sftp": _sftp, "s3": _s3}
    if url.scheme not in ways:
        raise Refused(f"{address} is no address of a repository", f"it may be {ADDRESSES}")
    if url.password:
        raise Refused(f"the address of {url.hostname} holds a password", "name a key by keyfile=, or a profile=")
    return ways[url.scheme](address, url)


def _folder(path: str) -> Place:
    if not path.strip():
        raise Refused("no repository was named", f"it may be {ADDRESSES}")
    return FolderPlace(Path(path).expanduser())


def _file(address: str, url: SplitResult) -> Place:
    _options(address, url)
    return _folder(unquote(url.path))


def _sftp(address: str, url: SplitResult) -> Place:
    options = _options(address, url, "keyfile", "known_hosts")
    if not url.hostname or url.path in {"", "/"}:
        raise Refused(f"{address} names no folder of another machine", f"it may be {ADDRESSES}")
    from vcl_provision.channels.sftp import KNOWN_HOSTS, SftpServer  # noqa: PLC0415 - paramiko costs `vcl --help` 0.1 s
    from vcl_provision.images.repository.sftp import SftpPlace  # noqa: PLC0415 - likewise

    known = options.get("known_hosts")
    server = SftpServer(
        host=url.hostname,
        port=url.port or 22,
        user=unquote(url.username or ""),
        key=Path(options.get("keyfile", USUAL_KEY)),
        known_hosts=[Path(known)] if known else KNOWN_HOSTS,
    )
    return SftpPlace(address, server, unquote(url.path))


def _s3(address: str, url: SplitResult) -> Place:
    options = _options(address, url, "endpoint", "profile")
    if not url.netloc:
        raise Refused(f"{address} names no bucket", f"it may be {ADDRESSES}")
    try:
        from vcl_provision.images.repository.bucket import BucketPlace  # noqa: PLC0415 - an optional package
    except ImportError as no:
        raise Refused(f"{address} needs s3fs, which is not installed", "pip install 'vcl_provision[s3]'") from no
    return BucketPlace(address, f"{url.netloc}{unquote(url.path)}", **options)


def _options(address: str, url: SplitResult, *known: str) -> Mapping[str, str]:
    options = dict(parse_qsl(url.query))
    for name in options:
        if name not in known:
            raise Refused(f"{address} has the unknown option {name!r}", f"it may be {ADDRESSES}")
    return options
