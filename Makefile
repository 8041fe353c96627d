# make demo   everything from a fresh clone to a report: tools, libtorch, build, run
# make test   everything from a fresh clone to the tests' last line

CARGO ?= cargo

.PHONY: help setup setup-python build demo test lint
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: ## check the tools, put libtorch into third_party/
	@scripts/setup.sh

setup-python: ## the same, and the tests' Python environments (PyTorch, MLflow, W&B)
	@scripts/setup.sh --python

build: setup ## build doodl3 and doodl3-evaluator into target/debug
	$(CARGO) build --locked --bins

demo: build ## train small networks beside the agent, and show what it sees
	$(CARGO) run --locked --quiet -- demo

lint: setup ## formatting, clippy and documentation, each without a warning
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet

# One profile and one target directory, and cargo's own summary as the last lines.
test: setup-python ## all tests
	$(CARGO) test --locked
