# Everything that a checkout can do. What is fetched stays in .venv, .cache and ~/.cache/sandtrail.
.DEFAULT_GOAL := help
.PHONY: help setup system run demo test lint bench fuzz runsc runsc-all foreign test-parts lock need-root
MAKEFLAGS += --no-print-directory

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' $(MAKEFILE_LIST) | expand -t 18

setup: system .venv/.ready  ## get what is needed: packages of the distribution (as root), .venv from the lock

system:
	@tools/system

.venv/.ready: requirements/dev.lock requirements/bootstrap.lock pyproject.toml .python-version tools/environment \
		hatch_build.py sandtrail/store/_hashing.c
	@tools/environment

run: need-root setup  ## record the demonstration, then leave the API and the page up
	@.venv/bin/sandtrail demo --serve

demo: need-root setup  ## record the demonstration, print its timeline, and exit
	@.venv/bin/sandtrail demo

test: setup  ## the whole test suite; what cannot run here is skipped with the command that gets it
	@.venv/bin/python -m pytest

lint: setup  ## format, rules, types, import contracts
	@failed=0; for check in "ruff format --check ." "ruff check ." mypy "lint-imports --no-logo"; do \
	.venv/bin/$$check || failed=1; done; exit $$failed

bench: need-root setup  ## what recording, keeping and proving cost; one of them: make bench ARGS=append
	@.venv/bin/python -m bench $(ARGS)

runsc: setup  ## build the pinned gVisor runtime (2026-09) from its Go module
	@tools/runsc/build 2026-09

runsc-all: setup  ## build every pinned version that the tests drive
	@tools/runsc/build 2025-02 2026-09

foreign: setup  ## build the pinned verifiers, witness and log of others that judge our log in the tests
	@tools/foreign/build

test-parts: setup runsc-all foreign  ## get everything that the tests can use, so that none is skipped
	@tools/system --tests

fuzz: setup  ## fuzz every decoder for a minute each: make fuzz ARGS="--inputs 1000000 --seconds 0 openai_responses"
	@.venv/bin/python -m tests.fuzz.run $(ARGS)

lock: .venv/.ready  ## write requirements/*.lock anew from pyproject.toml
	@tools/lock

need-root:
	@test "$$(id -u)" = 0 || { \
	echo "This records a gVisor sandbox from outside, which only root can do: it makes a network namespace, loads packet"; \
	echo "filter rules and starts the runtime. Run it as root, for example: sudo make $(MAKECMDGOALS)"; \
	echo "Without root there are: make lint, make test (what needs root is skipped), and 'sandtrail verify'."; exit 1; }
