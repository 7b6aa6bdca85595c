"""The inputs of a model for consecutive hours, as numpy arrays or as torch tensors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from xcarbon.core.errors import ModelError
from xcarbon.core.variables import PATCH_PIXELS, TIME_FEATURES, memory_code

#: numpy.ndarray or torch.Tensor; torch is not imported here.
Array = TypeVar("Array", bound=Any)
Other = TypeVar("Other", bound=Any)


def check_codes(config: Any) -> None:
    """Check ``variables``, ``targets`` and ``state`` of the settings of a model.

    Raises
    ------
    ModelError
        If there are no variables or targets, or a target is also an input.
    VariableError
        If a state feature is unknown.
    """
    variables, targets = config.variables, config.targets
    if not variables or not targets or set(variables) & set(targets):
        found = f"{variables} and {targets}"
        raise ModelError(f"a model needs variables, and targets that are not among them, found {found}")
    for feature in config.state:
        memory_code(feature)


@dataclass(eq=False)  # not frozen: Lightning Fabric writes to the fields of a copy
class ModelInputs(Generic[Array]):
    """What a model reads: the hours of one tower, or of a batch of windows or sequences.

    All fields are numpy arrays, or all are torch tensors. The axes ``...`` are those of a batch; a single
    series has none.

    Attributes
    ----------
    hourly : array
        Scaled variables [1], shape ``(..., hours, V)``; NaN where missing.
    patches : array, optional
        Satellite patches of all hours, shape ``(P, C, 8, 8)``: reflectance [1], snow and water flags; -1
        where fill.
    patch_index : array, optional
        Position in ``patches`` of the patch that enters at each hour, integer, shape ``(..., hours)``; -1 for
        none.
    statics : array, optional
        Static site features in the units of :data:`~xcarbon.core.variables.STATICS`, shape ``(..., S)``; NaN
        where unknown.
    state : array, optional
        State of the ecosystem at each hour, in the units of the variables: causal means of the past, and
        satellite series; shape ``(..., hours, M)``, NaN where missing.

    Examples
    --------
    >>> index = np.array([-1, 2, -1, 0])
    >>> inputs = ModelInputs(np.zeros((4, 5)), np.zeros((3, 9, 8, 8)), index)
    >>> part = inputs.between(0, 2)
    >>> part.hourly.shape, part.patches.shape, part.patch_index
    ((2, 5), (1, 9, 8, 8), array([-1,  0]))
    """

    hourly: Array
    patches: Array | None = None
    patch_index: Array | None = None
    statics: Array | None = None
    state: Array | None = None

    def map(self, function: Callable[[Array], Other]) -> ModelInputs[Other]:
        """Apply a function to every field that is not None."""
        fields: dict[str, Any] = {
            name: None if field is None else function(field) for name, field in vars(self).items()
        }
        return ModelInputs(**fields)

    def to(self, device: Any) -> ModelInputs[Array]:
        """Move all tensors to a device."""
        return self.map(lambda tensor: tensor.to(device))

    def batched(self) -> ModelInputs[Array]:
        """Make one series a batch of one."""
        batch = self.map(lambda field: field[None])
        return dataclasses.replace(batch, patches=self.patches)

    def between(self, start: int, stop: int | None) -> ModelInputs[Array]:
        """Select the hours from ``start`` to before ``stop``, and the patches that enter there."""
        index = None if self.patch_index is None else self.patch_index[..., start:stop]
        state = None if self.state is None else self.state[..., start:stop, :]
        hourly = self.hourly[..., start:stop, :]
        return dataclasses.replace(self, hourly=hourly, patch_index=index, state=state).compact()

    def padded(self, hours: int) -> ModelInputs[Array]:
        """Add missing hours before the first one, so that one series in numpy arrays has ``hours`` hours."""
        missing = max(0, hours - len(self.hourly))
        fields: dict[str, Any] = {}
        for name, fill in (("hourly", np.nan), ("state", np.nan), ("patch_index", -1)):
            values = getattr(self, name)
            if values is not None:
                before = np.full((missing, *values.shape[1:]), fill, values.dtype)
                fields[name] = np.concatenate([before, values])
        return dataclasses.replace(self, **fields)

    def compact(self) -> ModelInputs[Array]:
        """Keep only the patches that enter at some hour, and renumber ``patch_index`` accordingly."""
        if self.patches is None or self.patch_index is None:
            return self
        index: Any = self.patch_index
        unique = functools.partial(np.unique, index) if isinstance(index, np.ndarray) else index.unique
        used, renumbered = unique(return_inverse=True)
        absent = int((used < 0).any())
        patches, index = self.patches[used[absent:]], renumbered.reshape(index.shape) - absent
        return dataclasses.replace(self, patches=patches, patch_index=index)

    def observed(self, variables: tuple[str, ...]) -> Array:
        """Find the hours with an observation: a finite variable that is no time feature, or a patch.

        Parameters
        ----------
        variables : tuple of str
            Names of the variables, in the order of the last axis of ``hourly``.

        Returns
        -------
        array
            Bool, shape ``(..., hours)``.
        """
        measured = [number for number, code in enumerate(variables) if code not in TIME_FEATURES]
        values: Any = self.hourly[..., measured]
        finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()
        found: Any = finite.any(-1)
        return found if self.patch_index is None else found | (self.patch_index >= 0)

    def without_statics(self) -> ModelInputs[Array]:
        """Leave out the static site features."""
        return dataclasses.replace(self, statics=None)

    def check(self, config: Any, hours: int | None = None, ndim: int = 3) -> None:
        """Check the shapes against the settings of a network.

        Parameters
        ----------
        config : dataclass
            Settings with ``variables``, ``bands``, ``statics`` and ``state``.
        hours : int, optional
            Expected number of hours; by default any number but zero.
        ndim : int
            Expected number of axes of ``hourly``.

        Raises
        ------
        ModelError
            If a shape is not as expected; the message names the field and both shapes.
        """
        found: tuple[int, ...] = tuple(self.hourly.shape)
        batch = found[: ndim - 2]
        hours = max(1, found[-2]) if hours is None else hours
        expected: dict[str, tuple[int, ...]] = {
            "hourly": (*batch, hours, len(config.variables)),
            "patches": (-1, len(config.bands), PATCH_PIXELS, PATCH_PIXELS),
            "patch_index": (*batch, hours),
            "statics": (*batch, len(config.statics)),
            "state": (*batch, hours, len(config.state)),
        }
        for name, shape in expected.items():
            field = getattr(self, name)
            if field is None:
                continue
            shape = tuple(len(field) if size < 0 else size for size in shape)
            if tuple(field.shape) != shape:
                raise ModelError(f"{name} must have the shape {shape}, found {tuple(field.shape)}")
