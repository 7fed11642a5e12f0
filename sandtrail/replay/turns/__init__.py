"""Turns: what the agent was told, what it decided, what it did, and what of it nobody decided."""
