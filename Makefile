# `make` alone prints what there is. Each target works from nothing: it makes .venv and installs there first.

PYTHON ?= python3
INSTALLED := .venv/.installed
SEARCHING := $(if $(wildcard $(INSTALLED)),$(INSTALLED),.venv/.searching)
DEMO := demo-index
RESULTS := recipes/mini/exp
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup lock demo demo-train test test-slow test-all lint format types bench bench-full clean

help: ## print this
	@awk -F ': .*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: $(INSTALLED) ## make .venv and install clsr with all extras there, at the versions of requirements.lock

$(INSTALLED): setup.py requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv/.searching: setup.py requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[people,web]'
	touch $@

lock: $(INSTALLED) ## renew requirements.lock within the ranges of setup.py, install it, and run all tests
	.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --extra all --extra test \
	  --no-annotate --custom-compile-command "make lock" --output-file requirements.lock setup.py
	$(MAKE) test-all

demo: $(SEARCHING) ## search 19 minutes of a person reading: five questions, with times and what was said
	clsr index --index $(DEMO) examples/recording/buccaneers.opus
	@echo; clsr search --index $(DEMO) --questions examples/recording/questions.jsonl --top-k 2
	@echo; echo "Ask more:  .venv/bin/clsr search --index $(DEMO) \"what kind of dog did he look like?\""
	@echo "The page:  .venv/bin/clsr serve --index $(DEMO), then open http://127.0.0.1:7860/"

demo-train: $(INSTALLED) ## train, measure and search the mini corpus (recipes/mini)
	recipes/mini/run.sh --baselines ""
	@echo; cat $(RESULTS)/report.md
	@echo; cat $(RESULTS)/search/log.txt
	@echo; echo "The table: $(RESULTS)/report.md and report.json; figures: $(RESULTS)/report; model: $(RESULTS)/joint"
	@echo "Ask more: .venv/bin/clsr search --index $(RESULTS)/index \"who sold the old horse?\""

test: lint types ## check format, style and types, and run the quick tests: before each push, minutes
	pytest -rs -m "not slow" --numprocesses 2

test-slow: $(INSTALLED) ## run the slow tests: recipes in smoke mode, the page in a browser, killed runs
	pytest -rs -m slow --numprocesses 2 --maxschedchunk 1 --durations 20  # one at a time to whoever is free

test-all: test test-slow ## run everything, as continuous integration does: under an hour on two cores

lint: $(INSTALLED) ## check format and style
	ruff format --check
	ruff check

format: $(INSTALLED) ## rewrite the code in its format, imports sorted
	ruff check --fix
	ruff format

types: $(INSTALLED) ## check types
	mypy

bench: $(INSTALLED) ## time encoding, search and training in minutes, baselines beside them
	clsr bench

bench-full: $(INSTALLED) ## time all shapes and sizes into docs/results/speed.md: an hour or more
	mkdir -p bench
	clsr bench --full --only stages shapes path --output bench/encoding.json
	clsr bench --full --only baselines --output bench/baselines.json
	clsr bench --full --only search --output bench/search.json
	clsr bench --full --only training --output bench/training.json
	clsr bench --tables bench/encoding.json bench/baselines.json bench/search.json bench/training.json --into docs/results/speed.md

clean: ## remove caches; .venv and what recipes trained stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	find clsr recipes tests -name __pycache__ -type d -exec rm -rf {} +
