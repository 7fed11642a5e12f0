"""Asking an authority of time for a token over HTTP (RFC 3161 section 3.4)."""

from __future__ import annotations

import time
from collections.abc import Sequence

import httpx
from cryptography import x509

from sandtrail.errors import EnvironmentRefusedError
from sandtrail.store.timestamp import MAX_TOKEN, read_answer, request_token

__all__ = ["stamp"]

_MAX_ANSWER = MAX_TOKEN + 4096


def stamp(url: str, data: bytes, roots: Sequence[x509.Certificate] = (), *, timeout: float = 10.0) -> bytes:
    """Ask the authority at `url` for a token over `data`; returns it in DER. Only the digest leaves this machine.

    `timeout`: seconds in all. Raises EnvironmentRefusedError when no token came, DamagedError when it is not the one
    that was asked for, as `read_answer` does.
    """
    request = request_token(data)
    answer = _post(url, request.as_bytes(), time.monotonic() + timeout, timeout)
    return read_answer(answer, request, data, roots, url)


def _post(url: str, request: bytes, deadline: float, timeout: float) -> bytes:
    headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
    body = b""
    try:
        with httpx.stream("POST", url, content=request, headers=headers, timeout=timeout) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip()
            if response.status_code != 200 or kind != "application/timestamp-reply":
                raise EnvironmentRefusedError(
                    f"the time authority {url} answered {response.status_code} {kind!r:.60}, not a time stamp"
                )
            # Raw: an answer that is compressed is not one, and can't become larger in here.
            for piece in response.iter_raw():
                body += piece
                if len(body) > _MAX_ANSWER:
                    raise EnvironmentRefusedError(f"the time authority {url} answered more than {_MAX_ANSWER} bytes")
                if time.monotonic() > deadline:
                    raise EnvironmentRefusedError(f"the time authority {url} took longer than {timeout:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EnvironmentRefusedError(f"the time authority {url} can't be reached: {error}") from None
    return body
