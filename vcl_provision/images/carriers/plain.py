"""What a machine is told, for guests without cloud-init: plain files, or the same as one text.

The text is `bootparams.conf`: a line `name='value'` per file. Ours are named `vcl/...`; whatever else there is are the
site's own parameters. It is to be read, never evaluated: in a value `\\n`, `\\t`, `\\\\` and `\\0047` (an apostrophe)
stand for what `printf %b` of a POSIX shell makes of them, so that no value has a line end or an apostrophe in it.
Should somebody source it all the same, nothing in a value is expanded or run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.faults import Refused

OURS, PARAMETERS = "vcl/", "parameters/"
HEAD = "# Read, not evaluated: name='value', where \\n \\t \\\\ \\0047 stand for what printf %b makes of them.\n"
SECRET = frozenset({"ssh_host_ed25519_key", "root_password_hash"})
"""Files that nobody but the machine may see."""

_ESCAPES = {"\\": r"\\", "\n": r"\n", "\t": r"\t", "'": r"\0047"}
_MEANT = {escape: character for character, escape in _ESCAPES.items()}
_ESCAPE = re.compile(r"\\(?:[\\nt]|0047)")
_LINE = re.compile(r"(vcl/[a-z][a-z0-9_.]*|[A-Za-z_][A-Za-z0-9_.-]*)='((?:[^'\\]|\\(?:[\\nt]|0047))*)'")


def plain_files(firstboot: FirstBoot) -> dict[str, str]:
    """Path to content, as `guest/common/usr/lib/vcl/first-boot` reads them. What is not given has no file."""
    files = {
        "instance": firstboot.instance + "\n",
        "hostname": firstboot.hostname + "\n",
        "ssh_host_ed25519_key": firstboot.host_key_private.reveal(),
        "ssh_host_ed25519_key.pub": firstboot.host_key + "\n",
        "authorized_keys": "".join(line + "\n" for line in firstboot.management_keys),
        **{f"{PARAMETERS}{name}": value for name, value in firstboot.parameters.items()},
    }
    if firstboot.root_password_hash:
        files["root_password_hash"] = firstboot.root_password_hash.reveal() + "\n"
    return files


def bootparams_conf(files: Mapping[str, str]) -> str:
    """Plain files as one text. It is as secret as they are."""
    return HEAD + "".join(f"{line}\n" for line in bootparams_lines(files))


def bootparams_lines(files: Mapping[str, str]) -> list[str]:
    """The text's lines without its head, for carriers that have a place for each."""
    return [f"{_name(path)}='{_escaped(content)}'" for path, content in files.items()]


def read_bootparams_conf(text: str) -> dict[str, str]:
    """The plain files that a text stands for. Raises Refused, naming the line, for one that is none of ours."""
    files: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise Refused(f"line {number} of bootparams.conf is not name='value'", "have the disk written anew")
        files[_path(match[1])] = _ESCAPE.sub(lambda escape: _MEANT[escape[0]], match[2])
    return files


def _name(path: str) -> str:
    return path.removeprefix(PARAMETERS) if path.startswith(PARAMETERS) else OURS + path


def _path(name: str) -> str:
    return name.removeprefix(OURS) if name.startswith(OURS) else PARAMETERS + name


def _escaped(content: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in content)
