#!/usr/bin/env bash
# What a GPU shows, in one command of at most 8 minutes on a machine with an H100 or H200, 16 cores and a CUDA torch: the
# tests that take a device, on the GPU, then the table for docs/performance.md.
#
#     PYTHON=.venv/bin/python benchmarks/gpu.sh --table gpu
#     PYTHON=.venv/bin/python benchmarks/gpu.sh --tiny        (on a CPU, to see that it works)
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD CAM_TEST_DEVICE=cuda
tests=(-m "device and not slow" tests)
seconds=270
if [[ " $* " == *" --tiny "* ]]; then
    export CAM_TEST_DEVICE=cpu
    tests=(-m "device and not slow" tests/test_hand_worked.py tests/test_evidence.py)
    seconds=900
fi
status=0
timeout 210 "$python" -m pytest -q -p no:cacheprovider "${tests[@]}" || status=1
timeout $seconds "$python" benchmarks/gpu.py "$@" || status=1
exit $status
