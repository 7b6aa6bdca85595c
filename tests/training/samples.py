"""Weights of trained networks, and interruptions of their training."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import members
from xcarbon.training.checkpoints import CHECKPOINT
from xcarbon.training.run import TrainingRun


def weights(model: CarbonModel) -> torch.Tensor:
    """All weights of a network, or of the networks of an ensemble."""
    states = [member.network.state_dict() for member in members(model)]
    return torch.cat([tensor.flatten() for state in states for tensor in state.values()]).clone()


def checkpoint(folder: Path) -> dict:
    """State of a run when it was last written."""
    return torch.load(folder / CHECKPOINT, weights_only=True)


def last_weights(folder: Path) -> torch.Tensor:
    """Weights of a network in the checkpoint of a run."""
    return torch.cat([tensor.flatten() for tensor in checkpoint(folder)["network"].values()])


@contextmanager
def interrupted(after: int, folder: str = "") -> Iterator[None]:
    """Press Ctrl-C in a step of the run in ``folder``, after which the training has to stop."""
    step = TrainingRun._step

    def press(run, *arguments):
        if run.step == after - 1 and run.folder.path.name.endswith(folder):
            os.kill(os.getpid(), signal.SIGINT)
        return step(run, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match=f"after step {after}"):
        patch.setattr(TrainingRun, "_step", press)
        yield
