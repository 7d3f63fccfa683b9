"""Small helpers for messages: first and last lines, counted nouns, escaped names."""

from __future__ import annotations

import re


def first_line(message: BaseException | str) -> str:
    """The first line of a text or of an exception's message; the exception's type if the message is empty.

    >>> first_line(ValueError("bad shape\\nat line 3"))
    'bad shape'
    >>> first_line(KeyboardInterrupt())
    'KeyboardInterrupt'
    """
    text = str(message).strip()
    if not text:
        return "" if isinstance(message, str) else type(message).__name__
    return text.splitlines()[0]


def last_line(text: str, default: str = "") -> str:
    """The last line that is not blank, without surrounding blanks; `default` if there is none.

    >>> last_line("compiling\\nerror: no such file\\n")
    'error: no such file'
    """
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else default


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1.

    >>> counted(1, "face"), counted(2, "face")
    ('1 face', '2 faces')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def printable(text: str, keep: str = "") -> str:
    """The text in one line, with control characters, line ends and other invisible characters escaped.

    keep: characters that are not escaped.

    >>> print(printable("a\\x1b[31m.jpg\\nerror: b"))
    a\\x1b[31m.jpg\\nerror: b
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )


def is_url(text: str) -> bool:
    """Whether a name is an address and not a path, also after pathlib has removed one of its slashes.

    >>> is_url("https://example.org/a.jpg"), is_url("s3:/bucket/a.jpg"), is_url("C:/a.jpg"), is_url("camera:0")
    (True, True, False, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None
