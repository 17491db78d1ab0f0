"""Run notebook cells in IPython's own shell and capture their outputs in nbformat's form."""

import atexit
import base64
import contextlib
import io
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from matplotlib_inline.backend_inline import configure_inline_support
from matplotlib_inline.config import InlineBackend
from traitlets.config import Config

VIEW = Path(__file__).parents[1]  # where the student's process sees `course`, a temporary folder
MAX_OUTPUT = 4_000_000  # characters that one cell may show
MAX_OUTPUTS = 200  # outputs that one cell may show
PICTURE = """
import matplotlib.pyplot as plt
_, axes = plt.subplots(1, 2)
axes[0].semilogy([1.0, 1000.0], label="$x^2$")
axes[0].legend(title="text")
axes[1].imshow([[0.0, 1.0]])
axes[1].set_title("text", weight="bold")
plt.show()
"""


class Recorder:
    """Collects one cell's outputs, up to a limit, as they come."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self._left = MAX_OUTPUT
        self._cut = False

    def add(self, output: dict[str, Any], size: int) -> None:
        if size > self._left or len(self.outputs) >= MAX_OUTPUTS:
            if not self._cut:
                self._cut = True
                self.outputs.append(_stream("stderr", "\n[more output was left out]\n"))
            return
        self._left -= size
        self.outputs.append(output)

    def write(self, name: str, text: str) -> None:
        last = self.outputs[-1] if self.outputs else None
        if last and last["output_type"] == "stream" and last["name"] == name and not self._cut:
            room = text[: self._left]
            last["text"] += room
            self._left -= len(room)
            if len(room) < len(text):
                self._cut = True
                self.outputs.append(_stream("stderr", "\n[more output was left out]\n"))
        elif self._left > 0:
            self.add(_stream(name, text[: self._left]), len(text[: self._left]))

    def clear(self) -> None:
        self.outputs.clear()


class Stream(io.TextIOBase):
    """A standard stream that writes into the recorder."""

    encoding = "utf-8"

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder, self._name = recorder, name

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._recorder.write(self._name, str(text))
        return len(text)


class Publisher(DisplayPublisher):
    """`display(...)`: one display_data output."""

    recorder: Recorder

    def publish(self, data: Any, metadata: Any = None, *args: Any, **kwargs: Any) -> None:
        output = {"output_type": "display_data", "data": _texts(data), "metadata": metadata or {}}
        self.recorder.add(output, _size(data))

    def clear_output(self, wait: bool = False) -> None:
        self.recorder.clear()


class Hook(DisplayHook):
    """The value of a cell's last expression: one execute_result output."""

    recorder: Recorder

    def write_output_prompt(self) -> None:
        """The number is in the output itself."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        count = self.shell.execution_count if self.shell else None
        output = {
            "output_type": "execute_result",
            "execution_count": count,
            "metadata": md_dict or {},
        }
        self.recorder.add({**output, "data": _texts(format_dict)}, _size(format_dict))

    def finish_displayhook(self) -> None:
        """Nothing follows the output."""


class Shell(InteractiveShell):
    """IPython's shell; tracebacks become error outputs."""

    displayhook_class = Hook
    display_pub_class = Publisher
    recorder: Recorder

    def enable_gui(self, gui: str | None = None) -> None:
        """There is no event loop to join."""

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        lines = [str(line).replace(f"{VIEW}/", "") for line in stb]
        name = getattr(etype, "__name__", str(etype))
        output = {"output_type": "error", "ename": name, "evalue": str(evalue), "traceback": lines}
        self.recorder.add(output, sum(map(len, lines)))


def start_shell(module: types.ModuleType) -> Shell:
    """Start the shell on a fresh user module, with figures shown inline."""
    quiet = Config()
    quiet.HistoryManager.enabled = False  # no history file, no thread
    quiet.InlineBackend.print_figure_kwargs = {"bbox_inches": None}  # "tight" draws all twice
    shell = Shell.instance(user_module=module, user_ns=vars(module), config=quiet)
    recorder = Recorder()
    for part in (shell, shell.displayhook, shell.display_pub):
        object.__setattr__(part, "recorder", recorder)
    with silence():
        shell.run_line_magic("matplotlib", "inline")
    return shell


def warm() -> None:
    """Do what the first shell and the first picture of a process have to do; forks inherit it.

    Modules are imported, fonts are found and opened, the grammar of formulas is built: a tenth of a
    second. Of the shell itself nothing is left.
    """
    main = sys.modules["__main__"]
    shell = start_shell(types.ModuleType("__main__"))
    run_cell(shell, PICTURE)
    plt.close("all")
    atexit.unregister(shell.atexit_operations)
    # It remembers that formats were chosen: the next shell would have none.
    vars(configure_inline_support).pop("current_backend", None)
    InlineBackend.clear_instance()
    Shell.clear_instance()
    sys.modules["__main__"] = main


def run_cell(shell: Shell, source: str) -> tuple[list[dict[str, Any]], bool]:
    """Run one cell.

    Returns:
        Its outputs, as nbformat writes them, and whether it failed.
    """
    recorder = shell.recorder
    recorder.start()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(Stream(recorder, "stdout")))
        stack.enter_context(contextlib.redirect_stderr(Stream(recorder, "stderr")))
        try:
            failed = not shell.run_cell(source, store_history=True).success
        except BaseException as error:  # what a student's patch of the shell may let through
            failed = True
            recorder.add(_error(error), 1000)
    return [_settled(output) for output in recorder.outputs], failed


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed; probes answer with values alone."""
    quiet = Stream(_Nowhere(), "stdout")
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        yield


class _Nowhere(Recorder):
    def write(self, name: str, text: str) -> None:
        """Keep nothing."""


def _error(error: BaseException) -> dict[str, Any]:
    lines = traceback.format_exception_only(type(error), error)
    return {
        "output_type": "error",
        "ename": type(error).__name__,
        "evalue": str(error),
        "traceback": lines,
    }


def _stream(name: str, text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def _settled(output: dict[str, Any]) -> dict[str, Any]:
    """A progress bar's carriage returns leave the last state of each line, as a terminal does."""
    if output["output_type"] != "stream" or "\r" not in output["text"]:
        return output
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in output["text"].split("\n")]
    return {**output, "text": "\n".join(lines)}


def _texts(data: Any) -> dict[str, str]:
    """A MIME bundle as JSON can hold it: bytes in base64, structures as they are."""
    return {
        str(mime): base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for mime, value in dict(data).items()
    }


def _size(data: Any) -> int:
    return sum(
        len(value) if isinstance(value, str | bytes) else 1000 for value in dict(data).values()
    )
