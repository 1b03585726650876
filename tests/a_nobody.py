"""A program as somebody who is not root, with further ids of their own: in a mount namespace, so that nothing stays."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

UID = 65534
"""That of `nobody`, who is in every passwd: newuidmap asks for the name."""
TOP = Path(__file__).parents[1]
_SCRIPT = """
set -e
uid=$1 ids=$2 folder=$3
shift 3
# where only root may look, show what the interpreter and the project need, and nothing else
kept="$folder-kept"
mkdir "$kept"
number=0
while [ "$1" != -- ]; do
    number=$((number + 1))
    mkdir "$kept/$number"
    mount --bind "$1" "$kept/$number"
    shift
done
shift
mount -t tmpfs -o mode=755 tmpfs /root
number=0
while [ "$1" != -- ]; do
    number=$((number + 1))
    mkdir -p "$1"
    mount --bind "$kept/$number" "$1"
    shift
done
shift
mount --bind "$ids" /etc/subuid
mount --bind "$ids" /etc/subgid
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups env HOME="$folder" "$@"
"""


@contextmanager
def home() -> Generator[Path]:
    """A folder that everybody reaches: pytest's own are root's only."""
    with tempfile.TemporaryDirectory(prefix="vcl-home-") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "home").mkdir()
        yield Path(folder) / "home"


def as_nobody(argv: Sequence[str], folder: Path, *, ids: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs it as nobody; `folder` is given to them. Without `ids` they have no further ones."""
    listed = folder.with_name(f"{folder.name}-ids")
    listed.write_text("nobody:300000:65536\n" if ids else "")
    subprocess.run(("chown", "-R", f"{UID}:{UID}", folder), check=True)
    hidden = [str(path) for path in {Path(sys.base_prefix), TOP} if path.is_relative_to("/root")]
    # twice: the script walks the list to keep, and again to show
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh", str(UID), str(listed))
    whole = (*words, str(folder), *hidden, "--", *hidden, "--", *argv)
    return subprocess.run(whole, capture_output=True, text=True, check=False)
