"""A training function by what it does: its code and the values it uses, so that a changed one is told from the old.

`walk` reads a value piece by piece, by the reader of its kind (`readers`): `code` functions, classes and modules;
`arrays` numbers and tables by content; `objects` everything else, by what pickling would keep of it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from upweight.retraining.fingerprint.readers import reader
from upweight.retraining.fingerprint.unknown import UnknownContentError
from upweight.retraining.fingerprint.walk import Walk

__all__ = ["UnknownContentError", "fingerprint"]


def fingerprint(function: Any) -> str:
    """Sixteen hexadecimal digits, equal for functions of the same code and values, in every process.

    Code is what Python compiles, so comments and line numbers don't count, and another Python counts as another
    function. Values are defaults, attributes, those of ``functools.partial``, of an enclosing function and of the
    module's own names that the function mentions, functions and classes among them: numbers, text, arrays, tensors and
    tables by content, every other object by its class and by what pickling would keep of it, as they are at the call:
    keep a log of what was trained in a file, not in a list. Functions and classes of installed packages count by name.

    Raises
    ------
    UnknownContentError
        If it uses something whose content can't be told, such as an open file.
    """
    digest = hashlib.sha256()
    try:
        for part in Walk(reader).parts(function):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    except RecursionError:
        raise UnknownContentError("something nested too deeply") from None
    return digest.hexdigest()[:16]
