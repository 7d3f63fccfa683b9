"""HTML and SVG as values: whatever is not markup already is escaped, so no name in a manifest can become a tag."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

NONE: Mapping[str, str] = {}
VOID = {"meta", "img"}  # HTML elements that have no end


class Html(str):
    """Text that is markup. Made by `tag` and `joined`; a plain str is text to escape."""

    __slots__ = ()


def tag(name: str, *children: str, css: str = "", attributes: Mapping[str, str] = NONE) -> Html:
    """`<name class="css" ...>children</name>`; a child or attribute value that is not Html is escaped."""
    pairs = {"class": css, **attributes} if css else attributes
    start = "".join([name, *(f' {key}="{html.escape(value)}"' for key, value in pairs.items())])
    return Html(f"<{start}>" if name in VOID else f"<{start}>{joined(children)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """One after the other."""
    return Html(escaped(between).join(escaped(part) for part in parts))


def escaped(text: str) -> Html:
    """Text as markup that shows it; Html as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text))
