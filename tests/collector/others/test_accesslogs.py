"""Envoy's access log service against a client that means no good."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events

from sandtrail.collector.claims.limits import MEMORY
from sandtrail.collector.others.accesslogs import METHOD, WEIGHT
from sandtrail.collector.others.intake import Binding, Intake
from sandtrail.collector.others.listen import Listener
from sandtrail.collector.others.sources import source_named

MESSAGES = 5000
ROOM = 100


class Watched(Intake):
    """Looks now and then how much is under way."""

    most = 0

    def write(self, *args: Any, **facts: Any) -> None:
        if self.counts["records"] % 20 == 0:
            self.most = max(self.most, len(asyncio.all_tasks()))
        super().write(*args, **facts)


async def flooded(intake: Intake) -> Listener:
    """Send one call with so many empty messages, to where there is room for a few at a time."""
    listener, stop = Listener(intake), asyncio.Event()
    assert listener.reserve(MEMORY - ROOM * WEIGHT)
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(listener.run("127.0.0.1", 0, stop, told.set_result))
    reader, writer = await asyncio.open_connection("127.0.0.1", int((await told).rpartition(":")[2]))
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    http.initiate_connection()
    head = {":method": "POST", ":scheme": "http", ":authority": "x", ":path": METHOD}
    http.send_headers(1, [*head.items(), ("content-type", "application/grpc")])
    left, over = bytes(5 * MESSAGES), False
    while not over:
        while left and (room := min(http.local_flow_control_window(1), http.max_outbound_frame_size, len(left))):
            http.send_data(1, left[:room])
            left = left[room:]
            if not left:
                http.end_stream(1)
        writer.write(http.data_to_send())
        data = await reader.read(65_536)
        for event in http.receive_data(data) if data else ():
            over = over or isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)
            if isinstance(event, h2.events.TrailersReceived | h2.events.ResponseReceived):
                left = b""
        over = over or not data
    writer.close()
    stop.set()
    await serving
    return listener


def test_empty_messages_take_their_share_of_the_memory(tmp_path: Path) -> None:
    intake = Watched(tmp_path / "home", source_named("envoy"), Binding())
    listener = asyncio.run(flooded(intake))
    intake.close("ended")
    assert 0 < intake.most <= ROOM + 10
    assert listener.reserve(ROOM * WEIGHT), "some of it was not given back"
