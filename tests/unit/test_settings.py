"""The settings: what is right is read, what is wrong is named with its file, its key and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcl_provision.daemon.settings import Settings, read_settings
from vcl_provision.model.faults import SettingsError


def settings_of(folder: Path, text: str, **environ: str) -> Settings:
    (folder / "vcld.toml").write_text(text)
    return read_settings(folder / "vcld.toml", environ=environ)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as no:
        settings_of(folder, text)
    said = str(no.value)
    assert said.startswith(str(folder / "vcld.toml"))
    return said.removeprefix(f"{folder / 'vcld.toml'}: ")


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, '[work]\nworkers = 8\nlease = "2 min"\n')
    assert (settings.work.workers, settings.work.lease, settings.work.tick) == (8, 120, 5)


def test_lengths_of_time_are_read_in_the_timings_too(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, '[timing]\nacknowledgetimeout = "1 h"\nreconnecttimeout = 60\n')
    assert (settings.timing.acknowledgetimeout, settings.timing.reconnecttimeout) == (3600, 60)


def test_an_unknown_key_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert refused(tmp_path, "[work]\nworker = 8\n") == "[work] has no setting 'worker'; did you mean 'workers'?"


def test_an_unknown_table_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert refused(tmp_path, "[databse]\n") == "there is no table [databse]; did you mean 'database'?"


def test_a_key_that_is_near_nothing_is_answered_with_all_there_are(tmp_path: Path) -> None:
    said = refused(tmp_path, "[breaker]\nxyz = 1\n")
    assert said == "[breaker] has no setting 'xyz'; there is cooldown, failures"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[work]\nworkers = "many"', "[work] workers = 'many': give a whole number"),
        ("[work]\nworkers = true", "[work] workers = True: give a whole number"),
        ("[work]\nworkers = 0", "[work]: workers must be 1 or more"),
        ("[work]\nlease = 1", "[work]: lease must be 3 s or more: it is renewed three times in its life"),
        ('[work]\ntick = "5 ells"', "[work] tick = '5 ells': 'ells' is no unit of time; use ms, s, min, h, d"),
        ("[work]\ntick = []", "[work] tick = []: give a duration, as seconds or like '300 s', '15 min'"),
        ("[work]\ndrain = -1", "[work] drain = -1: give a duration, as seconds or like '300 s', '15 min'"),
        ('[log]\nformat = "xml"', "[log] format = 'xml': give one of auto, console, json"),
        ("[modules]\nmodule_path = 'here'", "[modules] module_path = 'here': give a list"),
        ("[firstboot.parameters]\nzone = 1", "[firstboot] parameters.zone = 1: give a text in quotes"),
        ("[firstboot]\npull_listen = '8088'", "[firstboot]: pull_listen must be ADDRESS:PORT"),
        ("[firstboot]\npull_url = 'https://node'", "[firstboot]: pull_url must begin with http://"),
        ("[firstboot]\npull_lasts = 0", "[firstboot]: pull_lasts must be more than 0 s"),
        ("node = 'a'", "node is a table; write [node] on a line of its own"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_would_be_right(tmp_path: Path, text: str, said: str) -> None:
    assert refused(tmp_path, text) == said


def test_a_parameter_that_no_carrier_could_bring_is_named_at_the_start(tmp_path: Path) -> None:
    said = refused(tmp_path, "[firstboot.parameters]\n1st = 'x'")
    assert said.startswith("[firstboot]: parameters: '1st' cannot be a parameter's name: letters, digits")


def test_what_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    assert "is not TOML" in refused(tmp_path, "[work]\nworkers = \n")
    assert "line 2" in refused(tmp_path, "[work]\nworkers = \n")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read: No such file"):
        read_settings(tmp_path / "nowhere.toml", environ={})


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "vcld.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        read_settings(tmp_path / "vcld.toml", environ={})


def test_vcl_conf_names_the_file_and_vcl_dsn_wins_over_it(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[node]\nname = "mn1"\n[database]\ndsn = "dbname=a"\n')
    environ = {"VCL_CONF": str(tmp_path / "other.toml"), "VCL_DSN": "dbname=b"}
    settings = read_settings(environ=environ)
    assert (settings.node.known_as, settings.database.dsn) == ("mn1", "dbname=b")


def test_relative_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, '[modules]\nmodule_path = ["mine", "/srv/modules"]\n')
    assert settings.modules.module_path == (tmp_path / "mine", Path("/srv/modules"))


def test_options_of_modules_are_handed_on_as_they_are(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, '[modules.libvirt]\ndisk = "qcow2"\n')
    assert settings.modules.options == {"libvirt": {"disk": "qcow2"}}


def test_a_password_in_the_connection_string_is_not_shown() -> None:
    settings = read_settings(environ={"VCL_DSN": "postgresql://vcl:hush@db/vcl", "VCL_CONF": "/dev/null"})
    assert "hush" not in repr(settings)
