"""What VMware and VirtualBox keep for a guest to ask for: keys and values, for the modules that drive them to set.

VMware: `guestinfo.*` of the virtual machine's extra configuration, read in the guest by `vmware-rpctool`; cloud-init's
keys are those of its data source VMware (https://docs.cloud-init.io). VirtualBox: guest properties, read by
`VBoxControl` (https://www.virtualbox.org/manual/, chapter Guest Properties); cloud-init has no source for them.

Any user in the guest can read them. Guests take them once and take them back; see docs/first-boot.md.
"""

from __future__ import annotations

import base64

from vcl_provision.images.carriers.cloud_init import meta_data, user_data
from vcl_provision.images.carriers.plain import bootparams_conf, plain_files
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.faults import Refused

BOOTPARAMS_GUESTINFO = "guestinfo.vcl.bootparams"
BOOTPARAMS_PROPERTY = "/vcl/bootparams/"
PROPERTY_FLAGS = "TRANSIENT"
"""For `VBoxManage guestproperty set --flags`: gone with the running machine, nothing of it in its .vbox file."""

_GUESTINFO_LARGEST = 64 * 1024
"""Bytes of one value at most: VMware's RPC carries no more."""
_PIECE, _MOST_PIECES = 1000, 200
"""Characters of one guest property, of which VirtualBox 7 keeps 1023; it keeps 256 properties, its own among them."""
_LARGE = "hand over large parameters by another way, and here only where they lie"


def guestinfo(firstboot: FirstBoot) -> dict[str, str]:
    """Keys and values for VMware. Encoded, since its files know no line ends.

    `redact` has cloud-init take the user data back once it has them. Raises Refused for more than a value holds.
    """
    told = {
        "guestinfo.metadata": _encoded(meta_data(firstboot, more={"redact": ["userdata"]})),
        "guestinfo.userdata": _encoded(user_data(firstboot)),
        BOOTPARAMS_GUESTINFO: _encoded(bootparams_conf(plain_files(firstboot))),
    }
    for key, value in told.items():
        if len(value) > _GUESTINFO_LARGEST:
            said = f"{key} would have {len(value)} bytes, VMware takes {_GUESTINFO_LARGEST}"
            raise Refused(said, _LARGE)
    encodings = {f"{key}.encoding": "base64" for key in ("guestinfo.metadata", "guestinfo.userdata")}
    return told | encodings


def guest_properties(firstboot: FirstBoot) -> dict[str, str]:
    """Keys and values for VirtualBox, set with PROPERTY_FLAGS before the machine starts: a text in numbered pieces.

    Raises Refused for more than a machine's properties hold.
    """
    text = _encoded(bootparams_conf(plain_files(firstboot)))
    pieces = range(0, len(text), _PIECE)
    if len(pieces) > _MOST_PIECES:
        said = f"{len(text)} characters do not fit into VirtualBox's guest properties: {_MOST_PIECES * _PIECE} do"
        raise Refused(said, _LARGE)
    return {f"{BOOTPARAMS_PROPERTY}{number}": text[at : at + _PIECE] for number, at in enumerate(pieces)}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
