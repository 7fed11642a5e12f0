"""A PKCS #11 token of a test's own, made with SoftHSM: library and protocol are real, only the metal is missing."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

PIN = "a-pin+7"
# Debian has it here for every architecture; other distributions under /usr/lib64 or the multiarch folder.
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


@dataclass(frozen=True)
class SoftToken:
    """Files of a token under `folder`; the environment of whoever uses it must have SOFTHSM2_CONF=`configuration`."""

    folder: Path
    label: str = "evidence room"

    @property
    def configuration(self) -> Path:
        return self.folder / "softhsm2.conf"

    @property
    def pin_file(self) -> Path:
        return self.folder / "pin"

    @property
    def objects(self) -> Path:
        """Where SoftHSM keeps what is in the token."""
        return self.folder / "tokens"

    def make(self) -> None:
        self.objects.mkdir(parents=True)
        self.configuration.write_text(f"directories.tokendir = {self.objects}\nlog.level = ERROR\n")
        self.write_pin(PIN)
        self.add(self.label)

    def add(self, label: str) -> None:
        """Initialize one more token."""
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "so-" + PIN]
        environment = {"SOFTHSM2_CONF": str(self.configuration), "PATH": "/usr/bin:/bin"}
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def write_pin(self, pin: str) -> None:
        self.pin_file.touch(mode=0o600)
        self.pin_file.write_text(f"{pin}\n")

    def uri(self, key: str = "object=sandtrail", *, token: str = "", pin: bool = True) -> str:
        query = f"?module-path={MODULE}" + (f"&pin-source=file:{self.pin_file}" if pin else "")
        return f"pkcs11:token={quote(token or self.label)};{key}{query}"
