"""XML from outside, read without its traps: no DTD, so no entities and nothing external; bounded in size and depth."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from vcl_provision.model.faults import Refused

MOST_BYTES = 4 << 20
DEEPEST = 64
MOST_ELEMENTS = 50_000


def parse_xml(text: bytes, about: str) -> Element:
    """The root of a document. Raises Refused, naming `about`, for what is no XML and for XML that means harm."""
    if len(text) > MOST_BYTES:
        raise Refused(
            f"{about} has {len(text)} bytes of XML; at most {MOST_BYTES} are read", "is it a descriptor at all?"
        )
    parser = XMLParser(target=_Careful(about))  # noqa: S314 - what makes it dangerous is refused by its target
    try:
        parser.feed(text)
        return parser.close()
    except (ParseError, LookupError, ValueError) as error:
        raise Refused(f"{about} cannot be read as XML: {error}", "export the machine again") from error


def local(name: str) -> str:
    """The name of an element or attribute without its namespace: writers of OVF disagree about theirs."""
    return name.rpartition("}")[2]


def attribute(element: Element, name: str) -> str:
    """An attribute by its local name, empty if there is none."""
    return next((value for key, value in element.attrib.items() if local(key) == name), "")


def children(element: Element, *names: str) -> Iterator[Element]:
    """The children with one of these local names."""
    return (child for child in element if local(child.tag) in names)


def descendants(element: Element, name: str) -> Iterator[Element]:
    """All elements with this local name, however deep, the element itself too."""
    return (below for below in element.iter() if local(below.tag) == name)


def child_text(element: Element, name: str) -> str:
    """The text of the first child with this local name, empty if there is none."""
    return next(((child.text or "").strip() for child in children(element, name)), "")


class _Careful(TreeBuilder):
    """Builds the tree, and stops at the first thing that no descriptor needs."""

    def __init__(self, about: str) -> None:
        super().__init__()
        self._about = about
        self._depth = 0
        self._elements = 0

    def doctype(self, name: str, *_ids: str | None) -> None:
        """Called before anything that a DTD declares takes effect."""
        raise Refused(f"{self._about} has a DTD ({name}), which a descriptor never needs", "do not trust it")

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        self._elements += 1
        if self._depth > DEEPEST or self._elements > MOST_ELEMENTS:
            raise Refused(f"{self._about} nests or repeats elements beyond measure", "do not trust it")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)
