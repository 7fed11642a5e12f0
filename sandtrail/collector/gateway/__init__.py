"""The explicit egress gateway: mitmproxy as the engine, in a process of its own, one for every sandbox of a machine.

    sandbox ── link ── listening socket in the sandbox's wire namespace          (made by collector.network)
                             │ passed as a file descriptor: keeper → service
                             ▼
    service    listen, unlisten, stop; one Session a sandbox: stream, policy, what it learned, its bounds
    engine     mitmproxy's layers on the connections that are accepted there     (connection, bounds, http1, egress)
    addon      its hooks: decide (route, rules, policy, addresses), record (exchange, tunnel, passage), then let pass
    vault      secrets that a sandbox uses and never holds: out (swap), back (returns), elsewhere (lookout)
    tap        a body on its way past: counted, hashed, redacted (redact, scan, patterns, coding), kept up to a cap
    ca         what the sandbox has to trust: `ensure_ca(home) -> Path`

Who speaks follows from the socket that a connection was accepted on, never from a header. A frame is in the spool
before what it tells of goes on; a frame holds no credential, nor do the logs. Outgoing connections leave from the
host's network namespace, so the host's own addresses are refused unless the policy maps a name to them.
"""
