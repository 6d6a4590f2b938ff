"""SpamAssassin: raw e-mails of five groups, ham and spam.

The package holds each e-mail twice: its original bytes, and a JSON copy whose text was decoded as UTF-8
whatever the e-mail's own charset, which lost characters of 500 of them. We keep the bytes.

Only subject and body should reach a model: the other headers name mailing lists, hosts and filters that give
the label away.
"""

from __future__ import annotations

import email
import email.errors
import email.header
import email.message
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upweight.datasets.archives import members
from upweight.datasets.registry import DatasetInfo

GROUPS = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")
"""The groups, in the order of the e-mails."""

_MEMBER = re.compile(rf"package/data/({'|'.join(GROUPS)})/([^/]+)\.txt")
_FILE = "emails.zip"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, eq=False)
class EmailTexts:
    """What a model may read of the e-mails: n texts with their labels.

    Attributes
    ----------
    texts : subject, a line break, and the text parts of the body (HTML as it is)
    labels : int64 [n], 1 for spam
    indices : int64 [n], the position of each in ``Emails.raw``
    undecodable : how many of the texts hold bytes that their charset does not have, and which became U+FFFD
    """

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    undecodable: int


@dataclass(frozen=True, eq=False)
class Emails:
    """All e-mails as they were received, ordered by group and then by number.

    Attributes
    ----------
    info : the data set's entry in the registry
    raw : the bytes of each e-mail, headers included
    groups : the group of each, one of ``GROUPS``
    ids : number and checksum of each within its group, as the corpus names it
    """

    info: DatasetInfo
    raw: tuple[bytes, ...]
    groups: tuple[str, ...]
    ids: tuple[str, ...]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Int64 [n], 1 for spam."""
        return np.array([group.startswith("spam") for group in self.groups], np.int64)

    def texts(self, *, deduplicate: bool = False) -> EmailTexts:
        """Subject and body of each e-mail, in order; of equal texts only the first, if ``deduplicate``."""
        texts = [subject_and_body(raw) for raw in self.raw]
        kept = dict(zip(reversed(texts), reversed(range(len(texts))), strict=True))  # the first of equals wins
        indices = np.array(sorted(kept.values()) if deduplicate else range(len(texts)), np.int64)
        chosen = tuple(texts[k] for k in indices)
        return EmailTexts(chosen, self.labels[indices], indices, sum(_REPLACEMENT in text for text in chosen))


def subject_and_body(raw: bytes) -> str:
    """Subject, a line break, and the text parts of one e-mail's body, joined by line breaks.

    Each part is decoded by the charset that it declares, or by UTF-8 if it declares none that is known; bytes
    that do not decode become U+FFFD. Attachments that are not text are left out.
    """
    message = email.message_from_bytes(raw)
    parts = [_part_text(part) for part in message.walk() if part.get_content_maintype() == "text"]
    return "\n".join([_subject(message), *parts])


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Write the e-mails' bytes into one zip file, as ``GROUP/ID``, ordered by group and number."""
    matches = ((_MEMBER.fullmatch(path), raw) for path, raw in members(archives[0], _is_email))
    found = {(match[1], match[2]): raw for match, raw in matches if match}
    with zipfile.ZipFile(entry / _FILE, "w", zipfile.ZIP_DEFLATED) as bundle:
        for group, id_ in sorted(found):
            bundle.writestr(f"{group}/{id_}", found[group, id_])


def read(entry: Path, info: DatasetInfo) -> Emails:
    """All e-mails of a cache entry."""
    with zipfile.ZipFile(entry / _FILE) as bundle:
        names = bundle.namelist()
        raw = tuple(bundle.read(name) for name in names)
    groups, ids = zip(*(name.split("/") for name in names), strict=True)
    return Emails(info, raw, groups, ids)


def _is_email(path: str) -> bool:
    return _MEMBER.fullmatch(path) is not None


def _part_text(part: email.message.Message) -> str:
    content = part.get_payload(decode=True)
    return _decode(content, part.get_content_charset()) if isinstance(content, bytes) else ""


def _subject(message: email.message.Message) -> str:
    subject = message.get("subject", "")
    try:
        pieces = email.header.decode_header(subject)
    except email.errors.HeaderParseError:  # damaged encoded words stay as they came
        return str(subject)
    return "".join(p if isinstance(p, str) else _decode(p, charset) for p, charset in pieces)


def _decode(content: bytes, charset: str | None) -> str:
    try:
        return content.decode(charset or "utf-8", errors="replace")
    except LookupError:  # a charset that nobody knows: spam declares "default_charset" and the like
        return content.decode("utf-8", errors="replace")
