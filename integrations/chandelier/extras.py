"""What only an extra of the wheel brings, and the line that installs it."""

from __future__ import annotations

import importlib

__all__ = ["require"]


def require(module: str, package: str, extra: str) -> None:
    """Import a module of an extra.

    Raises:
        ModuleNotFoundError: If it is not installed; the message is the command that installs it. What a package that is
            installed lacks itself is named as it is.

    Examples:
        >>> require("surely_not_there", "surely-not-there", "imaginary")
        Traceback (most recent call last):
        ModuleNotFoundError: chandelier.imaginary needs surely-not-there: pip install 'chandelier[imaginary]'
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise
        hint = f"chandelier.{extra.replace('-', '_')} needs {package}: pip install 'chandelier[{extra}]'"
        raise ModuleNotFoundError(hint, name=error.name) from None
