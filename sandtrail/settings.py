"""Settings: `SANDTRAIL_*` variables, then `sandtrail.toml` in the working folder or /etc/sandtrail, then defaults."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from sandtrail.errors import UsageError

__all__ = ["Settings", "load_settings"]


def _default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/sandtrail")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "sandtrail"


class Settings(BaseSettings):
    """What an operator can set; each field is `SANDTRAIL_<FIELD>` in the environment and `<field>` in the file."""

    model_config = SettingsConfigDict(
        env_prefix="SANDTRAIL_", toml_file=["/etc/sandtrail/sandtrail.toml", "sandtrail.toml"], extra="ignore"
    )

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
    """The settings of this process. Raises UsageError with the names of the variables that are wrong."""
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
