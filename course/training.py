"""A training loop that knows nothing of layers: it only calls the student's step.

def step(x, y):                      # one mini-batch: forward, backward, update
    loss, grads = ...
    return loss

history = fit(step, (data.train_x, data.train_y), epochs=20, batch_size=32, evaluate=evaluate)
history.plot()
"""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from course import session

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Step = Callable[[Tensor, Tensor], float | Tensor]
Evaluate = Callable[[], dict[str, float]]
Keep = Iterable[Tensor] | Callable[[], Iterable[Tensor]]


@dataclass
class History:
    """What `fit` measured: `history["loss"]` is a list with one number for each epoch.

    Attributes:
        values: the lists by key; "loss" is the mean of the step's loss over the epoch.
        best_epoch: the epoch, counted from 1, with the best watched value; None if nothing was
        watched.
        stopped: why training ended before the last epoch; None if it did not.
        seconds: how long it took.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int | None = None
    stopped: str | None = None
    seconds: float = 0.0

    def __getitem__(self, key: str) -> list[float]:
        return self.values[key]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __len__(self) -> int:
        return len(self.values.get("loss", []))

    def append(self, **values: float) -> None:
        """Add one epoch's numbers."""
        for key, value in values.items():
            self.values.setdefault(key, []).append(float(value))

    def plot(self, *keys: str, title: str = "") -> Figure:
        """Draw the curves, losses and everything else in panels of their own.

        Args:
            keys: the curves; all by default.
            title: of the figure.

        Returns:
            The figure.
        """
        from course import plots

        return plots.curves(self, *keys, title=title)

    def __str__(self) -> str:
        last = ", ".join(f"{key} {_short(values[-1])}" for key, values in self.values.items())
        text = f"{len(self)} epoch{'' if len(self) == 1 else 's'}: {last}"
        return f"{text}; {self.stopped}" if self.stopped else text


def batches(
    x: Tensor, y: Tensor, size: int, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches that together hold each example once.

    Args:
        x: inputs (N, ...).
        y: targets (N, ...).
        size: examples in each batch; the last one may be smaller.
        generator: draws a new order; without one the order is that of the data.

    Yields:
        Pairs (size, ...), (size, ...).

    Raises:
        ValueError: the lengths differ, or the size is not positive.
    """
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples, but y has {len(y)}")
    if size < 1:
        raise ValueError(f"the batch size is {size}; it must be at least 1")
    order = torch.arange(len(x))
    if generator is not None:
        order = torch.randperm(len(x), generator=generator, device=generator.device)
    for rows in order.split(size):
        yield x[rows.to(x.device)], y[rows.to(y.device)]


def fit(
    step: Step,
    train: tuple[Tensor, Tensor],
    *,
    epochs: int,
    batch_size: int,
    evaluate: Evaluate | None = None,
    patience: int | None = None,
    watch: str = "valid_loss",
    mode: Literal["min", "max"] = "min",
    keep: Keep | None = None,
    seed: int = 0,
    live: bool | None = None,
    logdir: str | None = None,
    quiet: bool = False,
) -> History:
    """Train: shuffle, cut into mini-batches, call `step` on each; measure after each epoch.

    Training ends early when the watched value has not become better for `patience` epochs, or when
    the loss is no longer finite.

    Args:
        step: trains on one mini-batch (inputs, targets) and returns its mean loss.
        train: inputs (N, ...) and targets (N, ...).
        epochs: the largest number of passes over the data.
        batch_size: examples in a step; the last batch of an epoch may be smaller.
        evaluate: returns numbers by name, for instance {"valid_loss": 0.3, "valid_accuracy": 0.9}.
        patience: epochs without improvement after which to stop; None never stops.
        watch: the name whose best epoch is remembered.
        mode: whether a smaller ("min") or a larger ("max") watched value is better.
        keep: the parameters, or a function that returns them. Their values at the best epoch are
            kept and put back at the end, in place.
        seed: of the order of the examples.
        live: in a notebook, draw the curves while training.
        logdir: also write the numbers there for TensorBoard, if it is installed.
        quiet: print nothing.

    Returns:
        The history.

    Raises:
        ValueError: epochs is not positive, or patience or keep is given and `watch` is not
        measured.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    history, start = History(), time.perf_counter()
    best = _Best(watch, mode, keep, required=patience is not None or keep is not None)
    writer = _tensorboard(logdir)
    screen = _screen(epochs, bool(live), quiet)
    try:
        for epoch in range(1, epochs + 1):
            history.append(loss=_epoch(step, batches(*train, batch_size, generator)))
            history.append(**(evaluate() if evaluate else {}))
            _log(writer, history, epoch)
            best.update(history, epoch)
            screen.update(history)
            history.stopped = _reason(history, best, patience, epoch) if epoch < epochs else None
            if history.stopped:
                break
    finally:
        # Also after an interrupt: the best parameters are back, the bar and the file are closed.
        best.restore(history)
        history.seconds = time.perf_counter() - start
        screen.close(history)
        if writer is not None:
            writer.close()
    return history


def _epoch(step: Step, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean loss over the examples; it stops at the first loss that is not finite."""
    total, count = 0.0, 0
    for x, y in pairs:
        loss = step(x, y)
        loss = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not math.isfinite(loss):
            return loss
        total, count = total + loss * len(x), count + len(x)
    return total / count if count else math.nan


def _reason(history: History, best: _Best, patience: int | None, epoch: int) -> str | None:
    if not math.isfinite(history["loss"][-1]):
        return f"stopped: the loss is {history['loss'][-1]} (a smaller learning rate may help)"
    if patience is not None and epoch - best.epoch >= patience:
        verb = "was restored" if best.keep is not None else "was the best"
        return (
            f"stopped: no better {best.watch} for {patience} epochs; "
            f"epoch {best.epoch} ({_short(best.value)}) {verb}"
        )
    return None


class _Best:
    """The best epoch so far and, on request, its parameters."""

    def __init__(self, watch: str, mode: str, keep: Keep | None, required: bool) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'mode is {mode!r}; it must be "min" or "max"')
        self.watch, self.sign, self.required = watch, 1 if mode == "min" else -1, required
        # A generator could be read only once.
        self.keep = keep if keep is None or callable(keep) else list(keep)
        self.epoch, self.value = 0, math.inf * self.sign
        self.saved: list[Tensor] = []

    def _tensors(self) -> list[Tensor]:
        return list(self.keep() if callable(self.keep) else self.keep or [])

    def update(self, history: History, epoch: int) -> None:
        if self.watch not in history:
            if self.required:
                known = ", ".join(history.values)
                raise ValueError(f"watch is {self.watch!r}, but what is measured is: {known}")
            return
        value = history[self.watch][-1]
        if self.sign * value < self.sign * self.value:  # false for NaN
            self.epoch, self.value = epoch, value
            history.best_epoch = epoch
            self.saved = [tensor.detach().clone() for tensor in self._tensors()]

    def restore(self, history: History) -> None:
        if not self.saved or self.epoch == len(history):
            return
        with torch.no_grad():
            for tensor, saved in zip(self._tensors(), self.saved, strict=True):
                tensor.copy_(saved)


def _tensorboard(logdir: str | None) -> Any:
    if logdir is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("TensorBoard is not installed (pip install tensorboard); nothing is logged")
        return None
    return SummaryWriter(logdir)


def _log(writer: Any, history: History, epoch: int) -> None:
    if writer is not None:
        for key, values in history.values.items():
            writer.add_scalar(key, values[-1], epoch)


# ---- what is seen meanwhile


class _Screen(Protocol):
    def update(self, history: History) -> None: ...

    def close(self, history: History) -> None: ...


def _screen(epochs: int, live: bool, quiet: bool) -> _Screen:
    """A bar in a terminal, one line that changes in a notebook, elsewhere the last line only.

    tqdm.auto's widgets are not used: they need ipywidgets and leave their state in saved notebooks.
    """
    if quiet:
        return _Silent()
    if session.notebook_shell() is not None:
        return _Notebook(epochs, live)
    return _Terminal(epochs)


class _Silent:
    def update(self, history: History) -> None:
        pass

    def close(self, history: History) -> None:
        pass


class _Terminal:
    def __init__(self, epochs: int) -> None:
        self.bar = tqdm(total=epochs, unit="epoch", leave=False, disable=not sys.stderr.isatty())

    def update(self, history: History) -> None:
        self.bar.set_postfix_str(_numbers(history), refresh=False)
        self.bar.update()

    def close(self, history: History) -> None:
        self.bar.close()
        if len(history):
            print(history)


class _Notebook:
    """One output that is replaced, so that a saved notebook holds its last state only."""

    def __init__(self, epochs: int, live: bool) -> None:
        self.epochs, self.live = epochs, live
        self.start, self.shown = time.perf_counter(), -math.inf
        self.handle: Any = None

    def update(self, history: History) -> None:
        now = time.perf_counter()
        if now - self.shown < (1.0 if self.live else 0.2):  # more often nobody can read
            return
        left = (now - self.start) / len(history) * (self.epochs - len(history))
        done = "#" * (20 * len(history) // self.epochs)
        text = f"[{done:.<20}] epoch {len(history)}/{self.epochs}, {left:.0f} s left, "
        self._show(history, _Text(text + _numbers(history)))
        self.shown = time.perf_counter()

    def close(self, history: History) -> None:
        if len(history):
            self._show(history, _Text(str(history)))
            if self.live:
                print(history)

    def _show(self, history: History, text: _Text) -> None:
        from IPython.display import display

        content = _picture(history) if self.live else text
        if self.handle is None:
            self.handle = display(content, display_id=True)
        else:
            self.handle.update(content)


class _Text:
    """A line that a notebook shows as it is, without the quotes of a string."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _picture(history: History) -> Any:
    """The curves as an image; without pyplot, which would show the figure a second time."""
    from IPython.display import Image
    from matplotlib.figure import Figure

    from course import plots

    figure = Figure(figsize=(7, 2.6), dpi=180)
    plots.curves(history, figure=figure)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return Image(data=data.getvalue(), format="png", width=630)


def _numbers(history: History) -> str:
    return ", ".join(f"{key} {_short(values[-1])}" for key, values in history.values.items())


def _short(value: float) -> str:
    return f"{value:.4g}"
