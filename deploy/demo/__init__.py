"""The demonstration: a real agent, a scripted model, and an incident whose truth is known line by line."""
