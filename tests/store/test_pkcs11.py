"""The identity's key in a token: it signs there, its PIN shows up nowhere, and each way to fail says what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import MissingPartError, NotFoundError, StoreError, UsageError
from sandtrail.store.keys import load_signer, load_verifier
from sandtrail.store.note import Signer, Verifier
from sandtrail.store.pkcs11 import TokenUri, generate_key, open_private_key, open_token_key
from tests.store.softhsm import MODULE, PIN, SoftToken


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftToken]:
    made = SoftToken(tmp_path / "hsm")
    made.make()
    monkeypatch.setenv("SOFTHSM2_CONF", str(made.configuration))
    import pkcs11

    yield made
    # The library reads its configuration when it is initialized: the next test's token is another one.
    pkcs11.lib(str(MODULE)).finalize()


needs_softhsm = pytest.mark.needs("softhsm")


@needs_softhsm
def test_a_key_made_in_the_token_signs_notes_that_anybody_can_check(token: SoftToken) -> None:
    made = generate_key(TokenUri.parse(token.uri()))
    opened = open_private_key(token.uri())
    assert opened is not None
    assert opened.public == made.public
    Ed25519PublicKey.from_public_bytes(made.public).verify(opened.sign(b"data"), b"data")
    signer = Signer("example.org/log", opened)
    assert Verifier.parse(signer.verifier.vkey).public == made.public
    assert signer.sign("text\n") == Signer("example.org/log", opened).sign("text\n")


@needs_softhsm
def test_a_log_whose_identity_is_in_a_token_has_no_key_file_and_takes_no_other_key(
    token: SoftToken, store: Path
) -> None:
    generate_key(TokenUri.parse(token.uri()))
    generate_key(TokenUri.parse(token.uri("object=another")))
    signer = load_signer(store, "example.org/log", open_private_key(token.uri()))
    assert load_verifier(store) == signer.verifier
    assert not (store / "keys" / "log.key").exists()
    with pytest.raises(StoreError, match="begun with another key"):
        load_signer(store, None, open_private_key(token.uri("object=another")))


@needs_softhsm
def test_the_private_half_cannot_be_taken_out(token: SoftToken) -> None:
    import pkcs11

    generate_key(TokenUri.parse(token.uri()))
    with pkcs11.lib(str(MODULE)).get_token(token_label=token.label).open() as session:
        [key] = session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})
        assert key[pkcs11.Attribute.EXTRACTABLE] is False
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]


@needs_softhsm
def test_a_key_can_be_named_by_its_id_and_its_token_by_serial(token: SoftToken) -> None:
    import pkcs11

    made = generate_key(TokenUri.parse(token.uri("object=sandtrail;id=%01%ff")))
    assert open_token_key(TokenUri.parse(token.uri("id=%01%FF"))).public == made.public
    serial = pkcs11.lib(str(MODULE)).get_token(token_label=token.label).serial.decode().strip()
    by_serial = token.uri("id=%01%ff").replace("token=evidence%20room", f"serial={serial}")
    assert open_token_key(TokenUri.parse(by_serial)).public == made.public


@needs_softhsm
def test_a_key_is_not_made_twice_under_one_name(token: SoftToken) -> None:
    generate_key(TokenUri.parse(token.uri()))
    with pytest.raises(StoreError, match="already"):
        generate_key(TokenUri.parse(token.uri()))


@needs_softhsm
def test_of_two_keys_that_fit_none_is_taken(token: SoftToken) -> None:
    generate_key(TokenUri.parse(token.uri("object=sandtrail;id=%01")))
    generate_key(TokenUri.parse(token.uri("object=sandtrail;id=%02")))
    with pytest.raises(StoreError, match="several Ed25519 keys"):
        open_private_key(token.uri())


@needs_softhsm
def test_a_token_that_is_not_there_is_named_with_those_that_are(token: SoftToken) -> None:
    with pytest.raises(NotFoundError, match=r"'vault'.*'evidence room'"):
        open_private_key(token.uri(token="vault"))


@needs_softhsm
def test_two_tokens_of_one_label_are_not_guessed_between(token: SoftToken) -> None:
    token.add(token.label)
    with pytest.raises(NotFoundError, match="several tokens"):
        open_private_key(token.uri())


@needs_softhsm
def test_a_key_that_is_not_there_is_named_with_the_command_that_makes_it(token: SoftToken) -> None:
    with pytest.raises(NotFoundError, match=r"'sandtrail'.*sandtrail key generate"):
        open_private_key(token.uri())


@needs_softhsm
def test_without_a_pin_the_key_is_not_visible_and_the_message_says_so(token: SoftToken) -> None:
    import pkcs11

    generate_key(TokenUri.parse(token.uri()))
    pkcs11.lib(str(MODULE)).finalize()  # a login holds for the whole process
    with pytest.raises(NotFoundError, match="pin-source="):
        open_private_key(token.uri(pin=False))


@needs_softhsm
def test_a_wrong_pin_is_refused_with_its_file_and_never_shown(token: SoftToken) -> None:
    import pkcs11

    generate_key(TokenUri.parse(token.uri()))
    pkcs11.lib(str(MODULE)).finalize()
    token.write_pin("wrong-pin-99")
    with pytest.raises(StoreError, match="refused the PIN in") as failed:
        open_private_key(token.uri())
    assert "wrong-pin-99" not in str(failed.value)
    token.write_pin(PIN)
    assert open_private_key(token.uri()) is not None


@needs_softhsm
def test_a_token_that_vanishes_between_two_signatures_fails_and_comes_back(token: SoftToken, tmp_path: Path) -> None:
    import pkcs11

    made = generate_key(TokenUri.parse(token.uri()))
    made.sign(b"one")
    shutil.move(token.objects, tmp_path / "unplugged")
    for _ in range(2):
        with pytest.raises(StoreError, match="does not sign: ObjectHandleInvalid"):
            made.sign(b"two")
    shutil.move(tmp_path / "unplugged", token.objects)
    pkcs11.lib(str(MODULE)).finalize()  # as a sealer that is started again
    again = open_private_key(token.uri())
    assert again is not None
    assert again.public == made.public
    Ed25519PublicKey.from_public_bytes(made.public).verify(again.sign(b"two"), b"two")


@needs_softhsm
def test_a_public_half_of_another_key_is_noticed_before_anything_is_signed(token: SoftToken) -> None:
    import pkcs11

    generate_key(TokenUri.parse(token.uri("object=sandtrail;id=%01")))
    generate_key(TokenUri.parse(token.uri("object=other;id=%02")))
    with pkcs11.lib(str(MODULE)).get_token(token_label=token.label).open(rw=True) as session:
        wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY}
        public = {one[pkcs11.Attribute.LABEL]: one for one in session.get_objects(wanted)}
        public["sandtrail"].destroy()
        public["other"].copy({pkcs11.Attribute.LABEL: "sandtrail", pkcs11.Attribute.ID: b"\x01"})
    with pytest.raises(StoreError, match="belongs to another key"):
        open_private_key(token.uri())


@needs_softhsm
def test_a_missing_public_half_is_named(token: SoftToken) -> None:
    import pkcs11

    generate_key(TokenUri.parse(token.uri()))
    with pkcs11.lib(str(MODULE)).get_token(token_label=token.label).open(rw=True) as session:
        [public] = session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY})
        public.destroy()
    with pytest.raises(NotFoundError, match="no public half"):
        open_private_key(token.uri())


def test_who_uses_a_file_needs_no_token() -> None:
    assert open_private_key("file") is None


@pytest.mark.parametrize("setting", ["", "File", "/etc/key", "pkcs12:x"])
def test_another_setting_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="neither file nor a pkcs11: URI"):
        open_private_key(setting)


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="no-such.so is missing"):
        open_private_key(f"pkcs11:token=a;object=b?module-path={tmp_path}/no-such.so")


@pytest.mark.parametrize("work", [open_token_key, generate_key])
def test_without_the_extra_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[TokenUri], object]
) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)  # as where it is not installed
    with pytest.raises(MissingPartError, match=r"sandtrail\[pkcs11\]"):
        work(TokenUri.parse(f"pkcs11:token=a;object=b?module-path={tmp_path}/m.so"))


def test_a_library_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "not.so").write_text("not a library")
    with pytest.raises(StoreError, match="can't be reached"):
        open_private_key(f"pkcs11:token=a;object=b?module-path={tmp_path}/not.so")


def test_a_uri_says_which_key_where_and_how() -> None:
    uri = TokenUri.parse(
        "pkcs11:token=a%20b;object=c%3B;id=%00%ff;type=private?module-path=/m.so&pin-source=file:///pin"
    )
    assert uri == TokenUri(Path("/m.so"), token="a b", object="c;", id=b"\x00\xff", pin_source=Path("/pin"))
    assert str(uri) == "key 'c;' in token 'a b'"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("pkcs11:object=b?module-path=/m.so", "name a token"),
        ("pkcs11:token=a?module-path=/m.so", "a key"),
        ("pkcs11:token=a;object=b", "module-path"),
        ("pkcs11:token=a;object=b?module-path=m.so", "module-path"),
        ("pkcs11:token=a;object=b;type=cert?module-path=/m.so", "type=private"),
        ("pkcs11:token=a;token=c;object=b?module-path=/m.so", "twice"),
        ("pkcs11:token=a;object=b;slot-id=1?module-path=/m.so", "unknown"),
        ("pkcs11:token=a;object=b?module-path=/m.so&pin-source=|askpass", "takes a file"),
        ("pkcs11:token=a;object?module-path=/m.so", "empty"),
    ],
)
def test_a_uri_that_is_not_enough_says_what_is_missing(uri: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        TokenUri.parse(uri)


@pytest.mark.parametrize("name", ["pin-value", "pin"])
def test_a_pin_in_the_uri_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(UsageError, match="pin-source") as failed:
        TokenUri.parse(f"pkcs11:token=a;object=b?module-path=/m.so&{name}=hunter2")
    assert "hunter2" not in str(failed.value)


@given(st.text(alphabet="abct:;=&?%/.-okenjmdulpis \x00é\n", max_size=80))
def test_whatever_is_written_there_it_is_a_uri_or_a_wrong_setting(rest: str) -> None:
    try:
        TokenUri.parse("pkcs11:" + rest)
    except UsageError:
        return


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"1234", 0o644, "chmod 600"),
        (b"1234", 0o640, "chmod 600"),
        (b"", 0o600, "holds no PIN"),
        (b"\n", 0o600, "holds no PIN"),
        (b"\xff\xfe", 0o600, "holds no PIN"),
        (b"1" * 300, 0o600, "holds no PIN"),
    ],
)
def test_a_pin_file_that_is_open_to_others_or_holds_none_is_refused(
    tmp_path: Path, content: bytes, mode: int, says: str
) -> None:
    (tmp_path / "pin").write_bytes(content)
    (tmp_path / "pin").chmod(mode)
    with pytest.raises(StoreError, match=says):
        TokenUri(Path("/m.so"), pin_source=tmp_path / "pin").pin()


def test_a_pin_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        TokenUri(Path("/m.so"), pin_source=tmp_path / "pin").pin()
