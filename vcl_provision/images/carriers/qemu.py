"""What QEMU hands to a guest without a disk: a file by fw_cfg, strings and a serial number by SMBIOS.

fw_cfg: https://www.qemu.org/docs/master/specs/fw_cfg.html; SMBIOS: DMTF DSP0134, type 1 (serial number) and type 11
(OEM strings). The strings stand on QEMU's command line and in libvirt's description: whoever is on the VM host reads
them.
"""

from __future__ import annotations

from vcl_provision.images.carriers.plain import SECRET, bootparams_conf, bootparams_lines, plain_files
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.faults import Refused

FW_CFG_NAME = "opt/vcl_provision/bootparams.conf"
_PREFIX = "vcl:"
_MOST_STRINGS, _MOST_BYTES = 255, 32 * 1024
"""A structure of SMBIOS counts its strings in a byte; all tables together have 64 KiB."""


def fw_cfg_file(firstboot: FirstBoot) -> str:
    """The file's content: everything. Keep it readable for the hypervisor only."""
    return bootparams_conf(plain_files(firstboot))


def fw_cfg_secrets(firstboot: FirstBoot) -> str:
    """The file's content when the rest comes as strings: what they must not say."""
    return bootparams_conf({path: text for path, text in plain_files(firstboot).items() if path in SECRET})


def oem_strings(firstboot: FirstBoot) -> list[str]:
    """Everything but the two secrets. Parameters too: whoever wants them unseen takes another carrier.

    Raises Refused if that is more than SMBIOS holds.
    """
    public = {path: text for path, text in plain_files(firstboot).items() if path not in SECRET}
    strings = [f"{_PREFIX}{line}" for line in bootparams_lines(public)]
    size = sum(len(text.encode()) + 1 for text in strings)
    if len(strings) > _MOST_STRINGS or size > _MOST_BYTES:
        limit = f"{_MOST_STRINGS} strings of together {_MOST_BYTES} bytes"
        said = f"{len(strings)} strings of {size} bytes are more than SMBIOS takes: {limit}"
        raise Refused(said, "use fw_cfg or a disk for this machine")
    return strings


def pull_serial(url: str) -> str:
    """The serial number that sends cloud-init, and guests without it, to `url` (which ends in a slash)."""
    return f"ds=nocloud-net;s={url}"
