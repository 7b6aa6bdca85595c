"""The folder of a training run: settings, checkpoint and best model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcarbon.core.atomic import replacing
from xcarbon.core.errors import ModelError

if TYPE_CHECKING:
    import torch

MODEL, CHECKPOINT, RUN = "model", "last.ckpt", "run.json"


@dataclass(frozen=True)
class RunFolder:
    """Folder with the settings in ``run.json``, the checkpoint ``last.ckpt`` and the best model in ``model``.

    The folder need not exist.
    """

    path: Path

    @property
    def exists(self) -> bool:
        """Whether the folder contains a run."""
        return (self.path / RUN).exists()

    @property
    def model(self) -> Path:
        """Path of the best model."""
        return self.path / MODEL

    def check(self, settings: dict[str, Any], resume: bool) -> None:
        """Raise a ModelError if there is a run already, or if the run to resume has other settings."""
        if not resume:
            if self.exists:
                raise ModelError(
                    f"{self.path} holds a run: continue it with resume=True, or choose another run_dir"
                )
            return
        try:
            before = _flatten(json.loads((self.path / RUN).read_text()))
        except FileNotFoundError:
            raise ModelError(f"{self.path} holds no run to resume: check run_dir") from None
        now = _flatten(json.loads(json.dumps(settings)))
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            raise ModelError(
                f"{self.path} was started with other settings: {', '.join(changed)} differ. "
                "Use the same settings and towers, or choose another run_dir"
            )

    def begin(self, settings: dict[str, Any]) -> None:
        """Write the settings of a new run to ``run.json``."""
        with replacing(self.path / RUN) as path:
            path.write_text(json.dumps(settings, indent=2) + "\n")

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, atomically."""
        import torch

        with replacing(self.path / CHECKPOINT) as path:
            torch.save(state, path)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the last checkpoint, or None if there is none."""
        import torch

        if not (self.path / CHECKPOINT).exists():
            return None
        state: dict[str, Any] = torch.load(self.path / CHECKPOINT, map_location=device, weights_only=True)
        return state


def _flatten(settings: dict[str, Any]) -> dict[str, Any]:
    """Flatten nested settings to dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        nested = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{inner}".rstrip("."): leaf for inner, leaf in nested.items()}
    return flat
