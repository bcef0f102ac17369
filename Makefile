# Everything starts from python3 (3.11 or later) and make; the virtual environment is made once.
PYTHON ?= python3
BIN := .venv/bin
export MPLBACKEND := Agg
export NO_MKDOCS_2_WARNING := 1
# Processes that run tests side by side; each may hold a model of 3 GB.
TESTERS ?= 2

.PHONY: help demo test lint docs pages notebooks fuzz fuzz-cli kills bench verify zoo paper clean

help:
	@echo "make demo    simulate, ask and read a real model, compare; ends in what was found and demo/report.html"
	@echo "make test    the ordinary test run (CI)"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make docs    this documentation as a site, built strictly into site/"
	@echo "make pages   run what the pages of docs/ show, and compare it with the output that they show: three minutes"
	@echo "make notebooks  the examples as notebooks, into notebooks/"
	@echo "make fuzz    the property tests on new random examples, ten times as many"
	@echo "make fuzz-cli  hostile input to every command, counted by kind into docs/hostile.md: ten minutes"
	@echo "make kills   SIGKILL at random moments; what goes on must end in the same bytes, into docs/hostile.md: five minutes"
	@echo "make verify  slow checks against theory and literature"
	@echo "make bench   speed against named peers"
	@echo "make paper   the claims of the paper on pretrained models: hours, resumed after a kill; TINY=1: the tiny ones"
	@echo "make zoo     train four tiny models of each family, none of them shipped: about an hour"

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[models,dask,dev]'
	@touch $@

demo: .venv/.installed
	$(BIN)/python -m routegraph.cli.demo

test: .venv/.installed
	$(BIN)/python -m pytest -q --durations=10 -n $(TESTERS) --dist worksteal
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q tests/kernels

fuzz: .venv/.installed
	$(BIN)/python -m pytest -q -m hypothesis --hypothesis-profile=fuzz

# Ten minutes at most, two cases at once; each is confined in memory, processes and time.
fuzz-cli: .venv/.installed
	$(BIN)/python -m studies.hostile

# Forty kills at random moments, each followed by a run to the end; three processes on one folder, twenty rounds.
kills: .venv/.installed
	$(BIN)/python -m studies.hostile.kills
	$(BIN)/python -m studies.hostile.together

lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/.docs: .venv/.installed
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: .venv/.docs
	$(BIN)/mkdocs build --strict

pages: .venv/.installed
	$(BIN)/python -m studies.check_docs

KERNEL := {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
notebooks: .venv/.installed
	@mkdir -p notebooks
	@for example in examples/*.py; do \
	made=notebooks/$$(basename $$example .py).ipynb; echo "$$made"; \
	$(BIN)/jupytext --quiet --to ipynb --update-metadata '$(KERNEL)' --output $$made $$example || exit 1; \
	done

verify: .venv/.installed
	$(BIN)/python -m pytest -q -m verify tests --durations=0

# A model that the gate refuses is kept, and the others are trained all the same; what is finished is not done again.
zoo: .venv/.installed
	@refused=; for name in llama-tiny qwen-tiny; do for seed in 11 12 13 14; do \
	$(BIN)/routegraph model train $$name --seed $$seed --out zoo/$$name-$$seed || refused="$$refused $$name-$$seed"; \
	done; done; test -z "$$refused" || { echo "not accepted:$$refused"; exit 1; }

# CELLS=DIR: a folder of finished cells, by default papers/2603.01426/cells. TINY=1: the models trained here, on a page of their own.
paper: .venv/.installed
	$(BIN)/python papers/2603.01426/redo.py $(if $(CELLS),--cells $(CELLS)) $(if $(TINY),--tiny)

.venv/.peers: .venv/.installed
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

bench: .venv/.peers
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv demo site notebooks build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
