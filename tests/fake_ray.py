"""A stand-in for Ray: its actors live in this process, and all that they get and give is pickled."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class KilledError(BaseException):
    """Raised in an actor: ends it."""


class Handle:
    """An actor; `handle.method.remote(...)` gives what `FakeRay.get` runs."""

    def __init__(self, ray: FakeRay, kind: type) -> None:
        self.ray, self.actor, self.alive = ray, kind(), True

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: lambda: self.run(name, pickle.dumps(arguments)))

    def run(self, name: str, arguments: bytes) -> Any:
        try:
            if not self.alive:
                raise KilledError
            return pickle.loads(pickle.dumps(getattr(self.actor, name)(*pickle.loads(arguments))))
        except Exception as error:
            raise RayTaskError(pickle.loads(pickle.dumps(error))) from error
        except KilledError as error:
            self.alive = False
            raise RayActorError("The actor died.\nKilled.") from error


class FakeRay:
    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError, RayTaskError=RayTaskError)

    def __init__(self, **resources: float) -> None:
        self.resources, self.handles, self.requested = resources, [], {}

    def init(self, address: str, **settings: Any) -> None:
        self.address = address

    def available_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, **settings: Any) -> Any:
        self.requested = settings

        def make(kind: type) -> Any:
            def start() -> Handle:
                self.handles.append(Handle(self, kind))
                return self.handles[-1]

            return SimpleNamespace(remote=start)

        return make

    def put(self, value: Any) -> Any:
        return value

    def get(self, call: Any) -> Any:
        return call()

    def kill(self, handle: Handle) -> None:
        handle.alive = False

    def shutdown(self) -> None:
        for handle in reversed(self.handles):
            handle.alive = False
            handle.actor._stack.close()
