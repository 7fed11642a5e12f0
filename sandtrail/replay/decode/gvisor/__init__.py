"""gVisor's trace packets -> events."""
