"""The steps of a load that people watch: VCL's load states, those that our modules report, in order."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """A name of the load log. The sentence that people read is in `SENTENCES`."""

    STATUSCHECK = "statuscheck"
    DOESIMAGEEXIST = "doesimageexists"
    COPYFROMPARTNER = "copyfrompartnerMN"
    STARTLOAD = "startload"
    TRANSFERVM = "transfervm"
    VMSETUPCONFIG = "vmsetupconfig"
    STARTVM = "startvm"
    BOOTING = "bootstate"
    MACHINEBOOTED = "machinebooted"
    LOADIMAGECOMPLETE = "loadimagecomplete"
    NODEREADY = "nodeready"
    ADDINGUSER = "addinguser"
    RESERVED = "reserved"
    CONNECTABLE = "postreserve"
    CONNECTED = "connected"
    REMOVING = "removing"
    MOVING = "moving"


SENTENCES: dict[Step, str] = {
    Step.STATUSCHECK: "asking the machine what it holds",
    Step.DOESIMAGEEXIST: "looking for the image on the host",
    Step.COPYFROMPARTNER: "copying the image to the host",
    Step.STARTLOAD: "clearing the slot",
    Step.TRANSFERVM: "making the machine's disk",
    Step.VMSETUPCONFIG: "writing the machine's description",
    Step.STARTVM: "starting the machine",
    Step.BOOTING: "waiting for the guest to boot",
    Step.MACHINEBOOTED: "the guest answers",
    Step.LOADIMAGECOMPLETE: "the image is loaded",
    Step.NODEREADY: "the machine is ready",
    Step.ADDINGUSER: "adding the user",
    Step.RESERVED: "waiting for the user",
    Step.CONNECTABLE: "the user may connect",
    Step.CONNECTED: "the user is in",
    Step.REMOVING: "taking the machine back",
    Step.MOVING: "moving to another VM host",
}
