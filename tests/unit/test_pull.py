"""What a machine may fetch at its first boot: everything once, to itself, in time; to all others nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count

import pytest
import yaml
from a_firstboot import FIRSTBOOT, HASH, HOST
from a_pull import MemoryOffers

from vcl_provision.images.carriers.plain import plain_files, read_bootparams_conf
from vcl_provision.images.carriers.pull import Answer, Offer, answer, new_offer, pull_url
from vcl_provision.model.secret import Secret

MAC, ADDRESS = "52:54:00:aa:bb:0c", "10.0.0.17"
NUMBERS = count(1)


@dataclass
class Machine:
    """One that was offered something, with the token that its hypervisor handed it."""

    offers: MemoryOffers
    token: Secret = field(init=False)
    offered: Offer = field(init=False)

    def __post_init__(self) -> None:
        self.token, self.offered = new_offer(
            FIRSTBOOT, computer_id=next(NUMBERS), mac=MAC.upper(), address=ADDRESS
        )
        self.offers.offer(self.offered)

    def ask(self, document: str, *, mac: str = MAC, address: str = ADDRESS, token: str = "") -> Answer:
        url = pull_url("http://node:1", mac, Secret(token) if token else self.token)
        return answer(url.removeprefix("http://node:1") + document, address, self.offers)


@pytest.fixture
def machine() -> Machine:
    return Machine(MemoryOffers())


def test_a_guest_without_cloud_init_fetches_everything_at_once(machine: Machine) -> None:
    given = machine.ask("bootparams.conf")
    assert (given.status, given.computer_id) == (200, machine.offered.computer_id)
    assert read_bootparams_conf(given.body) == plain_files(FIRSTBOOT)


def test_cloud_init_fetches_what_it_asks_for_in_its_order(machine: Machine) -> None:
    assert machine.ask("network-config").body == ""
    assert yaml.safe_load(machine.ask("meta-data").body)["local-hostname"] == "vm17"
    assert yaml.safe_load(machine.ask("user-data").body)["ssh_keys"]["ed25519_private"] == HOST.private.reveal()
    assert (machine.ask("vendor-data").status, machine.ask("vendor-data").body) == (200, "")


@pytest.mark.parametrize("first", ["user-data", "bootparams.conf"])
@pytest.mark.parametrize("second", ["user-data", "bootparams.conf", "meta-data"])
def test_what_is_secret_is_answered_once(machine: Machine, first: str, second: str) -> None:
    assert machine.ask(first).status == 200
    again = machine.ask(second)
    assert (again.status, again.said) == (403, "was refused: its token was used before")
    assert again.computer_id == machine.offered.computer_id


def test_a_machine_that_comes_too_late_is_refused(machine: Machine) -> None:
    machine.offers.now = 60
    assert machine.ask("bootparams.conf").said == "was refused: its token has expired"
    assert machine.ask("meta-data").status == 403


def test_a_token_is_good_for_its_own_machine_only(machine: Machine) -> None:
    other = machine.ask("bootparams.conf", mac="52:54:00:aa:bb:0d")
    assert (other.status, other.said) == (403, f"was refused: its token is another machine's, {MAC}")
    elsewhere = machine.ask("bootparams.conf", address="10.0.0.18")
    assert (elsewhere.status, elsewhere.said) == (403, f"was refused: its token is for {ADDRESS}")
    assert machine.ask("bootparams.conf").status == 200  # neither has cost the machine its own


def test_a_token_that_was_never_given_out_is_refused(machine: Machine) -> None:
    guessed = machine.ask("bootparams.conf", token="A" * 43)
    assert (guessed.status, guessed.computer_id) == (403, None)
    assert "never given out" in guessed.said


def test_refusals_look_the_same_from_outside(machine: Machine) -> None:
    refusals = [machine.ask("meta-data", token="A" * 43), machine.ask("meta-data", mac="52:54:00:00:00:00")]
    machine.ask("bootparams.conf")
    refusals.append(machine.ask("bootparams.conf"))
    assert {(given.status, given.body) for given in refusals} == {(403, "refused\n")}


@pytest.mark.parametrize(
    "path", ["", "/", "/first-boot/", "/first-boot/../../etc/passwd", f"/first-boot/{MAC}/short/meta-data", "/a\x00b"]
)
def test_any_other_path_is_not_there(machine: Machine, path: str) -> None:
    assert answer(path, ADDRESS, machine.offers).status == 404


def test_a_document_that_there_is_not_costs_nothing(machine: Machine) -> None:
    assert machine.ask("passwd").status == 404
    assert machine.ask("bootparams.conf").status == 200


def test_of_many_who_ask_at_the_same_moment_one_is_told(machine: Machine) -> None:
    """The store decides: here it says of one that looked good that somebody was quicker."""
    found = machine.offers.find(machine.offered.token_sha256)
    assert machine.ask("bootparams.conf").status == 200
    machine.offers.find = lambda _: found  # type: ignore[method-assign]
    assert machine.ask("bootparams.conf").said == "was refused: its token was used meanwhile"


def test_what_is_kept_says_nothing_without_the_token(machine: Machine) -> None:
    kept = machine.offered.sealed + machine.offered.token_sha256
    for secret in (HASH, HOST.private.reveal().splitlines()[1], "vm17", machine.token.reveal()):
        assert secret.encode() not in kept


def test_what_was_tampered_with_is_not_handed_out(machine: Machine) -> None:
    sealed = bytearray(machine.offered.sealed)
    sealed[-1] ^= 1
    machine.offers.offer(replace(machine.offered, sealed=bytes(sealed)))
    assert machine.ask("bootparams.conf").said == "was refused: what was kept for it is damaged"


def test_two_tokens_are_never_alike() -> None:
    offers = MemoryOffers()
    tokens = {Machine(offers).token.reveal() for _ in range(20)}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {43}
