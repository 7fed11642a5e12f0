"""What the agent says of itself, read from the exports that the receiver kept: OTLP -> items -> claims.

    protobuf, otlp_json    an export's bytes -> items, one a span, log record or metric
    conventions            the names that instrumentations give to things, one table a convention
    normal                 an item -> a claim: one shape, whatever the convention

A claim is never a fact. It is shown beside what was seen, with its own evidence, and nothing here weighs it.
"""
