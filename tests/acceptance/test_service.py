"""The daemon as a service: one of a name, drained by SIGTERM, told new settings by SIGHUP, watched by systemd."""

from __future__ import annotations

import signal

from fix_daemon import DaemonLab

LONG = {"delays": {"boot": "60"}}


def test_a_second_one_of_the_same_name_is_refused_while_the_first_lives(dlab: DaemonLab) -> None:
    first = dlab.node("mn1").start()
    twin = dlab.node("twin", node={"name": "mn1"})
    twin.begin()
    assert twin.ended() == 1
    assert "another vcld of the name 'mn1' runs on this database" in twin.log.read_text()
    assert "Traceback" not in twin.log.read_text()
    twin.log.unlink()
    dlab.until_state(dlab.reserve(), "inuse")
    assert first.stop() == 0
    twin.start()


def test_sigterm_lets_work_in_hand_finish(dlab: DaemonLab) -> None:
    node = dlab.node(work={"drain": 20}, sim={"delays": {"boot": "0.7"}}).start()
    request = dlab.reserve()
    dlab.until_step(request, "bootstate")
    assert node.stop() == 0
    assert dlab.state(request) in {"reserved", "inuse"}
    assert dlab.one("SELECT claim_token IS NULL FROM reservation") is True


def test_what_sigterm_cuts_off_is_handed_back_and_another_node_goes_on_at_once(dlab: DaemonLab) -> None:
    first = dlab.node("mn1", sim=LONG, work={"drain": 0.3}).start()
    request = dlab.reserve()
    dlab.until_step(request, "bootstate")
    dlab.node("mn2", work={"tick": 600, "lease": 60}).start()
    assert first.stop() == 0
    dlab.until_state(request, "inuse", seconds=5)
    assert dlab.one("SELECT count(*) FROM journal WHERE kind = 'state'") == 2
    dlab.end(request)
    dlab.until_state(request, "complete")
    dlab.check_nothing_is_left()


def test_sighup_takes_new_limits_and_a_broken_file_changes_nothing(dlab: DaemonLab) -> None:
    node = dlab.node(work={"per_host": 1}, sim=LONG).start()
    for _ in range(3):
        dlab.reserve()
    dlab.until(lambda: at_work(dlab) == 1, "the first to be loaded")
    node.conf.write_text(node.conf.read_text().replace("per_host = 1", "per_hots = 2"))
    node.reload()
    node.until_notified("RELOADING=1")
    node.until_notified("READY=1")
    (refused,) = node.said("settings.not_reloaded")
    assert "[work] has no setting 'per_hots'; did you mean 'per_host'?" in refused["because"]
    assert at_work(dlab) == 1
    node.conf.write_text(node.conf.read_text().replace("per_hots = 2", "per_host = 2"))
    node.reload()
    dlab.until(lambda: at_work(dlab) == 2, "a second one to be loaded")
    assert node.said("settings.reloaded")[0]["source"] == str(node.conf)


def at_work(lab: DaemonLab) -> int:
    return lab.one("SELECT count(*) FROM reservation WHERE claim_token IS NOT NULL")


def test_it_tells_the_service_manager_how_it_is(dlab: DaemonLab) -> None:
    node = dlab.node()
    node.begin()
    node.until_notified("READY=1")
    node.until_notified("WATCHDOG=1")
    node.signal(signal.SIGTERM)
    node.until_notified("STOPPING=1")
    assert node.ended() == 0
    (stopping,) = node.said("vcld.stopping")
    assert (stopping["because"], stopping["in_hand"]) == ("stop", 0)


def test_a_setting_of_a_module_with_a_typo_is_refused_at_the_start(dlab: DaemonLab) -> None:
    node = dlab.node(sim={"user_come": "0"})
    node.begin()
    assert node.ended() == 1
    assert "[modules.sim] has no setting 'user_come'; did you mean 'users_come'?" in node.log.read_text()
    node.log.unlink()
