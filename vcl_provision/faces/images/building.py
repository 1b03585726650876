"""Images that are built for the repository: what is ordered, and how it comes to be what people reserve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.faces.images.adding import next_revision, offer
from vcl_provision.faces.images.choosing import chosen
from vcl_provision.faces.place import Place
from vcl_provision.images.builder import BuildSpec, build_image, read_spec, spec_digest
from vcl_provision.images.builder.profiles import as_table
from vcl_provision.images.repository import ImageDescriptor, Repository
from vcl_provision.model.faults import Refused

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """An image to be built: `spec` as a profile says it. `sudo` and `install_type` as `vcl images add` takes them."""

    image: str
    spec: Mapping[str, object]
    sudo: bool = False
    install_type: str = ""

    @property
    def key(self) -> str:
        """Two orders of one key are one build."""
        return f"{self.image} {spec_digest(self.read())[:12]}"

    def read(self) -> BuildSpec:
        return read_spec(self.spec, where=f"the order of {self.image}")

    def as_json(self) -> dict[str, object]:
        """For the queue, from which another machine may take it. Raises Refused for what only this one has."""
        spec = self.read()
        sources = (spec.accounts.root_password, *(user.password for user in spec.accounts.users))
        if "stdin" in sources:
            raise Refused("what waits in a queue has no standard input", "read the password from file:PATH or env:NAME")
        return asdict(self)


def order_of(image: str, spec: BuildSpec, *, sudo: bool = False, install_type: str = "") -> Order:
    """What `vcl build` was told, as an order."""
    if spec.disks.devices:
        raise Refused("an image in a repository is no block device", "leave --device out")
    return Order(image=image, spec=as_table(spec), sudo=sudo, install_type=install_type)


def order_from(said: Mapping[str, object]) -> Order:
    """An order as the queue has it."""
    return Order(**said)  # type: ignore[arg-type] - what `as_json` wrote


def make(order: Order, place: Place, repository: str, *, cache: Path | None, patience: Patience, say: Say) -> str:
    """Builds what was ordered, unless it is there, and has people get it; the name of its revision.

    `repository` is its address, empty for that of the lab's VM profiles. Raises what building and adding raise.
    """
    with chosen(repository, place) as there:
        descriptor = _made(order, there, cache, patience, say)
    with place.session() as conn, conn.transaction():
        offer(conn, descriptor, install_type=order.install_type, sudo=order.sudo)
    return descriptor.name


def _made(order: Order, there: Repository, cache: Path | None, patience: Patience, say: Say) -> ImageDescriptor:
    spec = order.read()
    recipe = spec_digest(spec)
    known = [each for each in there.revisions().good if (each.image, each.recipe) == (order.image, recipe)]
    if known:
        newest = max(known, key=lambda each: each.revision)
        say(f"{newest.name} is it already")
        return newest
    number = next_revision(there, order.image)
    return build_image(
        spec,
        there,
        name=f"{order.image}-v{number}",
        image=order.image,
        revision=number,
        patience=patience,
        say=say,
        cache=cache,
    )
