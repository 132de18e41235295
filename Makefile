# Two commands for a new user: `make demo` and `make test`. Each sets up its own environment in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow test-designer lint docs benchmark clean

demo: $(READY)
	$(BIN)/clinical-asr demo --out demo

test: $(READY) lint
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadgroup

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Data Designer wants older versions than the pins and than the extra `agent`: an environment of its own.
test-designer:
	test -x build/designer/bin/python || $(PYTHON) -m venv build/designer
	build/designer/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[designer]' pytest pytest-timeout hypothesis
	NEMO_TELEMETRY_ENABLED=false build/designer/bin/python -m pytest tests/test_data_designer.py

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks models release
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/generate.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

benchmark: $(READY)
	$(BIN)/python benchmarks/demo_stages.py

# make HASHES=1: whatever else comes later, the files of all packages but torch are held to their digests (release/hashes.py).
# torch first and pinned: a plain `torch` would bring gigabytes of CUDA libraries to a machine without a GPU.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -z "$(HASHES)" || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement constraints-hashes.txt --requirement constraints-hashes-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[nemo,frugal,riva,ray,agent,dev]'
	touch $(READY)

clean:
	rm -rf .venv demo build dist .mypy_cache .ruff_cache .pytest_cache

.PHONY: constraints
constraints: $(READY)
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v -e ' @ ' -e '^pip==' | sed 's/+cpu$$//' > constraints.txt

# Releasing: RELEASING.md. The tools live in build/tools, apart from the product.
TOOLS := build/tools
.PHONY: hashes audit licences sbom release release-demo dockerfile

$(TOOLS)/.ready: release/requirements.txt $(READY)
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement release/requirements.txt
	touch $@

hashes: $(TOOLS)/.ready
	$(BIN)/python release/hashes.py write

audit: $(TOOLS)/.ready
	$(BIN)/python release/hashes.py verify
	$(BIN)/python release/audit.py

licences: $(READY)
	$(BIN)/python release/licences.py write

sbom: $(TOOLS)/.ready
	$(BIN)/python release/sbom.py

release: $(TOOLS)/.ready
	$(BIN)/python release/release.py

release-demo: $(TOOLS)/.ready
	$(BIN)/python release/release.py --demo

dockerfile: $(TOOLS)/.ready
	$(BIN)/python release/dockerfile.py
