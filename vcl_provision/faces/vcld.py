"""The program `vcld`: the daemon of a management node, in the foreground.

Of two options the standard library's parser makes enough; the one of `vcl` would be a tenth of the daemon's memory.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vcl_provision import __version__
from vcl_provision.daemon import service
from vcl_provision.daemon.settings import read_settings
from vcl_provision.faces.errors import run_clearly
from vcl_provision.faces.logs import set_up_logs
from vcl_provision.faces.notify import SystemdNotifier
from vcl_provision.faces.output import err

ABOUT = "The management node: takes reservations from the database, gets machines ready, takes them back."
SIGNALS = "SIGTERM: claims nothing more, drains, hands back what it holds, ends. SIGHUP: reads the settings again."
SETTINGS = "settings; else what VCL_CONF names, else /etc/vcl-provision/vcld.toml"


def run_daemon(conf: Path | None) -> int:
    """Runs the daemon in this process until it is told to stop; its exit status."""
    settings = read_settings(conf)
    set_up_logs(settings.log)
    return service.run(settings, SystemdNotifier())


def _run() -> None:
    parser = argparse.ArgumentParser("vcld", description=ABOUT, epilog=SIGNALS)
    parser.add_argument("--conf", metavar="FILE", type=Path, default=os.environ.get("VCL_CONF") or None, help=SETTINGS)
    parser.add_argument("--version", action="version", version=f"vcld {__version__}", help="say which version this is")
    raise SystemExit(run_daemon(parser.parse_args().conf))


def main() -> None:
    """The entry point of `vcld`."""
    raise SystemExit(run_clearly(_run, err))


if __name__ == "__main__":
    main()
