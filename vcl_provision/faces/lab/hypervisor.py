"""The module that brings up a hypervisor of one's own on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from vcl_provision.drivers.loading import Listed, Modules
from vcl_provision.drivers.provisioner import LocalHost
from vcl_provision.faces.lab.folder import SIMULATED
from vcl_provision.model.faults import Refused

WITHOUT = "without a hypervisor there is the same lab on a simulated one: vcl up --sim"


def local_host(name: str) -> type[LocalHost]:
    """The named module as what brings up its hypervisor. Raises BrokenModule, Refused if it does not do that."""
    module = Modules().provisioner(name)
    if LocalHost not in module.__mro__:
        raise Refused(f"the module {name!r} sets up no hypervisor of its own", "vcl module list: those with LocalHost do")
    return cast("type[LocalHost]", module)


def require_fit(name: str, host: type[LocalHost]) -> None:
    """Raises Refused, with all that this machine lacks."""
    missing = host.missing()
    if missing:
        raise Refused(f"for {name} this machine lacks:\n" + "\n".join(f"  {line}" for line in missing), WITHOUT)


def usual_module() -> str:
    """The one that can set up a real hypervisor here. Raises Refused if there is none, or more than one."""
    able = [row for row in Modules().listing() if row.kind == "provisioning" and row.name != SIMULATED]
    fit = [row.name for row in able if "LocalHost" in row.capabilities]
    if len(fit) > 1:
        raise Refused(f"several modules can set up a hypervisor here: {', '.join(fit)}", "choose: vcl up --module NAME")
    if not fit:
        raise Refused(_why_none(able), WITHOUT)
    return fit[0]


def _why_none(able: Sequence[Listed]) -> str:
    broken = [f"{row.name}: {row.error}" for row in able if row.error]
    return "no module can set up a hypervisor here" + (f" ({'; '.join(broken)})" if broken else "")
