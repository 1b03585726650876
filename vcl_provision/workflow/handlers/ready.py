"""Getting a machine ready: what `new` and `reload` share."""

from __future__ import annotations

from dataclasses import replace

from vcl_provision.model.faults import NoRoom
from vcl_provision.model.states import NodeStatus
from vcl_provision.model.steps import Step
from vcl_provision.workflow.outcome import Elsewhere
from vcl_provision.workflow.work import Work


def make_ready(work: Work) -> Work:
    """Loads what must be loaded and does the post-load steps not yet done; asks first, so it can be called again.

    Returns the work with its computer as it is now: a load gives it another host key.
    """
    status = needed(work)
    if status is NodeStatus.RELOAD:
        work = load(work)
    if status is not NodeStatus.READY:
        work.guest.prepare(work.computer, work.revision)
        work.record.prepared()
    work.record.say(Step.NODEREADY)
    return work


def needed(work: Work) -> NodeStatus:
    """READY, POST_LOAD or RELOAD: the worse of what the machine says and what we recorded.

    A machine that a user could have been in is loaded anew whatever it says of itself.
    """
    work.record.say(Step.STATUSCHECK)
    if work.computer.tainted or not work.computer.host_key:
        return NodeStatus.RELOAD
    status = work.provisioner.node_status(work.computer, work.revision)
    if status is NodeStatus.READY and not work.computer.prepared:
        return NodeStatus.POST_LOAD
    return status


def load(work: Work) -> Work:
    """Puts the image on the computer, fetching it to the host first if it is not there."""
    computer, firstboot = work.record.loading()
    work.record.say(Step.DOESIMAGEEXIST)
    if not work.provisioner.does_image_exist(work.revision, computer.host):
        work.record.say(Step.COPYFROMPARTNER)
        work.provisioner.retrieve_image(work.revision, computer.host)
    work.provisioner.load(computer, work.revision, firstboot)
    work.record.say(Step.LOADIMAGECOMPLETE)
    return replace(work, computer=computer)


def leave(work: Work, full: NoRoom) -> Elsewhere:
    """Nothing of a load that found no room stays behind: whoever has the computer next finds it empty."""
    work.record.undo(scope="computer")
    return Elsewhere(fault=full.fault)
