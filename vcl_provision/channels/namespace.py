"""Commands on this machine whose mounts and processes nobody else sees, and which end with whoever started them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

from vcl_provision.channels.local import ENVIRONMENT, LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Audit
from vcl_provision.model.faults import Ran, Refused

_READY = b"ready\n"
_MINE = ("--user", "--map-root-user", "--map-auto")


class PrivateNamespace:
    """A channel into a mount and process namespace of its own, kept while it is entered.

    What one command mounts, the next one sees, and nobody outside. When the namespace ends, the kernel kills what still
    runs in it and undoes its mounts, and with them loop devices that detach by themselves: also when this process is
    killed, since the first process in there gets SIGKILL with the thread that entered. Use it in one thread.

    `rootless`: in a user namespace, root inside is the caller outside, and further ids come from /etc/subuid.
    See namespaces(7), unshare(1), nsenter(1). Raises Refused if the kernel or the host does not allow it.
    """

    def __init__(
        self,
        *,
        rootless: bool = False,
        audit: Audit | None = None,
        environment: Mapping[str, str] | None = None,
        where: str = "the build's namespace",
    ) -> None:
        self._rootless = rootless
        self._local = LocalChannel(audit=audit, environment=environment, where=where)
        self._environment = {**ENVIRONMENT, **(environment or {})}
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._holder = holder = subprocess.Popen(  # noqa: S603 - an argument list of our own
            _holding(rootless=self._rootless),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=self._environment,
            start_new_session=True,
        )
        if holder.stdout and holder.stdout.readline() != _READY:
            said = holder.communicate()[1].decode(errors="replace").strip() or "unshare said nothing"
            self.close()
            raise Refused(f"no namespace of its own to be had: {said}", _hint(said, rootless=self._rootless))
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def run(
        self,
        argv: Sequence[str],
        *,
        patience: Patience,
        stdin: bytes = b"",
        name: str = "",
        changes: bool = True,
        accept: Sequence[int] = (0,),
    ) -> Ran:
        """See Channel.run."""
        return self._local.run(
            (*self._entering(), *argv),
            patience=patience,
            stdin=stdin,
            name=name or " ".join(argv[:4]),
            changes=changes,
            accept=accept,
        )

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        """See Channel.put. Onto this machine's own file systems: what is mounted inside is not seen by it."""
        self._local.put(path, content, mode=mode, patience=patience)

    def close(self) -> None:
        """Ends everything inside."""
        holder, self._holder = self._holder, None
        if holder is None:
            return
        with suppress(ProcessLookupError):
            holder.kill()
        holder.wait()
        for stream in (holder.stdout, holder.stderr):
            if stream is not None:
                stream.close()

    def _entering(self) -> Sequence[str]:
        if self._holder is None:
            raise Refused("the namespace has not been entered", "use it in a with statement")
        own = f"/proc/{self._holder.pid}/ns"
        user = (f"--user={own}/user",) if self._rootless else ()
        return ("nsenter", *user, f"--mount={own}/mnt", f"--pid={own}/pid_for_children", "--")


def _holding(*, rootless: bool) -> Sequence[str]:
    """`sleep` is the namespace's first process. It dies with unshare, unshare with the thread that started it."""
    return (
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", *(_MINE if rootless else ()), "--mount", "--propagation", "private"),
        *("--pid", "--fork", "--kill-child", "--mount-proc"),
        *("sh", "-c", "echo ready; exec sleep infinity"),
    )


def _hint(said: str, *, rootless: bool) -> str:
    if not rootless:
        return "root in a container needs CAP_SYS_ADMIN; elsewhere run it with sudo"
    if "newuidmap" in said or "uid_map" in said or "subuid" in said:
        name = os.environ.get("USER", "YOU")
        return f"apt-get install uidmap; and a line {name}:100000:65536 in /etc/subuid and /etc/subgid"
    return "this kernel lets only root make namespaces: run it with sudo"
