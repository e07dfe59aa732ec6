PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-slow test-ray mutants heads heads-timm heads-transformers bench bench-gpu bench-ray clean

demo: .venv/installed
	$(BIN)/cam explain samples -m digits -o build/demo --target top2 --format png --report --overwrite
	@echo "Open build/demo/report.html. The folder also has one overlay for each sample and class, and manifest.jsonl."

test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

test-slow: .venv/tested
	$(BIN)/pytest -m slow

# The slow tests that need Ray, which is too large for make test: real local clusters, and two nodes in network namespaces.
test-ray: .venv-ray/installed
	.venv-ray/bin/pytest -m slow tests/test_cluster_runs.py

# Plants 120 faults in the code, one at a time, and says which of them the tests do not notice. Takes half an hour.
mutants: .venv/tested
	$(BIN)/python tools/mutants.py

# Finds and proves the heads of all torchvision classifiers: writes docs/heads.md. Takes about an hour.
heads: .venv/installed
	$(BIN)/python tools/heads.py torchvision

# The same for a small network of every family of timm, and every image classifier of Hugging Face. Takes half an hour each.
heads-timm: .venv/tested
	$(BIN)/python tools/heads.py timm

heads-transformers: .venv/tested
	$(BIN)/python tools/heads.py transformers

# Compares cam explain with torchcam, grad-cam and the bare network: writes the tables of docs/performance.md. Takes over
# an hour; benchmarks/compare.py without arguments compares all programs on all networks and images, which takes a day.
bench: .venv-bench/installed
	.venv-bench/bin/python benchmarks/parts.py --pictures small mixed 12MP --count 80 --table parts
	.venv-bench/bin/python benchmarks/jpeg.py --table jpeg
	.venv-bench/bin/python benchmarks/compare.py --models squeezenet1_0 --pictures small --count 800 --rounds 7 --only 'cam explain' 'cam explain --processes 2' torchcam-readme floor floor-eager --table squeezenet
	.venv-bench/bin/python benchmarks/compare.py --models squeezenet1_0 --pictures mixed --count 200 --rounds 5 --only 'cam explain' 'cam explain --processes 2' 'cam explain --engine onnxruntime' torchcam-readme floor floor-eager floor-onnxruntime --table squeezenetmixed
	.venv-bench/bin/python benchmarks/compare.py --models squeezenet1_0 --pictures 12MP --count 200 --rounds 5 --only 'cam explain' 'cam explain --processes 2' floor floor-eager --table large
	.venv-bench/bin/python benchmarks/compare.py --models squeezenet1_0 --pictures 2MP --count 40 --rounds 3 --only 'cam explain' torchcam-readme torchcam layercam gradcam hirescam library codecs --table peers
	.venv-bench/bin/python benchmarks/compare.py --models resnet50 --pictures small mixed --count 60 --rounds 3 --only 'cam explain' 'cam explain --engine onnxruntime' torchcam-readme floor floor-eager floor-onnxruntime --table resnet50
	.venv-bench/bin/python benchmarks/forward.py --rounds 5 --only 'network, maps of 5 classes' 'network, maps of all classes' 'eager engine' 'eager engine, maps of 5 classes' --table maps
	.venv-bench/bin/python benchmarks/forward.py --rounds 3 --models squeezenet1_0 --batches 1 8 --only 'torchcam CAM, 5 classes' 'grad-cam GradCAM, 5 classes' --table mapspeers
	.venv-bench/bin/python benchmarks/forward.py --rounds 3 --models mobilenet_v3_large vgg11 alexnet --batches 1 8 --only 'complete map, 8 nodes' --table mapscomplete
	.venv-bench/bin/python benchmarks/startup.py squeezenet1_0 resnet18 resnet50 --rounds 3 --table startup
	.venv-bench/bin/python benchmarks/engines.py squeezenet1_0 resnet18 resnet50 --table engines

# On a machine with a GPU and a CUDA torch: the tests that take a device, then a table, in 8 minutes.
bench-gpu: .venv/tested
	PYTHON=.venv/bin/python benchmarks/gpu.sh --table gpu

bench-ray: .venv-ray/installed
	.venv-ray/bin/python benchmarks/cluster.py --count 5000 --rounds 3 --table cluster

.venv/created:
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/created setup.cfg pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e .[test]
	touch $@

# A separate environment, because grad-cam installs a second OpenCV.
.venv-bench/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet -c constraints.txt -e .[bench,onnxruntime]
	touch $@

.venv-ray/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip install --quiet -c constraints.txt -e .[test,ray]
	touch $@

clean:
	rm -rf .venv .venv-bench .venv-ray build dist *.egg-info
