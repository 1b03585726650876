"""Offers kept in memory, on a clock of the test's own: what the database does for the daemon."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from vcl_provision.channels.patience import Patience
from vcl_provision.images.carriers.pull import Answer, Offer, OfferState, new_offer, pull_url
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.lab import Computer


@dataclass
class MemoryOffers:
    """carriers' `Offers`; `now` and an offer's end are numbers."""

    now: float = 0
    _kept: dict[bytes, tuple[Offer, float]] = field(default_factory=dict[bytes, tuple[Offer, float]])
    _used: set[bytes] = field(default_factory=set[bytes])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def offer(self, offer: Offer, *, until: float = 60) -> None:
        self._kept[offer.token_sha256] = offer, until

    def find(self, token_sha256: bytes) -> tuple[Offer, OfferState] | None:
        if token_sha256 not in self._kept:
            return None
        offer, until = self._kept[token_sha256]
        if token_sha256 in self._used:
            return offer, OfferState.USED
        return offer, OfferState.LATE if until <= self.now else OfferState.GOOD

    def use(self, token_sha256: bytes) -> bool:
        with self._lock:
            if token_sha256 in self._used or self._kept[token_sha256][1] <= self.now:
                return False
            self._used.add(token_sha256)
            return True


@dataclass
class Heard:
    """What the server says of those who came: their address, its answer."""

    answers: list[tuple[str, Answer]] = field(default_factory=list[tuple[str, Answer]])

    def __call__(self, address: str, given: Answer) -> None:
        self.answers.append((address, given))

    @property
    def said(self) -> list[str]:
        return [answer.said for _, answer in self.answers]


@dataclass(frozen=True, kw_only=True)
class OfferedInMemory:
    """drivers' `Pull`."""

    offers: MemoryOffers
    base: str

    def offer(self, computer: Computer, firstboot: FirstBoot, *, mac: str, patience: Patience) -> str:
        address = str(computer.private_address)
        token, one = new_offer(firstboot, computer_id=computer.id, mac=mac, address=address)
        self.offers.offer(one)
        return pull_url(self.base, mac, token)
