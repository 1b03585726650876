"""Finding a revision by words: parts of them, in any case and spacing, and with a slip of the finger."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence

from vcl_provision.images.repository.descriptor import ImageDescriptor

Fits = Callable[[str, str], float]

_SAME = {"x86_64": "amd64", "x64": "amd64", "aarch64": "arm64"}
_ALMOST = 0.75
"""How alike two words are that differ by a slip: `debain` and `debian` are to 0.83."""


def matching(words: str, descriptors: Sequence[ImageDescriptor]) -> list[ImageDescriptor]:
    """Those that all words fit, the best first: whole words before parts, newest revisions first.

    If none fits as written, those that fit but for slips of the finger; if none does either, an empty list.
    """
    wanted = _words(words)
    if not wanted:
        return []
    for fits in (_fit, _almost_fit):
        scored = [(score, each) for each in descriptors if (score := _score(wanted, each, fits)) > 0]
        if scored:
            return [each for _, each in sorted(scored, key=lambda pair: (-pair[0], pair[1].image, -pair[1].revision))]
    return []


def nearest(words: str, descriptors: Sequence[ImageDescriptor], most: int = 3) -> list[str]:
    """Names and keys of what comes closest, however far that is, to be offered when nothing fits."""
    known = {spelling: spelling for each in descriptors for spelling in (each.name, each.key)}
    return difflib.get_close_matches(" ".join(_words(words)), known, n=most, cutoff=0.0)


def _score(wanted: Sequence[str], descriptor: ImageDescriptor, fits: Fits) -> float:
    """Zero if a word fits nothing. `debian12` is as good as `debian 12`."""
    own = _words(f"{descriptor.key} {descriptor.name} {descriptor.image} {descriptor.os.name}")
    scores = [max(fits(word, each) for each in own) for word in wanted]
    if all(scores):
        return sum(scores) / len(scores)
    joined = rf"{re.escape(''.join(wanted))}(?!\d)"  # debian1 is not debian12
    return 0.5 if re.search(joined, "".join(_words(descriptor.key))) else 0.0


def _fit(word: str, own: str) -> float:
    if word == own:
        return 1.0
    if word[0].isdigit():  # 22 is 22.04 but 1 is not 12
        return 0.8 if own.startswith(f"{word}.") else 0.0
    if own.startswith(word):
        return 0.8
    return 0.6 if len(word) >= 3 and word in own else 0.0


def _almost_fit(word: str, own: str) -> float:
    alike = difflib.SequenceMatcher(None, word, own).ratio()
    return max(_fit(word, own), alike if alike >= _ALMOST and not word[0].isdigit() else 0.0)


def _words(text: str) -> list[str]:
    text = text.casefold()
    for name, usual in _SAME.items():
        text = text.replace(name, usual)
    return [word for word in re.split(r"[^\w.]+|_", text) if word]
