"""An identity key that lives in a PKCS#11 token: it signs there, and its private half never leaves it.

The key is named by an RFC 7512 URI,

    pkcs11:token=evidence;object=sandtrail?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/sandtrail/pin

with `token` or `serial`, `object` or `id`, and the token's library. The PIN is in a file that only its owner can read,
never in the URI: settings and arguments are shown in too many places. The mechanism is CKM_EDDSA over Ed25519 (PKCS #11
3.1, section 2.3.14), which SoftHSM 2.6 and most network HSMs have; many smart cards have not.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sandtrail.errors import MissingPartError, NotFoundError, StoreError, UsageError
from sandtrail.store.note import PrivateKey

if TYPE_CHECKING:
    from pkcs11 import Session, Token

__all__ = ["TokenKey", "TokenUri", "generate_key", "open_private_key", "open_token_key"]

_PATH = {"token", "serial", "object", "id", "type"}
_QUERY = {"module-path", "pin-source"}
_MAX_PIN = 256
_ED25519 = bytes.fromhex("06032b6570")  # CKA_EC_PARAMS: the DER of id-Ed25519, RFC 8410
# What comes before a 32-byte CKA_EC_POINT: an OCTET STRING (PKCS #11 3.0), a BIT STRING (3.1), or nothing at all.
_POINTS = (b"\x04\x20", b"\x03\x21\x00", b"")
_PROBE = b"sandtrail: is the public key in this token that of the private one?\n"


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Which key in which token, the library that reaches it, and the file with the PIN (None: without login)."""

    module: Path
    token: str | None = None
    serial: str | None = None
    object: str | None = None
    id: bytes | None = None
    pin_source: Path | None = None

    @classmethod
    def parse(cls, uri: str) -> TokenUri:
        """Read an RFC 7512 URI. Raises UsageError, whose text never repeats a value: there might be a PIN in it."""
        scheme, _, rest = uri.strip().partition(":")
        if scheme != "pkcs11":
            raise UsageError("a key in a token is named by a URI that begins with pkcs11: (RFC 7512)")
        path, _, query = rest.partition("?")
        parts = _attributes(path, ";", _PATH)
        asked = _attributes(query, "&", _QUERY)
        if unquote(parts.get("type", "private")) != "private":
            raise UsageError("the pkcs11: URI names another type of object; leave type out, or write type=private")
        module = Path(unquote(asked.get("module-path", "")))
        if not module.is_absolute():
            raise UsageError("the pkcs11: URI needs ?module-path=/the/token's/library.so")
        if not {"token", "serial"} & parts.keys() or not {"object", "id"} & parts.keys():
            raise UsageError("the pkcs11: URI has to name a token (token= or serial=) and a key (object= or id=)")
        text = {name: unquote(value) for name, value in parts.items() if name not in ("id", "type")}
        key_id = unquote_to_bytes(parts["id"]) if "id" in parts else None
        return cls(module, id=key_id, pin_source=_pin_path(asked), **text)

    def __str__(self) -> str:
        key = self.object if self.object is not None else (self.id or b"").hex()
        return f"key {key!r} in token {self.token if self.token is not None else self.serial!r}"

    def pin(self) -> str | None:
        """The PIN. Raises StoreError when its file is missing, is open to others, or holds no PIN."""
        if self.pin_source is None:
            return None
        try:
            fd = os.open(self.pin_source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StoreError(f"the token's PIN can't be read from {self.pin_source}: {error.strerror}") from None
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise StoreError(f"{self.pin_source} can be read by others; run: chmod 600 {self.pin_source}")
            data = file.read(_MAX_PIN + 1).rstrip(b"\r\n")
        try:
            pin = data.decode()
        except UnicodeDecodeError:
            pin = ""
        if not pin or len(data) > _MAX_PIN:
            raise StoreError(f"{self.pin_source} holds no PIN: one line of text is expected")
        return pin


def _attributes(text: str, separator: str, known: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if name in ("pin-value", "pin"):
            raise UsageError("a PIN does not belong into the URI: write it to a file, and pin-source=file:/the/file")
        if name not in known or not equals or name in found:
            names = ", ".join(sorted(known))
            raise UsageError(f"the pkcs11: URI has {_shown(name)!r} twice, empty or unknown; known here: {names}")
        found[name] = value
    return found


def _shown(name: str) -> str:
    return name if len(name) < 30 and name.isascii() and name.isprintable() else "…"


def _pin_path(asked: dict[str, str]) -> Path | None:
    if "pin-source" not in asked:
        return None
    path = Path(unquote(asked["pin-source"]).removeprefix("file:"))
    if not path.is_absolute():
        raise UsageError("pin-source= takes a file: pin-source=file:/etc/sandtrail/pin")
    return Path("/" + str(path).lstrip("/"))


class TokenKey:
    """An Ed25519 private key in a token.

    `public` is its 32 raw bytes. One thread at a time: a PKCS #11 session holds one operation. It does not survive a
    fork. Once the token has failed, every further `sign` fails as well: open the key anew.
    """

    def __init__(self, uri: TokenUri, session: Session) -> None:
        """Find the key. Raises NotFoundError when it is not there, StoreError when it doesn't sign as it should."""
        from pkcs11 import KeyType, ObjectClass

        self._uri = uri
        self._session = session
        self._key: Any = _find(session, ObjectClass.PRIVATE_KEY, KeyType.EC_EDWARDS, uri.object, uri.id)
        if self._key is None:
            hint = "" if uri.pin_source else "; without pin-source= only public objects can be seen"
            raise NotFoundError(f"there is no Ed25519 {uri}{hint}: sandtrail key generate makes one")
        public = _find(session, ObjectClass.PUBLIC_KEY, KeyType.EC_EDWARDS, uri.object, self._key.id or uri.id)
        if public is None:
            raise NotFoundError(f"the {uri} has no public half beside it, by the same label and id; put it there")
        self.public = _point(public)
        self.sign(_PROBE)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature, checked before it is returned. Raises StoreError when the token fails or has gone."""
        from pkcs11 import Mechanism

        with _explained(f"the {self._uri} does not sign"):
            signature: bytes = self._key.sign(data, mechanism=Mechanism.EDDSA)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, data)
        except InvalidSignature:
            raise StoreError(f"the {self._uri} signs wrongly, or its public half belongs to another key") from None
        return signature


def open_private_key(setting: str) -> PrivateKey | None:
    """The identity's private key by the setting `key`: None for "file" (keys/log.key), else one in a token.

    Raises UsageError for a setting that is neither, and as `open_token_key`.
    """
    if setting == "file":
        return None
    if not setting.startswith("pkcs11:"):
        raise UsageError("SANDTRAIL_KEY is neither file nor a pkcs11: URI")
    return open_token_key(TokenUri.parse(setting))


def open_token_key(uri: TokenUri) -> TokenKey:
    """Log in to the token, find the key, and see that it signs.

    Raises MissingPartError (no PKCS #11 support, or no such library), NotFoundError (no such token or key) and
    StoreError (PIN refused, token broken).
    """
    return TokenKey(uri, _login(uri))


def generate_key(uri: TokenUri) -> TokenKey:
    """Make a key in the token that can't be taken out of it. It is durable when this returns.

    Raises as `open_token_key`, and StoreError when the token holds a key of that name already or can't do Ed25519.
    """
    session = _login(uri, rw=True)
    from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

    if _find(session, ObjectClass.PRIVATE_KEY, KeyType.EC_EDWARDS, uri.object, uri.id) is not None:
        raise StoreError(f"there is a {uri} already; name the new one otherwise")
    with _explained(f"the token can't make an Ed25519 {uri}"):
        parameters = session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: _ED25519}, local=True)
        parameters.generate_keypair(
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            id=uri.id or os.urandom(16),
            label=uri.object,
            store=True,
            private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True},
        )
    return TokenKey(uri, session)


def _login(uri: TokenUri, *, rw: bool = False) -> Session:
    try:
        import pkcs11
    except ModuleNotFoundError:
        raise MissingPartError(
            "a key in a token needs more than is installed: pip install 'sandtrail[pkcs11]'"
        ) from None
    from pkcs11 import exceptions

    if not uri.module.exists():
        raise MissingPartError(f"the token's library {uri.module} is missing; SoftHSM's: apt-get install softhsm2")
    pin = uri.pin()
    with _explained(f"the tokens of {uri.module} can't be reached"):
        token = _token(uri, list(pkcs11.lib(str(uri.module)).get_tokens()))
        if pin and token.flags & (pkcs11.TokenFlag.USER_PIN_FINAL_TRY | pkcs11.TokenFlag.USER_PIN_LOCKED):
            # We are started again and again by whoever watches over us: the last try is not ours to spend.
            raise StoreError(f"one more wrong PIN locks the token of {uri}, or it is locked; log in to it by hand")
        try:
            return token.open(rw=rw, user_pin=pin)
        except exceptions.UserAlreadyLoggedIn:
            return token.open(rw=rw)
        except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange):
            raise StoreError(f"the token refused the PIN in {uri.pin_source}; too many wrong ones lock it") from None


def _token(uri: TokenUri, tokens: list[Token]) -> Token:
    found = [
        one
        for one in tokens
        if uri.token in (None, one.label) and uri.serial in (None, one.serial.decode("ascii", "replace").strip())
    ]
    if len(found) != 1:
        here = ", ".join(sorted(repr(one.label) for one in tokens if one.label)) or "none"
        how = "there is no token for the" if not found else "several tokens fit the"
        raise NotFoundError(f"{how} {uri}; tokens of {uri.module}: {here}")
    return found[0]


def _find(session: Session, kind: Any, key_type: Any, label: str | None, key_id: bytes | None) -> Any:
    """The one key that fits, or None. Raises StoreError for several: which of them signs must not be an accident."""
    from pkcs11 import exceptions

    with _explained("the token's keys can't be searched"):
        try:
            return session.get_key(object_class=kind, key_type=key_type, label=label, id=key_id or None)
        except exceptions.NoSuchKey:
            return None
        except exceptions.MultipleObjectsReturned:
            raise StoreError(f"the token has several Ed25519 keys {label or ''!r}: name one by id=%…") from None


def _point(public: Any) -> bytes:
    from pkcs11 import Attribute

    with _explained("the token does not tell its public key"):
        point = bytes(public[Attribute.EC_POINT])
    for before in _POINTS:
        if point.startswith(before) and len(point) == len(before) + 32:
            return point[len(before) :]
    raise StoreError(f"the token's public key is no Ed25519 key: {len(point)} bytes")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the library's errors, which are names of return codes, into ours."""
    from pkcs11.exceptions import PKCS11Error

    try:
        yield
    except PKCS11Error as error:
        words = f"{type(error).__name__} {error}".strip()
        raise StoreError(f"{what}: {words}. Is the token still there? See its own log") from None
