"""What a machine is told in tests: something of everything, in characters that need care."""

from __future__ import annotations

from vcl_provision.channels.keys import new_host_key
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.secret import Secret

HASH = "$6$rounds=5000$saltsalt$Zr0zM2fQ1aJ3E0c8y5b7H9K1l3N5p7R9t1V3x5Z7b9D1f3H5j7L9n1P3r5T7v9X1z3B5d7F9h1J3l5N7p9R1t."
HOST = new_host_key()
FIRSTBOOT = FirstBoot(
    instance="r17-4c1d",
    hostname="vm17",
    host_key=HOST.public,
    host_key_private=HOST.private,
    management_keys=["ssh-ed25519 AAAAC3Nz one", 'from="10.0.0.1",no-pty ssh-ed25519 AAAAC3Nz two'],
    root_password_hash=Secret(HASH),
    parameters={"greeting": 'grüße: "it\'s"\n\t- & *x #y\n', "EMPTY": ""},
)
