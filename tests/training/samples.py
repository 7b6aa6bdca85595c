"""Samples of towers on one process, weights of trained networks, and interruptions of their training."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
import xarray as xr

from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import members
from xcarbon.training.arrays import Arrays
from xcarbon.training.checkpoints import CHECKPOINT
from xcarbon.training.distributed import Shard, join_processes
from xcarbon.training.run import TrainingRun
from xcarbon.training.sequences import TowerSequences
from xcarbon.training.windows import Windows, load_windows


def windows_of(inputs: xr.Dataset, context: int) -> Shard[Windows]:
    """Windows of all towers on one process."""
    return Shard(join_processes("32-true"), inputs, context, partial(load_windows, inputs, context))


def sequences_of(inputs: xr.Dataset, statics: tuple[str, ...], length: int) -> Shard[TowerSequences]:
    """Sequences of all towers on one process."""
    fabric = join_processes("32-true")
    return Shard(fabric, inputs, 1, lambda sites: TowerSequences(inputs, sites, statics, length, Arrays()))


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
