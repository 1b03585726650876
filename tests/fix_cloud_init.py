"""cloud-init itself, unpacked and not installed: what stock images make of what we tell them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent.parent
_NEEDS = (
    *("attr", "certifi", "chardet", "configobj", "idna", "jinja2", "json-pointer", "jsonpatch", "jsonschema"),
    *("markupsafe", "netifaces", "oauthlib", "pyrsistent", "requests", "serial", "six", "urllib3", "yaml"),
)
PACKAGES = ("cloud-init", *(f"python3-{name}" for name in _NEEDS))

_SCRIPT = """
import json, sys
sys.path[:0] = [sys.argv[1]]
from cloudinit import dmi, helpers
from cloudinit.sources import DataSourceNoCloud, DataSourceVMware
from cloudinit.config.schema import get_schema, validate_cloudconfig_file
asked = json.loads(sys.argv[2])
dmi.read_dmi_data = asked.get("dmi", {}).get  # this machine's own firmware says other things
sources = {"net": DataSourceNoCloud.DataSourceNoCloudNet, "disk": DataSourceNoCloud.DataSourceNoCloud,
           "vmware": DataSourceVMware.DataSourceVMware}
if "check" in asked:
    validate_cloudconfig_file(asked["check"], get_schema())
    sys.exit()
paths = helpers.Paths({"cloud_dir": asked["folder"], "run_dir": asked["folder"]})
source = sources[asked["source"]]({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
found = source._get_data()
user = source.userdata_raw or ""
print(json.dumps([found, source.metadata, user if isinstance(user, str) else user.decode()]))
"""


@dataclass(frozen=True, kw_only=True)
class CloudInit:
    """Debian's cloud-init, its data sources and its schema."""

    packages: Path

    def check(self, user_data: Path) -> None:
        """Its own check of a cloud-config: what `cloud-init schema --config-file` does."""
        self._run({"check": str(user_data)})

    def learns(self, source: str, folder: Path, *, firmware: Mapping[str, str] | None = None, path: str = "") -> Any:
        """[whether it found anything, meta data, user data] by the data source `disk`, `net` or `vmware`.

        `folder` stands for /var/lib/cloud, `firmware` for what DMI says, `path` is searched for programs first.
        """
        asked = {"source": source, "folder": str(folder), "dmi": dict(firmware or {})}
        return json.loads(self._run(asked, path=path))

    def _run(self, asked: Mapping[str, object], *, path: str = "") -> str:
        environment = {"PATH": f"{path}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        argv = [sys.executable, "-I", "-W", "ignore", "-c", _SCRIPT, str(self.packages), json.dumps(asked)]
        ran = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()[-1] if ran.stdout else ""


@pytest.fixture(scope="session")
def cloud_init(tmp_path_factory: pytest.TempPathFactory) -> CloudInit:
    """Fetched from Debian by the machine's own apt, unpacked where only the tests see it."""
    folder = tmp_path_factory.mktemp("cloud-init")
    fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *PACKAGES]
    try:
        if subprocess.run(fetch, cwd=folder, check=False, capture_output=True).returncode != 0:
            subprocess.run(["apt-get", "-qq", "update"], check=True, capture_output=True)
            subprocess.run(fetch, cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as no:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"Debian's cloud-init could not be fetched: {no}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
    return CloudInit(packages=folder / "unpacked/usr/lib/python3/dist-packages")
