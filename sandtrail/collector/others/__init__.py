"""Other people's gateways as sources: records of the LiteLLM proxy, of Envoy and of Hubble, taken as they are.

What they tell is their word about the traffic, not our own sight of it: each stream says what its source sees and what
it is blind to (docs/sources.md).
"""
