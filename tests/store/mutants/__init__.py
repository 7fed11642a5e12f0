"""A corpus of damaged logs: every kind of attack that docs/threat-model.md speaks of, made from one real store.

`base` records the store with the real sealer, `edit` changes copies of it, each module `attacks_*` holds one family of
attacks, `corpus` draws from them by a seed. `python -m tests.store.mutants --out DIR` writes the corpus down.
"""
