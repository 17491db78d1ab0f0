"""A student's process: runs cells and probes, and answers with plain data.

Operations, each one frame in and one frame out; the reply repeats the request's number:
`cell` runs one notebook cell in IPython's shell, `module` executes plain source, `probe` calls a
pickled function on the student's namespace, `seed` seeds the random generators.
"""

import contextlib
import os
import random
import signal
import sys
import types
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from . import notebook, wire


class Namespace:
    """The student's definitions as attributes; a missing one says so in words."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        try:
            return self._names[name]
        except KeyError:
            raise NameError(f"{name} is not defined") from None


class ForbiddenCalls(TorchDispatchMode):
    """Notes which of the named operators (`aten::relu`) are dispatched."""

    def __init__(self, forbidden: list[str]) -> None:
        super().__init__()
        self.forbidden = frozenset(forbidden)
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in self.forbidden:
            self.seen.add(name)
        return func(*args, **(kwargs or {}))


class Child:
    """Serves one student's namespace until the pipe is closed."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = requests, replies
        self._shell: notebook.Shell | None = None
        self._module = types.ModuleType("__main__")
        sys.modules["__main__"] = self._module
        self._operations = {
            "cell": self._cell,
            "module": self._run_module,
            "probe": self._probe,
            "seed": self._seed,
        }

    def serve(self) -> None:
        """Answer requests until the judge closes its end."""
        while True:
            try:
                message, buffers = wire.read_frame(self._requests)
            except EOFError:
                return
            except KeyboardInterrupt:  # an interrupt that came after its request was answered
                continue
            reply, data = self._answer(message, buffers)
            wire.write_frame(self._replies, {"number": message["number"], **reply}, data)

    def _answer(self, message: dict, buffers: list[bytes]) -> tuple[dict, list[bytes]]:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return self._operations[message["op"]](message, buffers)
        except BaseException as error:  # SystemExit and KeyboardInterrupt are answers as well
            return {"raised": [type(error).__name__, _words(error)]}, []
        finally:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    @property
    def _names(self) -> dict[str, Any]:
        return self._shell.user_ns if self._shell else vars(self._module)

    def _cell(self, message: dict, buffers: list[bytes]) -> tuple[dict, list[bytes]]:
        if self._shell is None:
            self._shell = notebook.start_shell(self._module)
        outputs, failed = notebook.run_cell(self._shell, message["source"])
        return {"outputs": outputs, "failed": failed}, []

    def _run_module(self, message: dict, buffers: list[bytes]) -> tuple[dict, list[bytes]]:
        exec(compile(message["source"], message["name"], "exec"), vars(self._module))
        return {}, []

    def _probe(self, message: dict, buffers: list[bytes]) -> tuple[dict, list[bytes]]:
        probe, args, kwargs = cloudpickle.loads(buffers[0])
        forbidden = message.get("forbidden") or []
        watch = ForbiddenCalls(forbidden) if forbidden else contextlib.nullcontext()
        with watch, notebook.silence():
            value = probe(Namespace(self._names), *args, **kwargs)
        packed, data = wire.encode(value)
        seen = sorted(watch.seen) if isinstance(watch, ForbiddenCalls) else []
        return {"value": packed, "forbidden": seen}, data

    def _seed(self, message: dict, buffers: list[bytes]) -> tuple[dict, list[bytes]]:
        random.seed(message["seed"])
        np.random.seed(message["seed"] % 2**32)
        torch.default_generator.manual_seed(message["seed"])
        return {}, []


def _words(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except Exception:
        return ""


def run(requests: int, replies: int) -> None:
    """Serve on two pipes and leave without running any exit handler."""
    with open(os.devnull, "r+b", buffering=0) as null:
        for standard in (0, 1, 2):
            os.dup2(null.fileno(), standard)
    Child(requests, replies).serve()
    os._exit(0)
