"""A machine fetches what it is told, by HTTP: from an address that names it and a token that is good for once.

Its hypervisor hands it that address (`qemu.pull_serial`). Under it lie the documents that cloud-init asks for as
NoCloud (https://docs.cloud-init.io) and `bootparams.conf` for guests without it. What is secret is answered once, to
the machine itself: the right token, MAC and address, in time. Every other answer is the same refusal; only we hear why.

What is on offer is kept sealed with the token, which only the machine has: whoever reads it where it is kept learns
nothing, and any management node can answer.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vcl_provision.images.carriers.cloud_init import meta_data, user_data
from vcl_provision.images.carriers.plain import bootparams_conf, plain_files
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.secret import Secret

OPEN = "meta-data"
"""The document with nothing secret in it, which cloud-init asks for first: it does not use the token up."""
_EMPTY = frozenset({"vendor-data", "network-config"})
"""What cloud-init asks for as well, and would ask for again and again if it were not there."""
_PATH = re.compile(r"/first-boot/([0-9a-f]{2}(?::[0-9a-f]{2}){5})/([A-Za-z0-9_-]{43})/([a-z-]+(?:\.conf)?)")
_NONCE = 12


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What one machine may fetch. `mac` in lower case with colons, `address` the only one that it may ask from."""

    computer_id: int
    mac: str
    address: str
    token_sha256: bytes
    sealed: bytes


class OfferState(StrEnum):
    """Whether an offer can still be taken; what is used is not sealed any more but gone."""

    GOOD = "good"
    USED = "used"
    LATE = "late"


class Offers(Protocol):
    """Where offers are kept: all management nodes see the same."""

    def find(self, token_sha256: bytes) -> tuple[Offer, OfferState] | None:
        """The offer with this token, also one that was used or is late."""
        ...

    def use(self, token_sha256: bytes) -> bool:
        """Uses it up, if it is good; one of many who try at once is told that it did."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent (`status` 200, 403, 404 and the body), and what we say of it to our own people."""

    status: int
    body: str
    said: str
    mac: str = ""
    computer_id: int | None = None


def new_offer(firstboot: FirstBoot, *, computer_id: int, mac: str, address: str) -> tuple[Secret, Offer]:
    """The token, which goes to the machine and is kept nowhere else; and the offer, which is kept."""
    token = secrets.token_urlsafe(32)
    documents = {
        OPEN: meta_data(firstboot),
        "user-data": user_data(firstboot),
        "bootparams.conf": bootparams_conf(plain_files(firstboot)),
    }
    offer = Offer(
        computer_id=computer_id,
        mac=mac.lower(),
        address=address,
        token_sha256=_sha256(token),
        sealed=_seal(documents, token),
    )
    return Secret(token), offer


def pull_url(base: str, mac: str, token: Secret) -> str:
    """The address for one machine, with a slash at its end; `base` is `http://HOST:PORT`. As secret as the token."""
    return f"{base.rstrip('/')}/first-boot/{mac.lower()}/{token.reveal()}/"


def answer(path: str, address: str, offers: Offers) -> Answer:
    """Answers one request: the path that was asked for, and the address from which."""
    match = _PATH.fullmatch(path)
    if match is None:
        return Answer(status=404, body="not found\n", said="asked for something that there is not")
    mac, token, document = match.groups()
    if document in _EMPTY:
        return Answer(status=200, body="", said=f"was told that there is no {document}", mac=mac)
    found = offers.find(_sha256(token))
    if found is None:
        return _refused("its token was never given out, or is forgotten", mac)
    offer, state = found
    reason = _why_not(offer, state, mac, address)
    if reason:
        return _refused(reason, mac, offer)
    return _take(offer, token, document, offers)


def _why_not(offer: Offer, state: OfferState, mac: str, address: str) -> str:
    if mac != offer.mac:
        return f"its token is another machine's, {offer.mac}"
    if offer.address and address != offer.address:
        return f"its token is for {offer.address}"
    return {OfferState.USED: "its token was used before", OfferState.LATE: "its token has expired"}.get(state, "")


def _take(offer: Offer, token: str, document: str, offers: Offers) -> Answer:
    try:
        documents = _unseal(offer.sealed, token)
    except InvalidTag:
        return _refused("what was kept for it is damaged", offer.mac, offer)
    if document not in documents:
        return Answer(status=404, body="not found\n", said=f"asked for {document}", mac=offer.mac)
    if document != OPEN and not offers.use(offer.token_sha256):
        return _refused("its token was used meanwhile", offer.mac, offer)
    said = f"fetched {document}"
    return Answer(status=200, body=documents[document], said=said, mac=offer.mac, computer_id=offer.computer_id)


def _refused(why: str, mac: str, offer: Offer | None = None) -> Answer:
    """All refusals look the same from outside."""
    said = f"was refused: {why}"
    return Answer(status=403, body="refused\n", said=said, mac=mac, computer_id=offer and offer.computer_id)


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _key(token: str) -> AESGCM:
    """Not the sum that is kept beside the sealed text: one cannot be had from the other."""
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=b"vcl first boot").derive(token.encode()))


def _seal(documents: Mapping[str, str], token: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + _key(token).encrypt(nonce, json.dumps(documents).encode(), None)


def _unseal(sealed: bytes, token: str) -> dict[str, str]:
    return json.loads(_key(token).decrypt(sealed[:_NONCE], sealed[_NONCE:], None))
