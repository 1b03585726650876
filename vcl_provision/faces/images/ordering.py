"""Asking for an image that is not there yet: one build for all who ask, followed until it is over."""

from __future__ import annotations

from vcl_provision.faces.errors import Exit, Failed
from vcl_provision.faces.images.building import Order, order_of
from vcl_provision.faces.images.following import follow
from vcl_provision.faces.output import err
from vcl_provision.images.builder import load_profile
from vcl_provision.store import builds, listings
from vcl_provision.store.database import Listener


def enqueue(listener: Listener, order: Order, *, asked_by: str) -> int:
    """Puts an order into the queue, and says so; the number of its build."""
    spec = order.as_json()
    number, new = builds.enqueue(listener.connection, key=order.key, spec=spec, asked_by=asked_by)
    said = "waits in the queue" if new else "was asked for already"
    err.print(f"{order.image} {said}: it is build {number}. Follow it: vcl builds log {number} --follow")
    return number


def have_image(listener: Listener, image: str, *, asked_by: str) -> None:
    """Has an image built from the profile of its name, if there is none; comes back when it can be reserved.

    However many ask at once, it is built once. Raises Refused if there is no such profile, Failed if the build fails.
    """
    if image in {row.name for row in listings.images(listener.connection)}:
        return
    number = enqueue(listener, order_of(image, load_profile(image)), asked_by=asked_by)
    build = follow(listener, number, err, on=True)
    if build.state != "done":
        raise Failed(build.said or f"build {number} is {build.state}", build.hint or "", status=Exit.REFUSED)
