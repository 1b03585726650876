"""Ubuntu: Debian's way with other names. Its archive has updates and security fixes under one address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vcl_provision.images.builder.distributions.debian import Debian
from vcl_provision.images.builder.spec import BuildSpec

KEYRING = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")


class Ubuntu(Debian):
    """LTS releases; kernels by their metapackages: virtual, generic, lowlatency."""

    name = "ubuntu"
    origin = "Ubuntu"
    suites = ("noble", "jammy")
    flavour = "virtual"

    def kernel_packages(self, spec: BuildSpec) -> Sequence[str]:
        return (f"linux-image-{spec.kernel.flavour}",)

    def mirror_suites(self, suite: str) -> Sequence[str]:
        return (suite, f"{suite}-updates", f"{suite}-security")

    def problems(self, spec: BuildSpec) -> Iterator[str]:
        yield from super().problems(spec)
        if spec.source.mirrors and not spec.source.keyring and not KEYRING.exists():
            yield f"nothing here knows the keys of Ubuntu's archive: give them with --keyring, or as {KEYRING}"
