"""What an exchange carried, in words: sizes both ways, and what was uploaded or downloaded, by name and digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from sandtrail.replay.models.call import scrub
from sandtrail.replay.models.media import readable
from sandtrail.replay.turns.facts import whole

__all__ = ["carried", "kept_back"]

MAX_NAMED = 4
MAX_WHY = 300
_REFUSED = frozenset({"denied", "mismatch", "refused", "exfiltration", "malformed", "unrecorded"})
"""Why the gateway answers a request itself."""
_TALK = frozenset(
    {
        "",
        "application/json",
        "application/x-www-form-urlencoded",
        "application/x-ndjson",
        "application/x-protobuf",
        "application/graphql",
        "application/javascript",
        "application/xml",
        "application/xhtml+xml",
        "text/event-stream",
        "text/html",
        "text/css",
        "text/javascript",
        "text/plain",
        "text/xml",
        "multipart/form-data",
        "multipart/related",
        "multipart/mixed",
    }
)
_TALK_FROM = ("application/grpc", "application/vnd.amazon.eventstream", "application/x-amz-json")
_TALK_TO = ("+json", "+xml")
"""What services talk in; bodies of other types, and all that is put somewhere, are files."""


def carried(detail: Mapping[str, Any]) -> tuple[str, set[str]]:
    """From the detail of an http.* event: words, and the flags `upload`, `download` and `refused` where they are
    due."""
    sent, got = _side(detail.get("request")), _side(detail.get("response"))
    refused, kept = _refused(detail), kept_back(detail)
    up, down = list(_sent(detail, sent)), list(_got(detail, got))
    words = [str(detail.get("error") or "")[:MAX_WHY]] if refused else []
    words += [f"by the names {', '.join(names)}"] if (names := _strings(detail.get("names"))) else []
    words += [f"{'tried to upload' if refused else 'uploads'} {_listed(up)}"] if up else []
    words += [f"downloads {_listed(down)}"] if down else []
    out = "kept back" if kept else "out, and no more" if refused else "out"
    sizes = [f"{readable(whole(side.get('bytes')))} {way}" for side, way in ((sent, out), (got, "back")) if side]
    sizes += _unsearched(sent, got)
    flags = {name for name, found in (("upload", up and not kept), ("download", down)) if found}
    return "; ".join([*words, ", ".join(sizes)]) if words or sizes else "", flags | ({"refused"} if refused else set())


def _unsearched(sent: Mapping[str, Any], got: Mapping[str, Any]) -> Iterator[str]:
    """Where a file may be that was not looked for. A long response is mostly a file itself, by its own digest."""
    if sent.get("unread"):
        yield "the request could not be searched for files"
    for side, name in ((sent, "request"), (got, "response")):
        if left := whole(side.get("unlooked")):
            yield f"{left} values of the {name} were not searched for files"


def kept_back(detail: Mapping[str, Any]) -> bool:
    """Whether the gateway refused the request, so that nothing of it left; of a body that was cut off on its way
    something has."""
    sent = _side(detail.get("request"))
    return _refused(detail) and not (sent.get("cut") and sent.get("bytes"))


def _refused(detail: Mapping[str, Any]) -> bool:
    return detail.get("by") == "gateway" and detail.get("reason") in _REFUSED


def _strings(value: object) -> list[str]:
    return [str(one)[:255] for one in value[:8]] if isinstance(value, list) else []


def _side(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sent(detail: Mapping[str, Any], sent: Mapping[str, Any]) -> Iterator[str]:
    for part in _parts(sent):
        if part.get("file") or part.get("as") in ("base64", "query"):
            yield _named(str(part.get("file") or f"base64 in {part.get('name') or 'the body'}"), part)
    method, media = detail.get("method"), str(sent.get("media") or "")
    putting = method == "PUT" and media != "application/json"
    if whole(sent.get("bytes")) and (putting or (method in ("POST", "PATCH") and _is_file(media))):
        name = str(sent.get("file") or (_last(str(detail.get("url") or "")) if putting else "") or media)
        yield _named(name, sent)


def _got(detail: Mapping[str, Any], got: Mapping[str, Any]) -> Iterator[str]:
    for part in _parts(got):
        if part.get("as") == "base64":
            yield _named(f"base64 in {part.get('name') or 'the body'}", part)
    if whole(detail.get("status")) >= 400:
        return
    if whole(got.get("bytes")) and (got.get("file") or _is_file(str(got.get("media") or ""))):
        yield _named(str(got.get("file") or _last(str(detail.get("url") or "")) or got.get("media")), got)


def _is_file(media: str) -> bool:
    return not (media in _TALK or media.startswith(_TALK_FROM) or media.endswith(_TALK_TO))


def _parts(side: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = side.get("parts")
    return [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []


def _named(name: str, what: Mapping[str, Any]) -> str:
    digest = str(what.get("sha256") or "")
    cut = ", cut off" if what.get("cut") else ""
    return f"{scrub(name)[:120]}, {readable(whole(what.get('bytes')))}, sha256 {digest[:16]}…{cut}"


def _listed(found: list[str]) -> str:
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return " and ".join(found[:MAX_NAMED]) + more


def _last(url: str) -> str:
    try:
        return unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    except ValueError:
        return ""
