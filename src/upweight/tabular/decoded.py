"""Bytes as text: by their mark of byte order, as UTF-8, or in the encoding that charset-normalizer finds."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from charset_normalizer import from_bytes

from upweight.errors import InputError

MARKS: tuple[tuple[bytes, str, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig", ""),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
"""The longer first where one begins as another does."""
WESTERN = "cp1252"
ENCODINGS = [WESTERN, "cp1250", "cp1251", "koi8_r", "cp1253", "shift_jis", "gb18030", "big5", "euc_kr", "euc_jp"]
"""Those that are looked for."""
THRESHOLDS = (0.2, 1.0)
"""Disorder of a text up to which an encoding is thought possible; a few short names are disorder already."""
SYMBOL_IN_WORD = re.compile(r"[£¥¹³¿¯¼¾ª]\w|\w[£¥¹³¿¯¼¾ª]\w")
"""Letters of Central Europe, read as if they were of the West."""
LATIN = ("cp1252", "cp1250")
FEW_BEYOND = 0.3
"""Share of letters beyond ASCII up to which a script is Latin."""
PRICE = re.compile(rb"\d\s?\x80|\x80\s?\d")
"""The euro of Western and Central Europe, which is a letter elsewhere."""
LOOKED_AT = 200_000
"""Bytes of lines with letters beyond ASCII that an encoding is found by."""
ZEROS = 0.3
"""Share of zero bytes on one side from which text is UTF-16 without its mark."""


@dataclass(frozen=True)
class Decoded:
    """Text, and in ``note`` the encoding where it isn't UTF-8."""

    text: str
    note: str = ""


def decoded(data: bytes, name: str) -> Decoded:
    """The text.

    Raises
    ------
    InputError
        If it is no text, or in no encoding that is known.
    """
    for mark, encoding, called in MARKS:
        if data.startswith(mark):
            return Decoded(_strictly(data, encoding, name), f"read as {called}" if called else "")
    try:
        found = Decoded(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        encoding = _without_mark(data) or _found(data)
        if not encoding:
            raise InputError(
                f"{name}: is not UTF-8 text (byte {error.start}), and no other encoding fits; save it as a UTF-8 CSV"
            ) from None
        line = data.count(b"\n", 0, error.start) + 1
        return Decoded(
            _strictly(data, encoding, name).lstrip("\ufeff"),
            f"read as {encoding}, which was guessed (line {line} is no UTF-8); if letters are wrong, save it as UTF-8",
        )
    guess = _without_mark(data)
    if guess:
        return Decoded(_strictly(data, guess, name), f"read as {guess}, which was guessed from its zero bytes")
    if "\0" in found.text:
        line = found.text.count("\n", 0, found.text.index("\0")) + 1
        raise InputError(f"{name}: is no text, a zero byte stands in line {line}; save it as a UTF-8 CSV")
    return found


def _strictly(data: bytes, encoding: str, name: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: begins as {encoding} and isn't throughout (byte {error.start}); save it as a UTF-8 CSV"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}: is no text, a zero byte stands in line {line}; save it as a UTF-8 CSV")
    return text


def _without_mark(data: bytes) -> str:
    """UTF-16 whose letters are mostly those of ASCII has a zero in every other byte."""
    some = data[:LOOKED_AT]
    if len(some) < 4 or len(data) % 2:
        return ""
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = some[offset::2].count(0), some[1 - offset :: 2].count(0)
        if zeros > ZEROS * len(some) and not others:
            return encoding
    return ""


def _found(data: bytes) -> str:
    """The likeliest encoding of the lines that hold more than ASCII; that of Western Europe where it is as likely."""
    lines, size = [], 0
    for line in data.splitlines(keepends=True):
        if not line.isascii():
            lines.append(line)
            size += len(line)
            if size > LOOKED_AT:
                break
    sample = b"".join(lines)
    for threshold in THRESHOLDS:
        best = from_bytes(sample, threshold=threshold, cp_isolation=ENCODINGS, preemptive_behaviour=False).best()
        if best is not None and _is_readable(sample, best.encoding):
            break
    else:
        return ""
    if not _is_readable(sample, WESTERN) or SYMBOL_IN_WORD.search(sample.decode(WESTERN)):
        return best.encoding
    if best.encoding in LATIN:
        return WESTERN if not best.coherence or WESTERN in best.could_be_from_charset else best.encoding
    letters = sum(byte > 127 or chr(byte).isalpha() for byte in sample)
    is_latin = sum(byte > 127 for byte in sample) < FEW_BEYOND * letters or PRICE.search(sample) is not None
    return WESTERN if is_latin else best.encoding


def _is_readable(sample: bytes, encoding: str) -> bool:
    try:
        return all(letter.isprintable() or letter.isspace() for letter in sample.decode(encoding))
    except UnicodeDecodeError:
        return False
