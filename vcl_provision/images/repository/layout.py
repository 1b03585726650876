"""Where things lie in a repository."""

from __future__ import annotations

from vcl_provision.images.repository.descriptor import Blob, require_revision_name
from vcl_provision.images.repository.place import who

REVISIONS, BLOBS, PARTIAL, CLAIMS, LOCKS = "revisions", "blobs/sha256", "partial", "claims", ".locks"
GARBAGE_LOCK = "garbage.lock"
"""Held together by all who add, alone by who collects garbage."""

SUFFIX = ".yaml"


def descriptor_path(name: str) -> str:
    """Raises Refused for what is no revision's name."""
    require_revision_name(name)
    return f"{REVISIONS}/{name}{SUFFIX}"


def blob_path(blob: Blob) -> str:
    return f"{BLOBS}/{blob.sha256[:2]}/{blob.sha256}"


def partial_path(blob: Blob) -> str:
    """What is there of a content that this machine is sending."""
    return f"{PARTIAL}/{blob.sha256}.{who()}"


def lock_name(sha256: str) -> str:
    """The file in a place's folder of locks that is held by who brings a content."""
    return f"{sha256}.lock"


def claim_path(sha256: str) -> str:
    """Says when somebody was last about to name a content that is there already."""
    return f"{CLAIMS}/{sha256}"
