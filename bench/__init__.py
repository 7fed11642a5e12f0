"""What recording costs: `make bench`."""
