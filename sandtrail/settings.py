"""Settings: `SANDTRAIL_*` variables, then `sandtrail.toml` in the working folder or /etc/sandtrail, then defaults."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from sandtrail.errors import UsageError

__all__ = ["FILES", "OTHERS", "Settings", "load_settings", "unknown_names"]

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

    model_config = SettingsConfigDict(env_prefix="SANDTRAIL_", toml_file=[*FILES], extra="ignore")

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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


@cache
def load_settings() -> Settings:
    """The settings of this process. Raises UsageError with the names of the variables that are wrong, or with the file
    that can't be read."""
    _given()  # says which of the files is wrong
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


def unknown_names() -> list[str]:
    """Names in the files, and variables that begin like ours, that mean nothing to us: most likely they are misspelt.

    Raises UsageError as `load_settings`.
    """
    fields = {f"SANDTRAIL_{name.upper()}" for name in Settings.model_fields}
    known = fields | OTHERS
    variables = {name for name in os.environ if name.upper().startswith("SANDTRAIL_") and name.upper() not in known}
    return sorted(variables | (_given() - Settings.model_fields.keys()))


def _given() -> set[str]:
    """The names that the files set."""
    names: set[str] = set()
    for path in FILES:
        try:
            with path.open("rb") as file:
                names |= tomllib.load(file).keys()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"{path.absolute()} cannot be read: {error.strerror}") from None
        except ValueError as error:  # no TOML, or not UTF-8
            raise UsageError(f"{path.absolute()} is not as TOML has to be: {error}") from None
    return names
