"""Keeps and proves: frames -> segments -> log -> checkpoints.

It knows nothing of gVisor or models; HTTP it speaks only between logs, witnesses and time authorities.
"""
