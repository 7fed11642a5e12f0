"""The log of a cluster: which nodes there are, what each of them has signed, and which of them have fallen silent."""
