"""The receiver of the agent's own telemetry: OTLP over gRPC and HTTP, kept as claims, in a process of its own.

    sandbox ── link ── two listening sockets in the sandbox's wire namespace    (made by collector.network)
                             │ passed as file descriptors: keeper → service
                             ▼
    service    listen, unlisten, stop; one Session a sandbox: stream, what it learned, its bounds
    link       a connection: which protocol it speaks, its clock and its byte counts      (http1, http2, grpc)
    session    an export: redacted (redact), recorded, and only then acknowledged         (export, answers)

Nothing here knows what a span is: an export is kept as the bytes that it was. Who speaks follows from the socket that
a connection was accepted on. Specification: OTLP 1.x (opentelemetry.io/docs/specs/otlp).
"""
