"""The parts of the gateway's bench: a model that streams, bare mitmproxy, Sandtrail's gateway, and a client."""
