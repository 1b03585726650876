"""Keys that packages made for themselves while they were installed: no image has them, each machine makes its own."""

from __future__ import annotations

from collections.abc import Sequence

from vcl_provision.images.builder.distributions import Guest
from vcl_provision.images.builder.trees import GUEST_TREES

_SCRIPT = "usr/lib/vcl/machine-keys"
_MAKERS = ("make-ssl-cert", "xrdp-keygen", "iscsi-iname", "nvme")
"""Programs that the script makes keys and names with: what it is about if one of them is there."""
_PEM = "-----BEGIN [A-Z ]*PRIVATE KEY-----"
_A_MACHINES_OWN = ("etc", "home", "opt", "root", "srv", "usr/local", "var")


def forget_keys(guest: Guest) -> None:
    """Takes the keys out, and lays in what makes each machine's own. ssh's are made by `first-boot` where that is."""
    makers = _MAKERS if guest.spec.managed else (*_MAKERS, "sshd")
    if not any(guest.inside.has(program) for program in makers):
        return
    guest.tree.lay(GUEST_TREES / "machine-keys")
    guest.inside.run(f"/{_SCRIPT}", "forget")
    if guest.tree.exists("usr/lib/systemd/systemd"):
        guest.inside.run("systemctl", "enable", "vcl-machine-keys.service")


def private_keys(guest: Guest) -> Sequence[str]:
    """Paths of private keys (PEM) that are in it all the same, sorted: every machine of the image will have them."""
    root = guest.tree.root
    places = [str(root / name) for name in _A_MACHINES_OWN if guest.tree.exists(name)]
    looking = ("grep", "-r", "-l", "-s", "-I", "--exclude-dir=dpkg", "-e", _PEM, "--", *places)
    found = guest.inside.host.run(*looking, name="look for private keys", accept=(0, 1)).stdout
    return sorted(path.removeprefix(str(root)) for path in found.splitlines())
