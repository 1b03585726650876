"""From an installed system to the guest that a spec describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vcl_provision.images.builder.accounts import make_accounts
from vcl_provision.images.builder.disks.layout import Layout
from vcl_provision.images.builder.disks.placing import SECTOR, filesystems, place
from vcl_provision.images.builder.distributions import Distribution, Guest
from vcl_provision.images.builder.machine_keys import forget_keys
from vcl_provision.images.builder.once import lay_scripts
from vcl_provision.images.builder.spec import Copied, Initrd
from vcl_provision.images.builder.trees import GUEST_TREES
from vcl_provision.model.faults import Refused
from vcl_provision.model.secret import Secret

Say = Callable[[str], None]
POLICY = "usr/sbin/policy-rc.d"
_IDENTITY = ("etc/ssh/ssh_host_*", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed")
_TRACES = (
    "etc/resolv.conf",  # the host's
    "etc/.resolv.conf.systemd-resolved.bak",  # likewise, as systemd-resolved found it
    "etc/hostname",  # likewise
    *_IDENTITY,
)
_LEFT_BY_SCRIPTS = ("root/.bash_history", "tmp/*", "var/tmp/*", "etc/*-", "var/cache/ldconfig/aux-cache")
_HERE = "run/vcl-build"


def configure(
    guest: Guest, distribution: Distribution, layout: Layout, passwords: Mapping[str, Secret], say: Say
) -> None:
    """Everything between the base system and the disks. No service starts: the policy is there until the end.

    Raises CommandFailed if a script or a program fails, Refused for what the tree turns out not to have.
    """
    guest.tree.write(POLICY, "#!/bin/sh\nexit 101\n", 0o755)
    _enter(guest)
    try:
        say("settings")
        for pattern in _TRACES:
            guest.tree.remove(pattern)
        _names(guest)
        _time_zone(guest)
        distribution.configure(guest)
        say("accounts and files")
        make_accounts(guest, passwords)
        for copied in guest.spec.files:
            _copy(copied, guest)
        lay_scripts(guest)
        _run_scripts(guest, say)
        if guest.spec.packages.remove:
            say("removing packages")
            distribution.remove(guest, guest.spec.packages.remove)
        _growth(guest, layout)
        say("first ram disk")
        _initrd(guest, distribution)
        forget_keys(guest)  # after the scripts, which may have installed more
        _clean(guest)
        distribution.finished(guest)
    finally:
        _leave(guest)
    guest.tree.remove(POLICY)


def kernel_version(guest: Guest) -> str:
    """The newest kernel in the tree. Raises Refused if there is none."""
    found = [path.name.removeprefix("vmlinuz-") for path in guest.tree.place("boot/x").parent.glob("vmlinuz-*")]
    if not found:
        raise Refused("the guest has no kernel in /boot", "kernel.flavour names one; `none` needs output as an archive")
    return max(found, key=_parts)


def _parts(version: str) -> tuple[tuple[int, str], ...]:
    """6.1.0-10 comes after 6.1.0-9."""
    words = version.replace("-", ".").split(".")
    return tuple((int(word), "") if word.isdigit() else (0, word) for word in words)


def _enter(guest: Guest) -> None:
    """What programs expect of a system: mounted in the build's own namespace, gone with it."""
    root = str(guest.tree.root)
    script = """set -e; cd "$1"
    mount -t proc proc proc; mount -t tmpfs -o mode=755 tmpfs run; mount -t tmpfs -o mode=1777 tmpfs tmp
    mount -t tmpfs -o mode=755 tmpfs dev; mkdir dev/pts dev/shm
    for node in null zero full random urandom tty; do : > dev/$node; mount --bind /dev/$node dev/$node; done
    ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
    mount --rbind /sys sys"""
    guest.inside.host.run("sh", "-c", script, "sh", root, name="mount proc, dev and run in the guest")


def _leave(guest: Guest) -> None:
    """Lazily, and whatever is mounted: a script inside may have mounted more, or left something running."""
    script = 'cd "$1"; for place in run tmp dev sys proc; do umount -l "$place" 2>/dev/null || true; done'
    guest.inside.host.run("sh", "-c", script, "sh", str(guest.tree.root), name="unmount all in the guest")


def _names(guest: Guest) -> None:
    system = guest.spec.system
    whole = f"{system.hostname}.{system.domain}" if system.domain else system.hostname
    names = f"{whole} {system.hostname}" if system.domain else whole
    guest.tree.write("etc/hostname", f"{whole}\n")
    hosts = f"127.0.0.1\tlocalhost\n127.0.1.1\t{names}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    guest.tree.write("etc/hosts", hosts)


def _time_zone(guest: Guest) -> None:
    zone = guest.spec.system.timezone
    if not guest.tree.exists(f"usr/share/zoneinfo/{zone}"):
        if zone == "UTC":
            return
        raise Refused(f"the guest knows no time zone {zone}", "add the package tzdata")
    guest.tree.link("etc/localtime", f"/usr/share/zoneinfo/{zone}")
    guest.tree.write("etc/timezone", f"{zone}\n")


def _copy(copied: Copied, guest: Guest) -> None:
    for source in (copied.source, *sorted(copied.source.rglob("*"))) if copied.source.is_dir() else (copied.source,):
        target = f"{copied.target}/{source.relative_to(copied.source)}" if source != copied.source else copied.target
        if source.is_symlink():
            guest.tree.link(target, str(source.readlink()))
        elif source.is_dir():
            guest.tree.folder(target, source.stat().st_mode & 0o7777)
        else:
            guest.tree.write(
                target, source.read_bytes(), int(copied.mode, 8) if copied.mode else source.stat().st_mode & 0o7777
            )
    guest.inside.run("chown", "-hR", copied.owner, copied.target)


def _run_scripts(guest: Guest, say: Say) -> None:
    for number, script in enumerate(guest.spec.scripts.inside):
        say(f"{script.name} inside")
        place = f"{_HERE}/{number}-{script.name}"
        guest.inside.run("mkdir", "-p", f"/{_HERE}")
        guest.inside.run("sh", "-c", 'cat > "$0" && chmod 700 "$0"', f"/{place}", stdin=script.read_bytes())
        guest.inside.run(f"/{place}")
    for script in guest.spec.scripts.host:
        say(f"{script.name} on this host")
        guest.inside.host.run(str(script), str(guest.tree.root), name=script.name)


def _growth(guest: Guest, layout: Layout) -> None:
    """The sectors of the root as it is built: a machine with as many does nothing."""
    if not guest.spec.grow or not guest.spec.managed:
        return
    guest.tree.lay(GUEST_TREES / "grow")
    root = next(one for one in filesystems(place(layout, seed="")) if one.partition.mount == "/")
    if root.size:
        guest.tree.write("var/lib/vcl/root-sectors", f"{root.size // SECTOR}\n")


def _initrd(guest: Guest, distribution: Distribution) -> None:
    if guest.spec.kernel.initrd is not Initrd.NONE:
        distribution.make_initrd(guest, kernel_version(guest))


def _clean(guest: Guest) -> None:
    """No trace and no identity of the build."""
    for pattern in (*_LEFT_BY_SCRIPTS, *_IDENTITY):
        guest.tree.remove(pattern)
    if guest.tree.exists("etc/machine-id"):
        guest.tree.write("etc/machine-id", "")  # made at each clone's first boot
    if not guest.tree.exists("var/log"):
        return
    # Emptied, not removed: some belong to a service, which could not make them again in root's folder.
    logs = ("find", str(guest.tree.root / "var/log"), "-xdev", "-type", "f")
    guest.inside.host.run(*logs, "-exec", "truncate", "--size=0", "{}", "+", name="empty the logs of the guest")
