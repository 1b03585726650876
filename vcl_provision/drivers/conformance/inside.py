"""What an OS module keeps: each call, twice, cut off and asked again; and what it must refuse."""

from __future__ import annotations

from collections.abc import Sequence

from vcl_provision.drivers.conformance.bench import outcome
from vcl_provision.drivers.conformance.guests import CAFE, HOME, GuestBench
from vcl_provision.drivers.conformance.item import Item, insist
from vcl_provision.drivers.conformance.kills import killed_inside
from vcl_provision.drivers.conformance.ports import EffectFile
from vcl_provision.model.faults import CommandFailed, Refused, Transient

NO_NAMES = ("", "Ünal", "a b", "a;reboot", "$(reboot)", "`reboot`", "-rf", "../root", "a\nb", "a:b", "a" * 200)
NO_KEYS = ("", "no key at all", "ssh-ed25519", "ssh-ed25519 AAAA\nssh-rsa AAAA", 'command="reboot" ssh-ed25519 !!')
MESSAGES = ("The end is near", '50% of "it" is $(reboot) `reboot` ; reboot', "-n", "two\nlines", "Zeit läuft ab…")
MOST_STEPS = 60


def a_machine_can_be_loaded(bench: GuestBench) -> None:
    """The provisioning module loads the machine that all else is tried on, and it becomes ready; asked twice."""
    bench.load()
    for _ in range(2):
        bench.make().wait_ready(bench.computer)


def post_load_may_be_repeated(bench: GuestBench) -> None:
    """The post-load steps succeed, and again when they are done."""
    for _ in range(2):
        bench.make().post_load(bench.computer, bench.revision)


def an_account_is_made_once_however_often_it_is_asked_for(bench: GuestBench) -> None:
    """reserve and add_user succeed twice, and write down delete_user before the account is there."""
    for _ in range(2):
        bench.make().reserve(bench.computer, bench.revision, bench.user)
        bench.make().add_user(bench.computer, bench.revision, bench.user)
    insist(bench.effects.written(), "add_user recorded no undo", 'call task.record("delete_user", ...) before')


def names_and_keys_that_are_none_are_refused(bench: GuestBench) -> None:
    """A user name with characters of a shell, an empty one, one of 200 letters, a key that is none: each is Refused."""
    for name in NO_NAMES:
        user = bench.named(name)
        failed = outcome(lambda user=user: bench.make().add_user(bench.computer, bench.revision, user))
        insist(isinstance(failed, Refused), f"the name {name[:20]!r} gave {failed!r}", "check names, and raise Refused")
    for key in NO_KEYS:
        user = bench.with_key(key)
        failed = outcome(lambda user=user: bench.make().add_user(bench.computer, bench.revision, user))
        insist(isinstance(failed, Refused), f"the key {key[:30]!r} gave {failed!r}", "check keys, and raise Refused")


def access_is_opened_moved_and_closed(bench: GuestBench) -> None:
    """grant_access succeeds twice, for another address, and after it was revoked; so does revoke_access."""
    for address in (HOME, HOME, CAFE):
        bench.make().grant_access(bench.computer, bench.revision, bench.user, address)
    for _ in range(2):
        bench.make().revoke_access(bench.computer)
    bench.make().grant_access(bench.computer, bench.revision, bench.user, HOME)


def nobody_is_connected_who_did_not_connect(bench: GuestBench) -> None:
    """is_connected is false for a user who was let in and did not come; asking changes nothing."""
    for address in (HOME, CAFE, HOME):
        there = bench.make().is_connected(bench.computer, bench.revision, bench.user, address)
        insist(not there, f"a user is connected from {address}, where nobody is")


def a_message_is_shown_as_it_is(bench: GuestBench) -> None:
    """notify_user takes any text: characters of a shell, per cent signs, several lines."""
    for message in MESSAGES:
        failed = outcome(lambda message=message: bench.make().notify_user(bench.computer, bench.user, message))
        insist(failed is None, f"the message {message!r} gave {failed!r}", "hand it to the command on standard input")


def an_account_is_removed_once_however_often_it_is_asked_for(bench: GuestBench) -> None:
    """delete_user succeeds twice, and for a user who never was; the recorded undo succeeds after it, twice."""
    for name in (bench.user.name, bench.user.name, "never-was"):
        failed = outcome(lambda name=name: bench.make().delete_user(bench.computer, name))
        insist(failed is None, f"delete_user of {name} gave {failed!r}", "succeed if there is no such account")
    for _ in range(2):
        bench.effects.play_backwards(bench.make())
    bench.effects.forget()


def adding_a_user_killed_at_any_step_can_be_done_again(bench: GuestBench) -> None:
    """add_user, killed before and after each command that it runs: asked again it succeeds, and so does its undo."""
    for step in range(MOST_STEPS):
        if not killed_inside(bench, "add_user", step):
            return
        bench.make().add_user(bench.computer, bench.revision, bench.user)
        bench.effects.play_backwards(bench.make())
        bench.effects.forget()


def post_load_killed_at_any_step_can_be_done_again(bench: GuestBench) -> None:
    """post_load, killed before and after each command that it runs: asked again it succeeds."""
    for step in range(MOST_STEPS):
        if not killed_inside(bench, "post_load", step):
            return
        bench.make().post_load(bench.computer, bench.revision)


def a_machine_is_made_clean_for_the_next_user(bench: GuestBench) -> None:
    """sanitize succeeds with an account there, and again when it is gone; then another user can have the machine."""
    bench.make().add_user(bench.computer, bench.revision, bench.user)
    for _ in range(2):
        bench.make().sanitize(bench.computer, bench.user)
    bench.make().add_user(bench.computer, bench.revision, bench.named("vclnext"))
    bench.make().delete_user(bench.computer, "vclnext")


def an_unreachable_guest_is_asked_again_later(bench: GuestBench) -> None:
    """A connection that drops in the middle raises a Transient, so that the call is made again; it is not swallowed."""
    guests = bench.dropping_guests()
    effects = EffectFile(bench.machine.folder / "dropped.effects")
    failed = outcome(
        lambda: bench.make(guests=guests, effects=effects).add_user(bench.computer, bench.revision, bench.user)
    )
    insist(isinstance(failed, Transient), f"it gave {failed!r}", "let ConnectionDropped and Transient pass")
    bench.make().delete_user(bench.computer, bench.user.name)


def a_command_that_fails_is_told(bench: GuestBench) -> None:
    """A command that fails inside raises CommandFailed, TimedOut or Refused; it is not taken for done."""
    effects = EffectFile(bench.machine.folder / "failed.effects")
    failed = outcome(
        lambda: bench.make(guests=bench.failing_guests(), effects=effects).add_user(
            bench.computer, bench.revision, bench.user
        )
    )
    insist(isinstance(failed, CommandFailed | Refused), f"it gave {failed!r}", "let CommandFailed pass")
    bench.make().delete_user(bench.computer, bench.user.name)


def a_restart_ends_with_a_guest_that_is_ready(bench: GuestBench) -> None:
    """reboot returns when the guest lets us in again."""
    bench.make().reboot(bench.computer)
    bench.make().wait_ready(bench.computer)


def a_shutdown_ends_the_machine(bench: GuestBench) -> None:
    """shutdown returns, and then the guest does not answer any more."""
    bench.make().shutdown(bench.computer)
    bench.machine.connections.forget(bench.computer)
    guest = bench.make()
    guest.task.wait_until(lambda: isinstance(outcome(lambda: bench.reconnect(guest)), Transient), "the guest to be off")
    bench.machine.running = None


def a_machine_can_be_made_fit_for_an_image(bench: GuestBench) -> None:
    """pre_capture succeeds on a fresh machine, with an account on it."""
    bench.load()
    bench.make().wait_ready(bench.computer)
    bench.make().add_user(bench.computer, bench.revision, bench.user)
    bench.make().pre_capture(bench.computer, bench.revision)


INSIDE: Sequence[Item[GuestBench]] = (
    a_machine_can_be_loaded,
    post_load_may_be_repeated,
    an_account_is_made_once_however_often_it_is_asked_for,
    access_is_opened_moved_and_closed,
    nobody_is_connected_who_did_not_connect,
    a_message_is_shown_as_it_is,
    an_account_is_removed_once_however_often_it_is_asked_for,
    names_and_keys_that_are_none_are_refused,
    adding_a_user_killed_at_any_step_can_be_done_again,
    post_load_killed_at_any_step_can_be_done_again,
    a_machine_is_made_clean_for_the_next_user,
    an_unreachable_guest_is_asked_again_later,
    a_command_that_fails_is_told,
    a_restart_ends_with_a_guest_that_is_ready,
    a_shutdown_ends_the_machine,
    a_machine_can_be_made_fit_for_an_image,
)
"""In an order in which each finds what it needs; the machine is booted twice, and restarted once."""
