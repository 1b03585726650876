"""Where the files are that come with the package: modules, schema, settings."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """The path of a file or folder that is shipped beside the code: `modules`, `schema.sql`, `conf/vcld.toml`.

    In an installed wheel it lies in the package, in a source tree at its top. Raises FileNotFoundError.
    """
    for root in (_PACKAGE / "_shipped", _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is not installed: looked under {_PACKAGE} and {_PACKAGE.parent}")
