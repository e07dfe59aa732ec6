PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-slow heads clean

demo: .venv/installed
	$(BIN)/cam explain samples -m digits -o build/demo --target top2 --format png --overwrite
	@echo "Open build/demo: one picture a sample and class, and manifest.jsonl with the numbers."

test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

test-slow: .venv/tested
	$(BIN)/pytest -m slow

# All of torchvision's classification builders: writes docs/heads.md. Takes about half an hour.
heads: .venv/installed
	$(BIN)/python tools/heads.py

.venv/created:
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/created setup.cfg pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e .[test]
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
