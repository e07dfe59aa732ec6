"""Explain images on a Ray cluster: one process a core, or several a GPU, each with its own classifier."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from cam.classifiers.classifier import Classifier
from cam.classifiers.sources.base import import_extra
from cam.errors import CamError, UsageError
from cam.runs.explainer import batch_size_on
from cam.runs.options import RunOptions
from cam.runs.processes import Backend, Load, ProcessDiedError, ProcessExplainer

LOCAL = "local"
_ADDRESS = re.compile(r"local|auto|[\w.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_BATCHES = 4  # of a call, which costs 2 ms
_PROCESSES = 4  # a GPU, which one process of Python does not keep busy
_OBJECTS = 2**27  # bytes of shared memory of a local cluster; paths take little


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster: its address, "local" for one on this machine; and how its processes load the classifier."""

    address: str
    arguments: Mapping[str, Any]  # of `load_classifier`

    def __post_init__(self) -> None:
        """Raise UsageError for an argument that is wrong on any cluster, ModelError if Ray is not installed."""
        if not _ADDRESS.fullmatch(self.address):
            remedy = "Put --ray at the end, or write --ray=HOST:PORT, or --ray=auto on a machine of the cluster"
            raise UsageError(f"--ray {self.address!r} is not the address of a Ray cluster", remedy)
        if ":" in (device := self.arguments["device"]):
            raise UsageError(f"--device {device} is of one machine", f"With --ray give {device.partition(':')[0]}")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import_extra("ray", "ray", "--ray")

    @contextmanager
    def started(self, classifier: Classifier, options: RunOptions, load: Load) -> Iterator[Backend]:
        """Connect to the cluster, or start a local one; disconnect afterwards."""
        import ray

        with _connected(ray, self.address):
            yield _RayBackend(ray, self, options, load)


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    settings: dict[str, Any] = {}
    if address == LOCAL:
        settings = {"num_cpus": torch.get_num_threads(), "include_dashboard": False, "object_store_memory": _OBJECTS}
        os.environ.setdefault("RAY_worker_niceness", "0")  # by default a busy machine runs them last
    logging.getLogger("ray").setLevel(logging.ERROR)
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        remedy = "Give the address of a cluster that runs; if it has a token, set RAY_AUTH_MODE=token"
        raise UsageError(
            f"--ray {address} cannot be used ({' '.join(str(error).split()).rstrip('.')})", remedy
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray's own ends the process at once
    try:
        yield
    finally:
        ray.shutdown()


class _RayBackend:
    """Processes of a cluster: one a core, or several a GPU."""

    threads = 1
    remedy = "Install the same gapcam[ray] on all machines, and give them the same RAY_AUTH_MODE"

    def __init__(self, ray: Any, cluster: Cluster, options: RunOptions, load: Load) -> None:
        free = ray.available_resources()
        cpus, gpus = int(free.get("CPU", 0)), int(free.get("GPU", 0)) * (cluster.arguments["device"] != "cpu")
        if not cpus:
            raise UsageError(f"--ray {cluster.address} has no free core", "Wait until other jobs end, or add machines")
        share = max(1, min(_PROCESSES, cpus // gpus)) if gpus else 0
        size = batch_size_on("cuda" if gpus else "cpu", options)
        self.workers = max(1, min(gpus * share or cpus, -(-load.images // size) + load.clips))
        self.batch_size = size * max(1, min(_BATCHES, load.images // (size * self.workers)))
        self._ray = ray
        self._type = ray.remote(num_cpus=1, num_gpus=1 / share if gpus else 0, max_restarts=0)(ProcessExplainer)

    def start(self) -> _RayProcess:
        """Start a process."""
        return _RayProcess(self._ray, self._type.remote())


@dataclass(frozen=True)
class _RayProcess:
    ray: Any
    actor: Any

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method; raise what it raises, and ProcessDiedError if the process ends."""
        try:
            return self.ray.get(getattr(self.actor, method).remote(*arguments))
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, CamError) else error) from None
        except self.ray.exceptions.RayError as error:
            message = str(error).strip() or type(error).__name__
            raise ProcessDiedError(message.splitlines()[-1].strip().rstrip(".")) from error

    def kill(self) -> None:
        """End the process at once."""
        self.ray.kill(self.actor)
