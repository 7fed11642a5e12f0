"""Settings: `SANDTRAIL_*` variables, then `sandtrail.toml` in the working folder or /etc/sandtrail, then defaults.

A file counts only if others could not have written it, see `trusted`; one that they could have is refused, not passed
over: who believes that a policy is in force must not find out later that it was not.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from sandtrail.errors import UsageError
from sandtrail.trusted import require_trusted

__all__ = ["FILES", "OTHERS", "Settings", "in_force", "load_settings", "settings_files", "unknown_names"]

_PREFIX = "SANDTRAIL_"
FILES = (Path("/etc/sandtrail/sandtrail.toml"), Path("sandtrail.toml"))
# Variables that are read where they are needed, and are no fields of Settings.
OTHERS = {
    *("SANDTRAIL_RUN", "SANDTRAIL_CATALOG", "SANDTRAIL_RUNSC", "SANDTRAIL_CACHE"),
    *("SANDTRAIL_DEMO_MODEL", "SANDTRAIL_DEMO_KEY", "SANDTRAIL_DEMO_MODEL_NAME"),
}


def _default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/sandtrail")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "sandtrail"


class Settings(BaseSettings):
    """What an operator can set; each field is `SANDTRAIL_<FIELD>` in the environment and `<field>` in the file."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore")

    home: Path = Field(default_factory=_default_home, description="where evidence, catalog and keys are kept")
    origin: str = Field("", description="the log's name, DOMAIN/CLUSTER/NODE; only a new home takes it up")
    epoch_hours: float = Field(24, gt=0, description="after how many hours the signing key is replaced and erased")
    key: str = Field("file", description="the log's private key: file, or the pkcs11: URI of one in a token")
    witness_policy: str = Field("", description="the file that says which witnesses cosign the log; empty: none")
    witness_every: float = Field(60, gt=0, description="after how many seconds the log is cosigned again")
    tsa_url: str = Field("", description="an authority whose time tokens the log takes in (RFC 3161); empty: none")
    tsa_roots: str = Field("", description="a PEM file: the roots that its tokens have to lead to")
    tsa_every: float = Field(3600, gt=0, description="after how many seconds it is asked again")
    policy: str = Field("", description="the file that says what sandboxes may send where; empty: anything")
    api_host: str = Field("127.0.0.1", description="the address on which the HTTP API listens")
    api_port: int = Field(8700, ge=0, le=65535, description="the port of the HTTP API")
    ui_host: str = Field("127.0.0.1", description="the address on which the page is served")
    ui_port: int = Field(8701, ge=0, le=65535, description="the port of the page")
    api_url: str = Field("", description="where the page finds the API; empty: the API of this machine")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables before the file, the file before the defaults; no .env files."""
        given = {name: value for table in settings_files().values() for name, value in table.items()}
        return init_settings, env_settings, InitSettingsSource(settings_cls, given)

    def file(self, name: str) -> Path | None:
        """The file that the setting `name` (`policy`, `witness_policy`, `tsa_roots`) names, None where it names none.

        Raises UsageError where others could have written that file; that it is not there is left to its reader.
        """
        if not (text := str(getattr(self, name))):
            return None
        path = Path(text)
        with contextlib.suppress(OSError):
            require_trusted(path, f"the settings' {name}")
        return path


@cache
def load_settings() -> Settings:
    """The settings of this process. Raises UsageError with the names of the variables that are wrong, or with the file
    that can't be read or must not be believed."""
    in_force()  # while the environment is what we were given
    try:
        settings = Settings()  # type: ignore[call-arg]  # every field has a default or comes from the environment
    except ValidationError as error:
        wrong = "; ".join(f"SANDTRAIL_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise UsageError(f"a setting is wrong: {wrong}") from None
    settings.home = settings.home.absolute()
    # The processes that we start work in other folders: what a file here says holds for them too.
    for name in settings.model_fields_set:
        os.environ.setdefault(f"SANDTRAIL_{name.upper()}", str(getattr(settings, name)))
    return settings


@cache
def in_force() -> dict[Path, tuple[str, ...]]:
    """What each file decides: the settings in it that no variable and no later file sets. Raises UsageError."""
    taken = {name.upper()[len(_PREFIX) :] for name in os.environ if name.upper().startswith(_PREFIX)}
    found: dict[Path, tuple[str, ...]] = {}
    for path, table in reversed(settings_files().items()):
        found[path] = tuple(name for name in table if name in Settings.model_fields and name.upper() not in taken)
        taken |= {name.upper() for name in table}
    return dict(reversed(found.items()))


def unknown_names() -> list[str]:
    """Names in the files, and variables that begin like ours, that mean nothing to us: most likely they are misspelt.

    Raises UsageError as `load_settings`.
    """
    fields = {f"SANDTRAIL_{name.upper()}" for name in Settings.model_fields}
    known = fields | OTHERS
    variables = {name for name in os.environ if name.upper().startswith("SANDTRAIL_") and name.upper() not in known}
    given = {name for table in settings_files().values() for name in table}
    return sorted(variables | (given - Settings.model_fields.keys()))


@cache
def settings_files() -> dict[Path, dict[str, Any]]:
    """The files that there are, and what they say; a later one wins. Raises UsageError as `load_settings`."""
    found: dict[Path, dict[str, Any]] = {}
    for path in FILES:
        try:
            path = path.absolute()
            require_trusted(path, "the settings file")
            with path.open("rb") as file:
                found[path] = tomllib.load(file)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:  # no TOML, or not UTF-8
            raise UsageError(f"{path} is not as TOML has to be: {error}") from None
    return found
