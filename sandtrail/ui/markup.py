"""A small HTML builder in which forgetting to escape is impossible: only `Markup` passes through, text never does."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import urlencode

from sandtrail.ui import text as words

__all__ = ["Child", "Markup", "block", "disclosure", "href", "join", "link", "tag", "text"]

_LONG_LINES = 14
_LONG_CHARS = 1600
_HARD_CAP = 200_000


class Markup(str):
    """HTML that is already safe to insert."""

    __slots__ = ()


type Child = Markup | str | int | float | None | Iterable["Child"]


def text(value: object, keep: str = "") -> Markup:
    """Returns text escaped for HTML, what cannot be seen in it replaced by marked escapes (`<i class=x>\\x1b</i>`)."""
    string = words.as_text(value)
    if string.isascii() and string.isprintable():
        return Markup(escape(string))
    return Markup(
        "".join(
            f'<i class="x">{escape(piece)}</i>' if hidden else escape(piece)
            for piece, hidden in words.pieces(string, keep)
        )
    )


def join(*children: Child) -> Markup:
    """Returns the children one after the other; everything that is not Markup is escaped."""
    out: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            out.append(child)
        elif isinstance(child, str | int | float):
            out.append(text(child))
        else:
            out.append(join(*child))
    return Markup("".join(out))


def tag(name: str, *children: Child, cls: str = "", **attributes: str | int | None) -> Markup:
    """Returns one element. Attribute values are escaped and stripped of invisible characters like text."""
    parts = [f' class="{escape(cls)}"'] if cls else []
    for key, value in attributes.items():
        if value is not None:
            safe = value if isinstance(value, Markup) else words.plain(str(value), 2000)
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(safe)}"')
    return Markup(f"<{name}{''.join(parts)}>{join(*children)}</{name}>")


def href(page: str = "./", *, anchor: str = "", **query: str | int | None) -> Markup:
    """Returns a relative address of this page; parameters that are None or empty are left out."""
    given = {k: v for k, v in query.items() if v not in (None, "")}
    mark = f"#{anchor}" if anchor else ""
    return Markup(f"{page}{'?' if given else ''}{urlencode(given, errors='replace')}{mark}")


def link(where: Markup, *children: Child, cls: str = "", title: str | None = None) -> Markup:
    """Returns an anchor to `where`, which only `href` makes: no text can become a scheme or another host."""
    return tag("a", *children, cls=cls, href=where, title=title)


def block(value: object, cls: str = "") -> Markup:
    """Returns a block of text with its line breaks; a long one is folded behind its first lines."""
    string = words.as_text(value)
    cut = len(string) - _HARD_CAP
    string = string[:_HARD_CAP]
    head = "\n".join(string[:_LONG_CHARS].split("\n")[:_LONG_LINES])
    rest = string[len(head) :]
    # HTML drops a line break right after <pre>; ours is there to be dropped, the string's own is kept.
    shown = join(Markup("\n"), text(head, "\n\t"))
    note = tag("div", f"{cut:,} more characters: open the evidence", cls="note") if cut > 0 else None
    if len(rest.strip()) < 200 and not note:
        return tag("pre", shown, text(rest, "\n\t"), cls=cls)
    lines = rest.count("\n")
    label = f"{lines:,} more lines" if lines > 1 else f"{len(rest):,} more characters"
    return join(
        tag("pre", shown, cls=cls),
        disclosure(label, join(tag("pre", text(rest.removeprefix("\n"), "\n\t"), cls=cls), note), cls="more"),
    )


def disclosure(label: Child, body: Child, cls: str = "", opened: bool = False) -> Markup:
    """Returns something that folds away without a round trip to the server."""
    mark = Markup(" open") if opened else ""
    return Markup(f'<details class="{escape(cls)}"{mark}>{tag("summary", label)}{join(body)}</details>')
