"""The index: what replay has derived from the log, for people and programs to ask. All of it can be made again."""

from sandtrail.replay.index.index import Index

__all__ = ["Index"]
