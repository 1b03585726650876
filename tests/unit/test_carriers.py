"""What each carrier of a first boot holds, and what it refuses to hold."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
import yaml
from a_firstboot import FIRSTBOOT, HASH, HOST

from vcl_provision.images.carriers.plain import bootparams_conf, plain_files, read_bootparams_conf
from vcl_provision.images.carriers.properties import guest_properties, guestinfo
from vcl_provision.images.carriers.qemu import fw_cfg_file, fw_cfg_secrets, oem_strings
from vcl_provision.model.faults import Refused

NASTY = {"A": "'", "b.c-d": "\\n is not\na line end", "_": "$(x) `x` %s \\0047 \\\\", "tab": "\t", "Ü": "never a name"}


def test_the_text_of_all_files_has_a_line_for_each_and_reads_back() -> None:
    told = replace(FIRSTBOOT, parameters={name: text for name, text in NASTY.items() if name.isascii()})
    text = bootparams_conf(plain_files(told))
    assert len(text.splitlines()) == 1 + len(plain_files(told))
    assert read_bootparams_conf(text) == plain_files(told)


def test_no_value_has_an_apostrophe_that_ends_it() -> None:
    """So that a shell that evaluates the text, against all advice, runs nothing of it."""
    text = bootparams_conf(plain_files(replace(FIRSTBOOT, parameters={"x": "'; reboot; '"})))
    assert "x='\\0047; reboot; \\0047'\n" in text


@pytest.mark.parametrize(
    "line", ["x", "x=y", "x='y", "x='y'z'", "x='\\q'", "../x='y'", "vcl/../x='y'", "1x='y'", "x='y' ", "='y'"]
)
def test_a_line_that_is_none_of_ours_is_named(line: str) -> None:
    with pytest.raises(Refused, match=r"line 2 of bootparams\.conf") as refusal:
        read_bootparams_conf(f"# head\n{line}\n")
    assert refusal.value.hint


def test_what_anybody_can_read_has_no_secret_in_it() -> None:
    strings = "\n".join(oem_strings(FIRSTBOOT))
    assert HASH not in strings
    assert "PRIVATE KEY" not in strings
    assert HOST.public in strings


def test_strings_and_file_together_say_what_the_file_alone_says() -> None:
    together = [line.removeprefix("vcl:") for line in oem_strings(FIRSTBOOT)] + fw_cfg_secrets(FIRSTBOOT).splitlines()
    assert sorted(set(together)) == sorted(fw_cfg_file(FIRSTBOOT).splitlines())


def test_vmware_is_given_what_cloud_init_reads_and_has_it_forget_the_keys() -> None:
    told = guestinfo(FIRSTBOOT)
    assert {told["guestinfo.metadata.encoding"], told["guestinfo.userdata.encoding"]} == {"base64"}
    meta: Any = yaml.safe_load(base64.b64decode(told["guestinfo.metadata"]))
    assert (meta["instance-id"], meta["redact"]) == (FIRSTBOOT.instance, ["userdata"])
    assert base64.b64decode(told["guestinfo.userdata"]).startswith(b"#cloud-config\n")
    assert base64.b64decode(told["guestinfo.vcl.bootparams"]).decode() == fw_cfg_file(FIRSTBOOT)


def test_virtualbox_is_given_pieces_that_it_can_keep() -> None:
    properties = guest_properties(replace(FIRSTBOOT, parameters={"long": "x" * 5000}))
    assert list(properties) == [f"/vcl/bootparams/{number}" for number in range(len(properties))]
    assert max(map(len, properties.values())) <= 1023
    whole = base64.b64decode("".join(properties.values())).decode()
    assert read_bootparams_conf(whole)["parameters/long"] == "x" * 5000


@pytest.mark.parametrize(("carrier", "size"), [(oem_strings, 40_000), (guestinfo, 60_000), (guest_properties, 160_000)])
def test_more_than_a_carrier_holds_is_refused_with_the_size(carrier: Any, size: int) -> None:
    with pytest.raises(Refused, match=r"\d{5}") as refusal:
        carrier(replace(FIRSTBOOT, parameters={"big": "x" * size}))
    assert refusal.value.hint


def test_more_strings_than_a_machine_can_count_are_refused() -> None:
    with pytest.raises(Refused, match="255 strings"):
        oem_strings(replace(FIRSTBOOT, parameters={f"p{number}": "" for number in range(252)}))
