"""Explain images on a Ray cluster: one process a core, or several a GPU, each with its own classifier."""

from __future__ import annotations

import json
import logging
import os
import platform
import queue
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import torch

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_classifier
from cam.classifiers.provenance import describe
from cam.classifiers.sources.base import import_extra
from cam.classifiers.truth import Truth
from cam.errors import CamError, ImageError, ModelError, UsageError, reason_of
from cam.images.find import Picture
from cam.runs.explainer import Explainer, Peaks, batch_size_on
from cam.runs.folder import RunFolder
from cam.runs.manifest import Record
from cam.runs.options import Batch, RunOptions, first_difference, settings_of
from cam.runs.workers import in_order, threads_divided_by
from cam.runs.writing import write_picture
from cam.tensors import no_tf32

LOCAL = "local"
_ADDRESS = re.compile(r"local|auto|[\w.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_BATCHES = 4  # of a call: it costs 2 ms
_PROCESSES = 4  # a GPU, which one process of Python does not keep busy
_LOADS = 3  # of a process that ends while it loads the classifier, before the run ends, too
_OBJECTS = 2**27  # bytes of shared memory of a local cluster; paths take little
Item = TypeVar("Item")


class WorkerDiedError(Exception):
    """The process that explained images ended."""


@dataclass(frozen=True)
class Job:
    """What a process of a cluster needs to know before it explains images."""

    cluster: Cluster
    folder: RunFolder
    options: RunOptions
    run_info: Mapping[str, Any]  # with the settings that it must have, too, and the working directory
    images: int  # its share
    frames: int  # likewise, of clips


class Load(NamedTuple):
    """How much there is to explain."""

    images: int
    clips: int
    frames: int  # of the clips


class _Process:
    """A process of a cluster. It explains in a thread, as a run on one machine does."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "cam")
        self._stack = ExitStack()

    def load(self, job: Job) -> tuple[str, str | None]:
        """Load the classifier, and return its device and the name of its engine."""
        return self._thread.submit(self._load, job).result()

    def _load(self, job: Job) -> tuple[str, str | None]:
        host = f"The machine {platform.node()!r} of the Ray cluster"
        try:
            os.chdir(job.run_info["directory"])
        except OSError as error:
            problem = f"{host} has no folder {job.run_info['directory']!r} ({reason_of(error)})"
            raise UsageError(problem, "Run the command in a folder that all machines share") from error
        self._stack.enter_context(no_tf32())
        self._stack.enter_context(threads_divided_by(torch.get_num_threads()))
        classifier = job.cluster.load()
        settings = settings_of(classifier, describe(classifier, {}), job.options)
        mine = {"settings": json.loads(json.dumps(settings, default=str)), "arguments": {}}
        if mine["settings"] != job.run_info["settings"]:
            problem = f"{host} loads another model ({first_difference(job.run_info, mine)})"
            raise UsageError(problem, "Install the same gapcam on all machines, and give --weights that all can read")
        self.explainer = Explainer(classifier, job.folder, job.options, job.images, job.frames)
        return self.explainer.device, self.explainer.engine

    def call(self, method: str, options: RunOptions, chunk: Batch) -> tuple[list[Any], str]:
        """Explain batches by a method of `Explainer`; also return why a slower engine ran."""
        return self._thread.submit(self._call, method, options, chunk).result()

    def _call(self, method: str, options: RunOptions, chunk: Batch) -> tuple[list[Any], str]:
        size, explainer = self.explainer.batch_size, self.explainer
        batches = (chunk[start : start + size] for start in range(0, len(chunk), size))
        if method == "explain_clips":
            results = [record for records in explainer.explain_clips(options, chunk) for record in records]
        else:
            results = [item for batch in batches for item in getattr(explainer, method)(options, batch)]
        explainer.forget([])
        return results, explainer.reason


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

    def load(self, **changes: Any) -> Classifier:
        """Load the classifier, with other arguments if given; random weights are the same in every process."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return load_classifier(**{**self.arguments, **changes})

    @contextmanager
    def started(
        self, folder: RunFolder, options: RunOptions, labels: Sequence[str], run_info: Mapping[str, Any], load: Load
    ) -> Iterator[Processes]:
        """Connect to the cluster, or start a local one, with processes for so much; end them afterwards."""
        import ray

        with _connected(ray, self.address):
            processes = Processes(ray, self, folder, options, labels, run_info, load)
            try:
                processes.start()
                yield processes
            finally:
                processes.close()


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
    except (OSError, RuntimeError, ValueError) as error:
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


class Processes:
    """The processes of a cluster: a `Worker` that hands each call to one of them, and replaces those that end."""

    def __init__(
        self,
        ray: Any,
        cluster: Cluster,
        folder: RunFolder,
        options: RunOptions,
        labels: Sequence[str],
        run_info: Mapping[str, Any],
        load: Load,
    ) -> None:
        self._ray, self._folder, self._labels, self.reason = ray, folder, labels, ""
        free = ray.available_resources()
        cpus, gpus = int(free.get("CPU", 0)), int(free.get("GPU", 0)) * (cluster.arguments["device"] != "cpu")
        if not cpus:
            raise UsageError(f"--ray {cluster.address} has no free core", "Wait until other jobs end, or add machines")
        share = max(1, min(_PROCESSES, cpus // gpus)) if gpus else 0
        size = batch_size_on("cuda" if gpus else "cpu", options)
        self.workers = max(1, min(gpus * share or cpus, -(-load.images // size) + load.clips))
        self.batch_size = size * max(1, min(_BATCHES, load.images // (size * self.workers)))
        shares = [-(-count // self.workers) for count in (load.images, load.frames)]
        job = Job(cluster, folder, _with_truth_of((), options), run_info, *shares)
        self._job = ray.put(job)
        self._type = ray.remote(num_cpus=1, num_gpus=1 / share if gpus else 0, max_restarts=0)(_Process)
        self._idle: queue.Queue[Any] = queue.Queue()  # processes that are ready, or an error
        self._loading: dict[threading.Thread, Any] = {}  # the processes that are not ready
        self._closed = False
        self.device, self.engine = "", None

    def start(self) -> None:
        """Start the processes, and wait for the first to be ready."""
        for _ in range(self.workers):
            self._start_process()
        self._idle.put(self._take())
        self.device, self.engine = self._facts

    def close(self) -> None:
        """End the processes that are not ready: Ray ends this process if a thread uses it after its shutdown."""
        self._closed = True
        while self._loading:
            for thread, process in list(self._loading.items()):
                if process is not None:
                    self._ray.kill(process)
                thread.join(0.1)

    def _start_process(self) -> None:
        thread = threading.Thread(target=self._load, daemon=True)
        self._loading[thread] = None
        thread.start()

    def _load(self) -> None:
        """Start a process, and put it to the idle ones, or the error, once it is ready."""
        try:
            self._idle.put(self._load_process())
        except Exception as error:
            self._idle.put(error)
        finally:
            del self._loading[threading.current_thread()]

    def _load_process(self) -> Any:
        message = ""
        for _ in range(_LOADS):
            process = self._loading[threading.current_thread()] = self._type.remote()
            try:
                self._facts = self._ray.get(process.load.remote(self._job))
            except self._ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, CamError) else error) from None
            except self._ray.exceptions.RayActorError as error:
                message = str(error).strip().splitlines()[-1].strip().rstrip(".")
            else:
                return process
            if self._closed:
                break
        problem = f"The processes of the Ray cluster end while they load the model ({message})"
        remedy = "Install the same gapcam[ray] on all machines, and give them the same RAY_AUTH_MODE"
        raise ModelError(problem, remedy)

    def _take(self) -> Any:
        """Wait for an idle process; raise the error of one that cannot be started."""
        process = self._idle.get()
        if isinstance(process, BaseException):
            self._idle.put(process)  # for the other threads
            raise process
        return process

    def _call(self, method: str, options: RunOptions, chunk: Batch) -> list[Any]:
        """Call a process; WorkerDiedError if it ends."""
        process = self._take()
        try:
            results, reason = self._ray.get(process.call.remote(method, _with_truth_of(chunk, options), chunk))
        except self._ray.exceptions.RayTaskError as error:
            self._idle.put(process)
            raise (error.cause if isinstance(error.cause, CamError) else error) from None
        except self._ray.exceptions.RayError as error:
            self._ray.kill(process)  # it may only be out of reach
            self._start_process()
            raise WorkerDiedError from error
        self._idle.put(process)
        self.reason = self.reason or reason
        return list(results)

    def measure(self, options: RunOptions, batch: Batch) -> list[Peaks]:
        """Explain images for the color scale; those that fail are left out."""
        return retry_alone(partial(self._call, "measure", options), batch, lambda index, picture: [])

    def explain(self, options: RunOptions, batch: Batch) -> list[Record]:
        """Explain images, write their results, and return their lines of the manifest."""
        return retry_alone(partial(self._call, "explain", options), batch, partial(self._fail, options))

    def explain_clips(self, options: RunOptions, clips: Batch) -> Generator[list[Record]]:
        """Explain clips, write their results, and yield the line of each; a process explains a clip."""
        call = partial(self._call, "explain_clips", options)
        jobs = ([clip] for clip in clips)
        yield from in_order(
            lambda job: retry_alone(call, job, partial(self._fail, options)), jobs, workers=self.workers
        )

    def _fail(self, options: RunOptions, index: int, picture: Picture) -> list[Record]:
        problem = f"{str(picture.path)!r} twice ended the process that explained it, as too little memory does"
        error = ImageError(problem, "Make it smaller, or convert it to another format")
        return [{"index": index, **write_picture(picture, error, self._folder, options, self._labels)}]

    def forget(self, inputs: Batch) -> None:
        """Do nothing: the processes keep nothing."""


def retry_alone(
    call: Callable[[Batch], list[Item]], batch: Batch, fail: Callable[[int, Picture], list[Item]]
) -> list[Item]:
    """Call with a batch; if the process dies, once with each image alone; `fail` is for one that ends it again."""
    with suppress(WorkerDiedError):
        return call(batch)
    results: list[Item] = []
    for pair in batch:
        try:
            results += call([pair])
        except WorkerDiedError:
            results += fail(*pair)
    return results


def _with_truth_of(chunk: Batch, options: RunOptions) -> RunOptions:
    """The options with the true classes of some images only; with any one if a target needs some."""
    known = options.truth.classes
    paths = (str(picture.path) for _, picture in chunk)
    some = {path: known[path] for path in paths if path in known} or dict(islice(known.items(), 1))
    return replace(options, truth=Truth(some))
