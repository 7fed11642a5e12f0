"""Made-up credentials of every kind that the built-in rules know. None of them was ever valid."""

from __future__ import annotations

TOKENS: dict[str, bytes] = {
    "anthropic-key": b"sk-ant-api03-" + b"AbCd1234-EfGh_5678" * 4,
    "openai-key": b"sk-proj-" + b"AbCd1234EfGh5678" * 3,
    "aws-access-key": b"AKIA" + b"IOSFODNN7EXAMPLE",
    "github-token": b"ghp_" + b"0123456789abcdefABCDEF0123456789abcd",
    "gitlab-token": b"glpat-" + b"x1y2z3x1y2z3x1y2z3x1",
    "google-key": b"AIza" + b"SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "google-token": b"ya29." + b"a0AfB_byC1d2E3f4G5h6I7j8",
    "slack-token": b"xoxb-" + b"123456789012-abcdefABCDEF",
    "huggingface-token": b"hf_" + b"AbCdEfGhIjKlMnOpQrStUvWxYz0123",
    "npm-token": b"npm_" + b"0123456789abcdefABCDEF0123456789abcd",
    "stripe-key": b"sk_" + b"live_0123456789abcdefABCDEF01",
    "jwt": b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    "private-key": b"MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn\nygWyF0fake0fake0fake0fake0fake0\nq1w2e3==",
    "bearer-token": b"c2VjcmV0LXRva2VuLTEyMzQ1Njc4OTA",
    "url-password": b"hunter2hunter2",
    "field": b"correct horse battery 1 staple",
}
"""What must not be in any record."""

_AROUND: dict[str, tuple[bytes, bytes]] = {
    "private-key": (b"-----BEGIN RSA PRIVATE KEY-----\n", b"\n-----END RSA PRIVATE KEY-----\n"),
    "bearer-token": (b"curl with Bearer ", b"\r\n"),
    "url-password": (b"git clone https://me:", b"@git.test/x.git"),
    "field": (b'{"user": "me", "client_secret": "', b'"}'),
}


def in_context(kind: str) -> bytes:
    """The secret as it stands in a text."""
    before, after = _AROUND.get(kind, (b"the key is ", b", keep it safe"))
    return before + TOKENS[kind] + after
