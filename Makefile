PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-slow heads bench clean

demo: .venv/installed
	$(BIN)/cam explain samples -m digits -o build/demo --target top2 --format png --report --overwrite
	@echo "Open build/demo/report.html; beside it one picture a sample and class, and manifest.jsonl with the numbers."

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

# cam explain beside torchcam, grad-cam and the bare network. Takes some hours.
bench: .venv-bench/installed
	.venv-bench/bin/python benchmarks/compare.py
	.venv-bench/bin/python benchmarks/forward.py
	.venv-bench/bin/python benchmarks/parts.py
	.venv-bench/bin/python benchmarks/startup.py squeezenet1_0:random resnet50:random

.venv/created:
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/created setup.cfg pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e .[test]
	touch $@

# Of its own, since grad-cam brings a second OpenCV.
.venv-bench/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet -c constraints.txt -e .[bench,onnxruntime]
	touch $@

clean:
	rm -rf .venv .venv-bench build dist *.egg-info
