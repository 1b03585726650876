"""Scripts of one's own that run in the booted machine: once before anyone logs in, once with the first who does."""

from __future__ import annotations

from vcl_provision.images.builder.distributions import Guest
from vcl_provision.images.builder.trees import GUEST_TREES

FIRST_BOOT = "usr/lib/vcl/once/first-boot"
FIRST_LOGIN = "usr/lib/vcl/once/first-login"


def lay_scripts(guest: Guest) -> None:
    """Each by itself: one is laid in whether or not the other is given."""
    scripts = guest.spec.scripts
    if scripts.first_boot is not None:
        guest.tree.lay(GUEST_TREES / "first-boot-script")
        guest.tree.write(FIRST_BOOT, scripts.first_boot.read_bytes(), 0o755)
        if guest.tree.exists("usr/lib/systemd/systemd"):
            guest.inside.run("systemctl", "enable", "vcl-first-boot-script.service")
    if scripts.first_login is not None:
        guest.tree.lay(GUEST_TREES / "first-login-script")
        guest.tree.write(FIRST_LOGIN, scripts.first_login.read_bytes(), 0o755)
        # Whoever comes first makes the mark: a folder, since only one can succeed in making it.
        guest.tree.folder("var/lib/vcl")
        guest.tree.folder("var/lib/vcl/first-login", 0o1777)
