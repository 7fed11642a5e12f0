"""`sandtrail key`: the public keys to pin elsewhere, and making a private one in a token."""

from __future__ import annotations

import base64
from typing import Annotated

import typer

from sandtrail.commands.options import Home, Json, home_folder, print_json
from sandtrail.errors import UsageError
from sandtrail.settings import load_settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `key` and `key generate`."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(show)
    group.command()(generate)
    app.add_typer(group, name="key")


def show(context: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Print the log's verifier keys, to be kept elsewhere: its identity's, and its first epoch's."""
    if context.invoked_subcommand:
        return
    from sandtrail.store.keys import load_pins

    identity, epoch = load_pins(home_folder(home))
    if as_json:
        print_json({"identity": identity.vkey, "epoch": epoch.vkey if epoch else None})
        return
    # As in keys/log.vkey: what is printed here can be kept as a file and given to verify.
    for verifier in filter(None, (identity, epoch)):
        print(verifier.vkey)


def generate(
    pkcs11: Annotated[str, typer.Option(metavar="URI", help="The new key's name, as SANDTRAIL_KEY has it.")] = "",
    as_json: Json = False,
) -> None:
    """Make the identity's key in a PKCS#11 token, before the log's first start. The PIN is read from pin-source."""
    from sandtrail.store.pkcs11 import TokenUri, generate_key

    uri = pkcs11 or load_settings().key
    if not uri.startswith("pkcs11:"):
        raise UsageError("name the key to make: --pkcs11 'pkcs11:token=…;object=…?module-path=…&pin-source=file:…'")
    key = TokenUri.parse(uri)
    public = base64.b64encode(generate_key(key).public).decode()
    if as_json:
        print_json({"made": str(key), "public": public})
        return
    print(f"made {key}: Ed25519 public key {public}")
    print("use it: set SANDTRAIL_KEY to its URI before the recorder's first start")
