"""What a spec leaves open, decided: by the distribution, by this host, by names that follow from others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vcl_provision.images.builder.distributions import DISTRIBUTIONS
from vcl_provision.images.builder.spec import HOST, BuildSpec
from vcl_provision.model.faults import Refused

_LOCALE_FILES = (Path("/etc/default/locale"), Path("/etc/locale.conf"))
_KEYBOARD = Path("/etc/default/keyboard")
_LOCALTIME = Path("/etc/localtime")
_ZONES = "/zoneinfo/"


def settled(spec: BuildSpec) -> BuildSpec:
    """The spec with nothing left open. Raises Refused if this host has not what is to be taken from it."""
    spec = DISTRIBUTIONS[spec.distribution].settled(spec)
    system = replace(
        spec.system,
        hostname=spec.system.hostname or spec.distribution,
        locale=_host_locale() if spec.system.locale == HOST else spec.system.locale,
        timezone=_host_timezone() if spec.system.timezone == HOST else spec.system.timezone,
        keymap=_host_keymap() if spec.system.keymap == HOST else spec.system.keymap,
    )
    network = replace(spec.network, mac=spec.network.mac.lower())
    return replace(spec, system=system, network=network)


def default_name(spec: BuildSpec) -> str:
    """`HOSTNAME-SUITE-ARCH-vm`, as VMBuilder's users expect."""
    return f"{spec.system.hostname}-{spec.suite}-{spec.architecture}-vm"


def _host_locale() -> str:
    for file in _LOCALE_FILES:
        locale = _value(file, "LANG")
        if locale:
            return locale
    return "C.UTF-8"  # what a system without the file has


def _host_timezone() -> str:
    target = str(_LOCALTIME.resolve())
    return target.partition(_ZONES)[2] or "UTC"


def _host_keymap() -> str:
    layout, variant = _value(_KEYBOARD, "XKBLAYOUT"), _value(_KEYBOARD, "XKBVARIANT")
    if not layout:
        raise Refused(f"this host has no keymap: {_KEYBOARD} does not say one", "name it: --keymap de")
    return f"{layout} {variant}".strip()


def _value(file: Path, name: str) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    words = [line.partition("=")[2].strip("\"' ") for line in lines if line.startswith(f"{name}=")]
    return words[-1] if words else ""
