"""What a sandbox may ask of the receiver. Beyond it nothing is kept, and that is counted."""

from typing import Final

MAX_BODY: Final = 16 << 20
"""Of one export, as received, and again with its compression undone. Exporters send 512 spans at a time."""
MEMORY: Final = 64 << 20
"""Of all exports of a sandbox that are under way, as received."""
WORKING: Final = 2
"""Exports of all sandboxes that are redacted and written at once; of one sandbox it is one at a time. Each takes up to
some ten times `MAX_BODY` of memory while it lasts."""
MAX_HEAD: Final = 64 << 10
FIELDS: Final = 128
"""In a head; exporters send ten."""
CONNECTIONS: Final = 64
STREAMS: Final = 16
"""Exports at once on one connection."""
RESETS: Final = 1000
"""How often a client may take back an export on one connection before the connection is closed."""
IDLE_S: Final = 300.0
"""Between two exports."""
STALL_S: Final = 20.0
"""Without a byte while an export is under way."""
EXPORT_S: Final = 60.0
"""For one export from its first byte to its last."""
LINGER_S: Final = 2.0
"""For the rest of an export that is too long."""
REFUSALS: Final = 200
"""How many broken connections are recorded one by one; the rest is in the counts at the stream's end."""
