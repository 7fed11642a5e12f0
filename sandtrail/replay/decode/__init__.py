"""Frames -> events. Nothing here does I/O, and nothing here raises on what a frame says."""
