"""What a machine is told at its first boot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vcl_provision.model.faults import Refused
from vcl_provision.model.secret import Secret

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}(?: [ -~]*)?")
_KEY_LINE = re.compile(r"[!-~][ -~]*")
_CRYPT = re.compile(r"\$[./A-Za-z0-9$=,_-]{8,400}")
_TEXT = re.compile(r"[\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class FirstBoot:
    """One description for every carrier.

    `instance` changes with each load; `host_key` is the public line, `host_key_private` the OpenSSH private key text;
    `management_keys` are lines of authorized_keys for root; `root_password_hash` a crypt(5) string; `parameters` are
    for whatever runs inside. Raises Refused for what a guest could not use or what could break out of its place.
    """

    instance: str
    hostname: str
    host_key: str
    host_key_private: Secret
    management_keys: Sequence[str] = ()
    root_password_hash: Secret | None = None
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Refuses here, so that no carrier has to quote."""
        check_hostname(self.hostname)
        _check(_INSTANCE, self.instance, "an instance id", "letters, digits, dots, dashes, at most 128")
        _check(_HOST_KEY, self.host_key, "a public host key", "it reads `ssh-ed25519 AAAA...`")
        for line in self.management_keys:
            _check(_KEY_LINE, line, "a management key", "one line of authorized_keys each, without a line end")
        if self.root_password_hash and not _CRYPT.fullmatch(self.root_password_hash.reveal()):
            raise Refused("the hash of root's password is none", "give a crypt(5) string, as `openssl passwd -6` makes")
        check_parameters(self.parameters)


def check_parameters(parameters: Mapping[str, str]) -> None:
    """Raises Refused for a name or a value that not every carrier can bring."""
    for name, value in parameters.items():
        _check(_PARAMETER, name, "a parameter's name", "letters, digits, `_.-`, at most 64, not a digit first")
        _check_text(name, value)


def check_hostname(name: str) -> None:
    """Raises Refused for a name that a Linux kernel or a name server would not take."""
    _check(_HOSTNAME, name, "a host name", "labels of letters, digits, inner dashes, at most 63 each, joined by dots")
    if len(name) > 64:  # what Linux keeps: sethostname(2)
        raise Refused(f"{name!r} cannot be a host name: {len(name)} characters", "at most 64 fit into a Linux kernel")


def _check_text(name: str, value: str) -> None:
    """What YAML and a shell read alike: no control characters but tab and line end, no line ends of Unicode's own."""
    if not _TEXT.fullmatch(value):
        raise Refused(f"the parameter {name} holds control characters", "encode it, in base64 for example")


def _check(pattern: re.Pattern[str], text: str, what: str, hint: str) -> None:
    if not pattern.fullmatch(text):
        raise Refused(f"{text!r} cannot be {what}", hint)
