"""The one error tree.

SandtrailError                  everything that Sandtrail raises on purpose
├── UsageError                  the call or a setting is wrong; the message says what to write instead
├── MissingPartError            a program or permission is missing; the message says what installs or grants it
├── EnvironmentRefusedError     the machine refused (kernel, runtime, network); says what was tried
├── RecorderError               the recorder's processes cannot be reached or have failed
├── StoreError                  the evidence store cannot be written or read
│   ├── DamagedError            stored evidence does not match what was signed
│   ├── NotFoundError           no such frame, segment, session or log
│   │   └── ErasedError         it was there, and its data key has been destroyed
│   └── WitnessError            a witness refused, or cannot be reached or believed
└── RuntimeFailedError          runsc itself failed; carries its own words
"""

from __future__ import annotations

__all__ = [
    "DamagedError",
    "EnvironmentRefusedError",
    "ErasedError",
    "MissingPartError",
    "NotFoundError",
    "RecorderError",
    "RuntimeFailedError",
    "SandtrailError",
    "StoreError",
    "UsageError",
    "WitnessError",
]


class SandtrailError(Exception):
    """Everything that Sandtrail raises on purpose; its text tells the reader what to do."""


class UsageError(SandtrailError):
    """The call or a setting is wrong."""


class MissingPartError(SandtrailError):
    """A program, a permission or a kernel feature is missing; the text says what installs or grants it."""


class EnvironmentRefusedError(SandtrailError):
    """The machine refused something that it should be able to do."""


class RecorderError(SandtrailError):
    """The recorder's processes cannot be reached or have failed."""


class StoreError(SandtrailError):
    """The evidence store cannot be written or read."""


class DamagedError(StoreError):
    """Stored evidence does not match what was signed."""


class NotFoundError(StoreError):
    """No such frame, segment, session or log."""


class ErasedError(NotFoundError):
    """What was asked for can't be read any more, because the key that it was stored under is gone."""


class WitnessError(StoreError):
    """A witness refused to cosign, or cannot be reached or believed."""


class RuntimeFailedError(SandtrailError):
    """runsc itself failed."""
