"""A real guest is told who it is: by each carrier that QEMU brings, and by stand-ins of two other hypervisors."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fix_guests import BareGuest, drive

from vcl_provision.channels.keys import KeyPair, new_host_key, new_key
from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.images.carriers.bootparams import BootparamsDisk
from vcl_provision.images.carriers.properties import guest_properties, guestinfo
from vcl_provision.images.carriers.qemu import fw_cfg_secrets, oem_strings
from vcl_provision.images.carriers.vfat import nocloud_vfat
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.secret import Secret

BOOT = 240.0
HASH = "$6$saltsalt$Zr0zM2fQ1aJ3E0c8y5b7H9K1l3N5p7R9t1V3x5Z7b9D1f3H5j7L9n1P3r5T7v9X1z3B5d7F9h1J3l5N7p9R1t."
NASTY = 'grüße: "it\'s" $(reboot) `reboot` \\n \\ %s\n\t-x\n'
FIRST_BOOT = "/usr/lib/vcl/first-boot"

VMWARE = """#!/bin/sh
# Stands in for open-vm-tools' program: what it prints and how it ends, as its manual says.
case $1 in
'info-get '*) cat "/stand-in/${1#info-get }" 2> /dev/null || { echo 'No value found'; exit 1; } ;;
'info-set '*) set -- $1; printf %s "$3" > "/stand-in/$2" ;;
esac
"""
VIRTUALBOX = """#!/bin/sh
# Stands in for the Guest Additions' program: what it prints and how it ends, as its manual says.
[ "$1 $2" = '-nologo guestproperty' ] || exit 1
file=/stand-in/$(echo "$4" | tr / _)
case $3 in
get) if [ -e "$file" ]; then echo "Value: $(cat "$file")"; else echo 'No value set!'; fi ;;
unset) rm "$file" ;;
esac
"""


def told(instance: str, key: KeyPair) -> FirstBoot:
    """Another machine for each carrier."""
    host = new_host_key()
    return FirstBoot(
        instance=instance,
        hostname=f"by-{instance}",
        host_key=host.public,
        host_key_private=host.private,
        management_keys=[key.public],
        root_password_hash=Secret(HASH + instance),
        parameters={"greeting": NASTY, "carrier.name": instance, "empty": ""},
    )


@dataclass(frozen=True, kw_only=True)
class Told:
    """A guest that is up, with what each carrier beside it says."""

    guest: BareGuest
    by: Mapping[str, FirstBoot]

    def says(self, command: str, *, stdin: str = "") -> str:
        whole = f"printf %s {shlex.quote(stdin)} | ({command})" if stdin else command
        answer = self.guest.run(whole, Patience(60))
        assert answer.status == 0, (command, answer)
        return answer.stdout

    def hear(self, carrier: str) -> None:
        """Runs the guest's own script again, for one carrier."""
        self.says(f"{FIRST_BOOT} {carrier}")

    def assert_is(self, told: FirstBoot) -> None:
        """All of it, to the byte; and nothing else of what it was before."""
        assert self.says("hostname; cat /etc/hostname").split() == [told.hostname] * 2
        assert self.says("cat /etc/ssh/ssh_host_*_key") == told.host_key_private.reveal()
        assert self.says("cat /etc/ssh/ssh_host_*.pub") == told.host_key + "\n"
        assert self.says("cat /root/.ssh/authorized_keys") == "".join(f"{key}\n" for key in told.management_keys)
        assert told.root_password_hash
        assert told.root_password_hash.reveal() in self.says("getent shadow root")
        assert sorted(self.says("ls /etc/vcl/parameters").split()) == sorted(told.parameters)
        for name, value in told.parameters.items():
            assert self.says(f"cat /etc/vcl/parameters/{name}") == value

    def assert_nothing_is_left(self) -> None:
        """Neither mounted nor lying about."""
        assert not [kind for kind in ("iso9660", "vfat", "ext2") if f" {kind} " in self.says("cat /proc/mounts")]
        assert self.says("ls /run").split().count("vcl-first-boot") == 0

    def forget(self) -> None:
        """As an image that was captured: it was never told anything."""
        self.says("rm -f /var/lib/vcl/instance")


@pytest.fixture(scope="module")
def machine(small_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """One machine beside which every carrier lies; it takes the FAT disk at its boot, being what it asks first."""
    folder = tmp_path_factory.mktemp("carriers")
    key = new_key()
    by = {name: told(name, key) for name in ("vfat", "bootparams", "qemu", "vmware", "virtualbox")}
    carriers = [*_disks(by, folder), *_qemu(by["qemu"], folder)]
    with BareGuest(small_image, folder / "guest", by["vfat"], key, carriers=carriers) as guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        yield Told(guest=guest, by=by)


def _disks(by: Mapping[str, FirstBoot], folder: Path) -> list[str]:
    channel, patience = LocalChannel(), Patience(60)
    vfat, bootparams = folder / "vfat.img", folder / "bootparams.img"
    vfat.write_bytes(nocloud_vfat(by["vfat"], channel=channel, patience=patience))
    BootparamsDisk(path=str(bootparams), channel=channel).make(by["bootparams"], patience=patience)
    return [*drive(vfat, "raw,readonly=on"), *drive(bootparams, "raw")]


def _qemu(told: FirstBoot, folder: Path) -> list[str]:
    """What is secret in the file, the rest as strings: as the libvirt module does it."""
    secrets = folder / "fw_cfg"
    secrets.write_text(fw_cfg_secrets(told), encoding="utf-8")
    arguments = ["-fw_cfg", f"name=opt/vcl_provision/bootparams.conf,file={secrets}"]
    for string in oem_strings(told):
        arguments += ["-smbios", f"type=11,value={string.replace(',', ',,')}"]
    return arguments


def test_a_machine_takes_the_fat_disk_at_its_boot(machine: Told) -> None:
    machine.assert_is(machine.by["vfat"])
    machine.assert_nothing_is_left()


def test_a_machine_reads_its_bootparams_disk_and_lets_it_go(machine: Told) -> None:
    machine.hear("bootparams")
    machine.assert_is(machine.by["bootparams"])
    machine.assert_nothing_is_left()


def test_a_machine_puts_together_what_strings_and_the_file_of_qemu_say(machine: Told) -> None:
    machine.hear("qemu")
    machine.assert_is(machine.by["qemu"])
    machine.assert_nothing_is_left()


def test_a_machine_is_told_once_by_the_same_instance(machine: Told) -> None:
    machine.hear("qemu")
    machine.says("echo mine > /etc/hostname")
    machine.hear("qemu")
    assert machine.says("cat /etc/hostname") == "mine\n"


def test_a_machine_takes_vmwares_properties_once_and_takes_them_back(machine: Told) -> None:
    """A stand-in answers for VMware, whose program it is named for."""
    for key, value in guestinfo(machine.by["vmware"]).items():
        machine.says(f"mkdir -p /stand-in; cat > /stand-in/{key}", stdin=value)
    machine.says("cat > /usr/bin/vmware-rpctool; chmod 755 /usr/bin/vmware-rpctool", stdin=VMWARE)
    machine.forget()
    machine.hear("vmware")
    machine.assert_is(machine.by["vmware"])
    machine.assert_nothing_is_left()
    assert machine.says("cat /stand-in/guestinfo.vcl.bootparams") == "---"


def test_what_a_user_writes_into_properties_later_is_not_heard(machine: Told) -> None:
    machine.forget()
    machine.hear("qemu")
    worse = replace(machine.by["vmware"], instance="worse", hostname="worse")
    machine.says("cat > /stand-in/guestinfo.vcl.bootparams", stdin=guestinfo(worse)["guestinfo.vcl.bootparams"])
    machine.hear("vmware")
    assert machine.says("hostname") == "by-qemu\n"


def test_a_machine_takes_virtualboxs_properties_once_and_takes_them_back(machine: Told) -> None:
    """A stand-in answers for VirtualBox, whose program it is named for."""
    properties = guest_properties(machine.by["virtualbox"])
    assert len(properties) > 1
    for key, value in properties.items():
        machine.says(f"mkdir -p /stand-in; cat > /stand-in/{key.replace('/', '_')}", stdin=value)
    machine.says("cat > /usr/bin/VBoxControl; chmod 755 /usr/bin/VBoxControl", stdin=VIRTUALBOX)
    machine.forget()
    machine.hear("virtualbox")
    machine.assert_is(machine.by["virtualbox"])
    machine.assert_nothing_is_left()
    assert "bootparams" not in machine.says("ls /stand-in | grep -v guestinfo || true")


def test_lines_that_are_none_of_ours_write_nothing(machine: Told) -> None:
    good = guestinfo(replace(machine.by["vmware"], instance="hostile"))["guestinfo.vcl.bootparams"]
    bad = "vcl/../../etc/evil='x'\n../evil='x'\nvcl/.evil='x'\nvcl/a/b='x'\n.evil='x'\nno line\n=''\nevil=x\nevil='x\n"
    value = base64.b64encode(base64.b64decode(good) + bad.encode()).decode()
    machine.says("cat > /stand-in/guestinfo.vcl.bootparams", stdin=value)
    machine.forget()
    machine.hear("vmware")
    machine.assert_is(machine.by["vmware"])
    assert machine.says("find / -xdev -name '*evil*'") == ""


def test_a_carrier_that_there_is_not_is_an_error(machine: Told) -> None:
    answer = machine.guest.run(f"{FIRST_BOOT} pigeon", Patience(60))
    assert (answer.status, answer.stderr) == (2, "first-boot: there is no carrier pigeon\n")
