"""Names for clients that look them up themselves: a resolver on the sandbox's link, in transparent modes.

Only what such a client needs is answered: IPv4 addresses, as the host's own resolver gives them, of names that the
rules allow and addresses that a sandbox may reach; of a name with an upstream, the gateway's own address on the link.
Nothing else of a question goes any further. Every question and answer is recorded from the link, by the packet filter;
what is refused here is recorded besides, with the rules that it was judged by. Specification: RFC 1035, RFC 7766.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any, Final

from mitmproxy import dns
from mitmproxy.net.dns import classes, op_codes, response_codes, types

from sandtrail.collector.gateway.addresses import why_not
from sandtrail.collector.gateway.egress import UnknownNameError
from sandtrail.collector.gateway.rules import canonical
from sandtrail.collector.gateway.session import Session, UnrecordedError
from sandtrail.collector.gateway.turned import DNS_PORT

__all__ = ["Names"]

TTL_S: Final = 30
IDLE_S: Final = 30.0
_AT_ONCE: Final = 128
_MOST: Final = 20
"""Addresses in an answer: it fits into any packet."""
_STREAMS: Final = 16


class Names(asyncio.DatagramProtocol):
    """One sandbox's resolver. `here` is its own address on the link."""

    def __init__(self, session: Session, here: str) -> None:
        self._session = session
        self._here = here
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams = 0

    # -- over UDP ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A question. One too many is left unanswered, as a network would; the filter has recorded it."""
        if len(self._tasks) < _AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._datagram(data, addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _datagram(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = await self.answer(data, addr, "udp")
        if answer is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    def close(self) -> None:
        """Answer no more."""
        for task in self._tasks:
            task.cancel()
        if self._transport is not None:
            self._transport.close()

    # -- over TCP ------------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The questions of one connection, one after the other."""
        self._streams += 1
        try:
            while self._streams <= _STREAMS:
                async with asyncio.timeout(IDLE_S):
                    data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                    answer = await self.answer(data, writer.get_extra_info("peername"), "tcp")
                    if answer is None:
                        break
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it has gone, or has nothing more to ask
        finally:
            self._streams -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    # -- answers -------------------------------------------------------------------------------------------------------

    async def answer(self, data: bytes, client: tuple[str, int], proto: str) -> bytes | None:
        """The answer to a question; None for what is none, or cannot be recorded."""
        try:
            message = dns.DNSMessage.unpack(data)
            _ = message.packed  # not every name that can be read can be written into an answer
        except Exception:  # noqa: BLE001 - whatever hostile bytes make a parser of others raise, it is no question
            return None
        question = message.question
        if not message.query or question is None or message.op_code != op_codes.QUERY:
            return None
        name, asker = canonical(question.name), {"client": list(client[:2]), "proto": proto}
        try:
            # What is not to be asked for is told of, whatever it was that it was asked for.
            if not self._may_ask(name, asker):
                return message.fail(response_codes.REFUSED).packed
            if question.class_ != classes.IN or question.type not in (types.A, types.AAAA, types.HTTPS):
                return message.fail(response_codes.NOTIMP).packed
            found = await self._addresses(name, asker)
        except UnknownNameError:
            return message.fail(response_codes.NXDOMAIN).packed
        except OSError:
            return message.fail(response_codes.SERVFAIL).packed
        except UnrecordedError:
            return None
        if found is None:
            return message.fail(response_codes.REFUSED).packed
        if question.type != types.A:
            return message.succeed([]).packed  # the link carries IPv4 only
        records = [dns.ResourceRecord(question.name, types.A, classes.IN, TTL_S, socket.inet_aton(ip)) for ip in found]
        return message.succeed(records).packed

    def _may_ask(self, name: str, asker: dict[str, Any]) -> bool:
        policy, vault = self._session.policy, self._session.vault
        if secret := vault.in_names(name):
            refusal = vault.refusal(secret, name, "host")
            self._refused(name, asker, refusal.message, refusal.reason, **refusal.facts)
            return False
        decision = policy.rules.judge_host(name)
        if decision.denial:
            self._refused(name, asker, decision.denial, "denied", rules=policy.rules.digest, rule=decision.rule)
        return not decision.denial

    async def _addresses(self, name: str, asker: dict[str, Any]) -> list[str] | None:
        """What the sandbox is told; None where it is refused. Raises OSError where the host's resolver has none."""
        if self._session.policy.upstream(name):
            found = [self._here]
        else:
            infos = await self._session.resolver.resolve(name)
            all_of_it = list(dict.fromkeys(str(info[4][0]) for info in infos if info[0] == socket.AF_INET))
            found = [ip for ip in all_of_it if not why_not(ip)][:_MOST]
            if all_of_it and not found:
                self._refused(name, asker, f"{all_of_it[0]} is refused: {why_not(all_of_it[0])}", "refused")
                return None
        for ip in found:
            self._session.told.add(name, ip)
        return found

    def _refused(self, name: str, asker: dict[str, Any], message: str, reason: str, **facts: Any) -> None:
        frame = {"t": "dns", "name": self._session.redactor.name(name), **asker, "server": [self._here, DNS_PORT]}
        self._session.write({**frame, "message": message, "reason": reason, **facts, "at_ns": time.time_ns()})
