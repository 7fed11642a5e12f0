"""Keeps and proves: frames -> segments -> log -> checkpoints. It knows nothing of gVisor, HTTP or models."""
