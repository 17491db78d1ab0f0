"""`course.training`: batches, the loop, early stopping, what is printed."""

from __future__ import annotations

import builtins
import io
import math
import sys

import pytest
import torch
from torch import Tensor

from course import training
from course.training import History, batches, fit

X, Y = torch.arange(10.0)[:, None], torch.arange(10)


def constant(x: Tensor, y: Tensor) -> float:
    return 1.0


def scripted(*values: float):
    """An `evaluate` that reads its numbers from a list."""
    numbers = iter(values)
    return lambda: {"valid_loss": next(numbers)}


# ---- batches


def test_batches_hold_each_example_once():
    generator = torch.Generator().manual_seed(0)
    pairs = list(batches(X, Y, 4, generator))
    assert [len(x) for x, _ in pairs] == [4, 4, 2]
    assert all(x[:, 0].equal(y.float()) for x, y in pairs)
    order = torch.cat([y for _, y in pairs])
    assert order.tolist() != Y.tolist()
    assert order.sort().values.equal(Y)
    again = torch.cat([y for _, y in batches(X, Y, 4, generator)])
    assert not again.equal(order)


def test_batches_in_order_without_generator():
    assert torch.cat([y for _, y in batches(X, Y, 3)]).equal(Y)


@pytest.mark.parametrize(("y", "size"), [(Y[:9], 4), (Y, 0)])
def test_batches_refuse(y, size):
    with pytest.raises(ValueError, match=r"but y has 9|must be at least 1"):
        next(batches(X, y, size))


# ---- the loop


def test_fit_learns_with_anything_that_steps():
    weight = torch.zeros(1)
    x = torch.linspace(-1, 1, 20)[:, None]

    def step(x: Tensor, y: Tensor) -> Tensor:
        error = x * weight - y
        weight.sub_(0.5 * 2 * (error * x).mean())
        return (error**2).mean()

    history = fit(step, (x, 3 * x), epochs=30, batch_size=5, quiet=True)
    assert abs(weight.item() - 3) < 1e-3
    assert len(history) == len(history["loss"]) == 30
    assert history["loss"][0] > 100 * history["loss"][-1]
    assert history.seconds > 0


def test_loss_is_the_mean_over_examples():
    history = fit(lambda x, y: float(len(x)), (X, Y), epochs=1, batch_size=4, quiet=True)
    assert history["loss"] == [(4 * 4 + 4 * 4 + 2 * 2) / 10]


def test_order_depends_on_the_seed_only():
    def seen(seed: int) -> list[int]:
        order: list[int] = []

        def step(x: Tensor, y: Tensor) -> float:
            order.extend(y.tolist())
            torch.rand(3)  # the global generator has no part in it
            return 0.0

        fit(step, (X, Y), epochs=2, batch_size=3, seed=seed, quiet=True)
        return order

    assert seen(0) == seen(0) != seen(1)
    assert seen(0)[:10] != seen(0)[10:]


def test_early_stopping_and_restoring():
    weight = torch.zeros(2)

    def step(x: Tensor, y: Tensor) -> float:
        weight.add_(1)
        return 1.0

    evaluate = scripted(3.0, 2.0, 2.5, 2.0, 2.1, 0.0)
    history = fit(
        step,
        (X, Y),
        epochs=9,
        batch_size=10,
        evaluate=evaluate,
        patience=3,
        keep=[weight],
        quiet=True,
    )
    assert history["valid_loss"] == [3.0, 2.0, 2.5, 2.0, 2.1]
    assert history.best_epoch == 2
    assert history.stopped == (
        "stopped: no better valid_loss for 3 epochs; epoch 2 (2) was restored"
    )
    assert weight.tolist() == [2.0, 2.0]


def test_keep_as_a_function_of_tensors_that_are_replaced():
    model = {"w": torch.zeros(1, requires_grad=True)}

    def step(x: Tensor, y: Tensor) -> float:
        model["w"] = (model["w"].detach() + 1).requires_grad_()
        return 1.0

    history = fit(
        step,
        (X, Y),
        epochs=3,
        batch_size=10,
        evaluate=scripted(3.0, 1.0, 2.0),
        keep=lambda: model.values(),
        quiet=True,
    )
    assert (history.best_epoch, history.stopped) == (2, None)
    assert model["w"].item() == 2.0


def test_mode_max_and_nan_is_never_best():
    values = iter([math.nan, 0.5, 0.9, math.nan, 0.8])
    history = fit(
        constant,
        (X, Y),
        epochs=5,
        batch_size=10,
        evaluate=lambda: {"valid_accuracy": next(values)},
        watch="valid_accuracy",
        mode="max",
        quiet=True,
    )
    assert history.best_epoch == 3


def test_patience_does_not_stop_in_the_last_epoch():
    history = fit(
        constant,
        (X, Y),
        epochs=3,
        batch_size=10,
        evaluate=scripted(1.0, 2.0, 3.0),
        patience=2,
        quiet=True,
    )
    assert history.stopped is None


def test_a_loss_that_is_not_finite_stops_at_once():
    calls = []

    def step(x: Tensor, y: Tensor) -> float:
        calls.append(1)
        return math.inf if len(calls) == 5 else 1.0

    history = fit(step, (X, Y), epochs=9, batch_size=4, quiet=True)
    assert (len(calls), len(history)) == (5, 2)
    assert history.stopped == "stopped: the loss is inf (a smaller learning rate may help)"


def test_parameters_are_restored_after_an_interrupt():
    weight = torch.zeros(1)

    def step(x: Tensor, y: Tensor) -> float:
        if weight.item() == 3:
            raise KeyboardInterrupt
        weight.add_(1)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        fit(
            step,
            (X, Y),
            epochs=9,
            batch_size=10,
            evaluate=scripted(1.0, 2.0, 3.0),
            keep=[weight],
            quiet=True,
        )
    assert weight.item() == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 2}, "watch is 'valid_loss', but what is measured is: loss"),
        ({"keep": []}, "watch is 'valid_loss'"),
        ({"mode": "best"}, 'must be "min" or "max"'),
        ({"batch_size": 0}, "batch size is 0"),
    ],
)
def test_fit_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(constant, (X, Y), **{"epochs": 2, "batch_size": 5, "quiet": True, **arguments})


# ---- what is seen


def test_one_line_where_nobody_watches(capsys):
    history = fit(constant, (X, Y), epochs=3, batch_size=5, evaluate=scripted(1, 0.5, 1 / 3))
    assert capsys.readouterr() == ("3 epochs: loss 1, valid_loss 0.3333\n", "")
    assert str(history) == "3 epochs: loss 1, valid_loss 0.3333"


def test_nothing_when_quiet(capsys):
    fit(constant, (X, Y), epochs=3, batch_size=5, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_bar_in_a_terminal(capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(constant, (X, Y), epochs=3, batch_size=5)
    assert "epoch" in sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert capsys.readouterr().out == "3 epochs: loss 1\n"


def test_an_error_prints_no_line(capsys):
    def step(x: Tensor, y: Tensor) -> float:
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        fit(step, (X, Y), epochs=3, batch_size=5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("live", [False, True])
def test_a_notebook_has_one_output_that_changes(live, monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown, updates = [], []

    class Handle:
        def update(self, content):
            updates.append(content)

    def record(content, display_id):
        shown.append(content)
        return Handle()

    monkeypatch.setattr(display, "display", record)
    screen = training._Notebook(epochs=3, live=live)
    history = History()
    for loss in (3.0, 2.0, 1.0):
        history.append(loss=loss)
        screen.update(history)
    screen.close(history)
    assert len(shown) == 1
    assert 1 <= len(updates) <= 3
    if live:
        assert updates[-1].data.startswith(b"\x89PNG")
    else:
        assert "epoch 1/3" in repr(shown[0])
        assert repr(updates[-1]) == "3 epochs: loss 1"


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    fit(constant, (X, Y), epochs=2, batch_size=5, logdir=str(tmp_path), quiet=True)
    (events,) = tmp_path.glob("events*")
    assert b"loss" in events.read_bytes()


def test_tensorboard_missing(tmp_path, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    fit(constant, (X, Y), epochs=1, batch_size=5, logdir=str(tmp_path), quiet=True)
    assert capsys.readouterr().out == (
        "TensorBoard is not installed (pip install tensorboard); nothing is logged\n"
    )
    assert list(tmp_path.iterdir()) == []
