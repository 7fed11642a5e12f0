"""What a credential looks like inside a text, and how much of it must be seen before that can be told.

Each rule begins at an anchor, a literal that is cheap to look for. `pattern`, matched at the anchor, finds the
credential: the last of its groups that took part, or all of the match. `undecided` matches the rest of a text that
breaks off while more of it could still make a match, or a longer one; in a stream that much is held back. Everything is
bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["BUILT_IN", "MARK", "REACH", "Rule", "field_rule", "prefix_rule", "query_rule"]

MARK = rb"\{\{credential:[a-z0-9-]{1,64}:[0-9a-f]{16}\}\}"
"""What has been replaced already; no rule takes it for a credential again."""

REACH = 32 << 10
"""No rule looks further than so many bytes from its anchor on."""
_LONGEST = 4096
_TOKEN = rb"[A-Za-z0-9_\-.~+/=%]"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of credential. With `any_case` its anchors are in lower case and looked for in any.

    The rule without a name finds what stands for a credential already, and is left as it is.
    """

    name: str
    anchors: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    undecided: re.Pattern[bytes]
    any_case: bool


def _rule(name: str, anchors: Iterable[str], pattern: bytes, undecided: bytes, *, any_case: bool = False) -> Rule:
    literals = tuple((anchor.lower() if any_case else anchor).encode() for anchor in anchors)
    return Rule(name, literals, re.compile(pattern, re.DOTALL), re.compile(undecided, re.DOTALL), any_case)


def prefix_rule(name: str, prefix: str, least: int, chars: str = r"A-Za-z0-9_\-") -> Rule:
    """A token that its issuer marked with a prefix, with at least `least` characters after it.

    A prefix of three characters also ends ordinary words: it has to stand at the beginning of one.
    """
    head, body = re.escape(prefix.encode()), b"[" + chars.encode() + b"]"
    start = (rb"(?<![A-Za-z0-9])" if len(prefix) < 4 else b"") + head + body
    return _rule(name, [prefix], start + b"{%d,%d}" % (least, _LONGEST), start + b"{0,%d}" % (_LONGEST - 1))


def field_rule(name: str, *names: str, any_case: bool = True) -> Rule:
    """The value of a named field: JSON (also inside of a JSON string), form, shell, YAML, or a header in a text."""
    words = (
        (b"(?i:" if any_case else b"(?:")
        + b"|".join(re.escape(word.encode()) for word in sorted(names, key=len, reverse=True))
        + b")"
    )
    quote, escaped = rb"[\"']", rb"\\{1,7}[\"']"
    between = rb"(?:\\{0,7}[\"'])?\s{0,8}[:=]\s{0,8}"
    scheme = rb"(?:(?i:bearer|basic|token|digest)\s{1,4})?"
    taken = rb"(?!" + MARK + rb")"
    bare = rb"(?!(?i:null|true|false|none)\b)[^\s\"'\\&<>,;(){}\[\]]"
    size = b"{1,%d}" % _LONGEST
    pattern = words + between + rb"(?:" + b"|".join([
        rb"(?P<q>" + quote + rb")" + scheme + taken + rb"(?P<plain>(?:\\.|(?!(?P=q))[^\\])" + size + rb")",
        rb"(?P<e>" + escaped + rb")" + scheme + taken + rb"(?P<nested>(?:(?!(?P=e)).)" + size + rb")",
        scheme + rb"(?P<bare>" + bare + rb"[^\s\"'\\&<>,;(){}\[\]]{3,%d})" % _LONGEST,
    ]) + rb")"  # fmt: skip
    rest = b"{0,%d}" % (_LONGEST - 1)
    spaced = rb"(?:(?i:bearer|basic|token|digest)\s{0,4})?"
    undecided = words + rb"(?:\\{0,7}[\"']?\s{0,8}|" + between + rb"(?:" + b"|".join([
        rb"\\{0,7}",
        rb"(?P<q>" + quote + rb")" + spaced + rb"(?:\\.|(?!(?P=q))[^\\])" + rest + rb"\\?",
        rb"(?P<e>" + escaped + rb")" + spaced + rb"(?:(?!(?P=e)).)" + rest,
        spaced + rb"[^\s\"'\\&<>,;(){}\[\]]" + rest,
        spaced,
    ]) + rb"))"  # fmt: skip
    return _rule(name, names, pattern, undecided, any_case=any_case)


def query_rule(name: str, *names: str) -> Rule:
    """The value of a parameter of a URL that stands in a text."""
    anchors = [f"{before}{word}=" for word in names for before in "?&"]
    words = rb"[?&](?i:" + b"|".join(re.escape(word.encode()) for word in names) + rb")="
    value = rb"[^&#\s\"'<>\\]"
    taken = rb"(?!" + MARK + rb")"
    return _rule(
        name,
        anchors,
        words + taken + rb"(" + value + rb"{6,%d})" % _LONGEST,
        words + value + rb"{0,%d}" % (_LONGEST - 1),
        any_case=True,
    )


_KEY_BODY = rb"[A-Za-z0-9+/=\s\\:,.()\-]"
_KEY_HEAD = rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
_KEY_END = rb"-----END [A-Z0-9 ]{1,60}-----"

BUILT_IN: tuple[Rule, ...] = (
    _rule("", ["{{credential:"], MARK, rb"\{\{credential:[a-z0-9-]{0,64}(?::[0-9a-f]{0,16}\}?)?"),
    prefix_rule("anthropic-key", "sk-ant-", 16),
    prefix_rule("openai-key", "sk-", 16),
    prefix_rule("aws-access-key", "AKIA", 16, "A-Z0-9"),
    prefix_rule("aws-access-key", "ASIA", 16, "A-Z0-9"),
    *(prefix_rule("github-token", f"gh{kind}_", 20, "A-Za-z0-9") for kind in "pousr"),
    prefix_rule("github-token", "github_pat_", 20),
    prefix_rule("gitlab-token", "glpat-", 16),
    prefix_rule("google-key", "AIza", 30),
    prefix_rule("google-token", "ya29.", 16, r"A-Za-z0-9_\-."),
    *(prefix_rule("slack-token", f"xox{kind}-", 10) for kind in "abeoprs"),
    prefix_rule("huggingface-token", "hf_", 24, "A-Za-z0-9"),
    prefix_rule("groq-key", "gsk_", 20, "A-Za-z0-9"),
    prefix_rule("xai-key", "xai-", 20),
    prefix_rule("npm-token", "npm_", 30, "A-Za-z0-9"),
    prefix_rule("pypi-token", "pypi-AgE", 20),
    *(prefix_rule("stripe-key", f"{kind}_live_", 16, "A-Za-z0-9") for kind in ("sk", "rk")),
    *(prefix_rule("stripe-key", f"{kind}_test_", 16, "A-Za-z0-9") for kind in ("sk", "rk")),
    prefix_rule("sendgrid-key", "SG.", 30, r"A-Za-z0-9_\-."),
    _rule(
        "jwt",
        ["eyJ"],
        rb"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{8,%d}(?:\.[A-Za-z0-9_\-]{0,%d}){2,4}" % (_LONGEST, _LONGEST),
        rb"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{0,%d}(?:\.[A-Za-z0-9_\-]{0,%d}){0,4}" % (_LONGEST, _LONGEST),
    ),
    _rule(
        "private-key",
        ["-----BEGIN "],
        _KEY_HEAD + rb"((?:(?!" + _KEY_END + rb")" + _KEY_BODY + rb"){1,16384})",
        rb"-----BEGIN (?:[A-Z0-9 ]{0,80}-{0,4}|[A-Z0-9 ]{0,63}PRIVATE KEY(?: BLOCK)?-----(?:(?!"
        + _KEY_END + rb")" + _KEY_BODY + rb"){0,16383})",
    ),
    _rule(
        "bearer-token",
        ["bearer"],
        rb"(?i:bearer)\s{1,8}(?=" + _TOKEN + rb"{0,64}[0-9])(" + _TOKEN + rb"{16,%d})" % _LONGEST,
        rb"(?i:bearer)(?:\s{0,8}|\s{1,8}" + _TOKEN + rb"{0,%d})" % (_LONGEST - 1),
        any_case=True,
    ),
    _rule(
        "url-password",
        ["://"],
        rb"://[^\s/:@\"'<>\\]{0,256}:(?!" + MARK + rb")([^\s/@\"'<>\\]{1,1024})@",
        rb"://[^\s/:@\"'<>\\]{0,256}(?::[^\s/@\"'<>\\]{0,1024})?",
    ),
    query_rule("query-key", "key", "token", "sig", "signature", "auth",
               "X-Amz-Signature", "X-Amz-Security-Token", "X-Goog-Signature"),
    field_rule("field", "password", "passwd", "client_secret", "api_key", "api-key", "apikey", "access_token",
               "refresh_token", "id_token", "secret_access_key", "SecretAccessKey", "session_token", "authorization"),
    field_rule("field", "clientSecret", "accessToken", "refreshToken", "sessionToken", any_case=False),
)  # fmt: skip
