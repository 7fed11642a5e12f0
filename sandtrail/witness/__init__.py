"""Witnesses (C2SP tlog-witness v1.0.0): others who state that a log only ever grew. Server and client."""
