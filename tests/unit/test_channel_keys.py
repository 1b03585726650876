"""Key pairs and the management key's file."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vcl_provision.channels.keys import management_key, new_host_key
from vcl_provision.model.faults import SettingsError


def test_each_load_gets_another_host_key() -> None:
    one, other = new_host_key(), new_host_key()
    assert one.public.startswith("ssh-ed25519 AAAA")
    assert one.public != other.public
    assert "PRIVATE KEY" in one.private.reveal()
    assert "PRIVATE KEY" not in repr(one)


def test_the_management_key_is_made_once_for_all_who_ask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "id_ed25519"
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(management_key, path) for _ in range(32)]
    assert len({one.result().public for one in asked}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["id_ed25519"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    management_key(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        management_key(path)


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text("not a key")
    with pytest.raises(SettingsError, match=r"the management key .*key cannot be used: .*ssh-keygen"):
        management_key(path)


def test_a_key_where_none_can_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be read or made"):
        management_key(tmp_path / "file" / "key")
