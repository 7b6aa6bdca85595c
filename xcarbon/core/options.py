"""Options of a session."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from xcarbon.core.errors import OptionError

if TYPE_CHECKING:
    from tqdm.dask import TqdmCallback

_CHECKS = {
    "progress": lambda value: isinstance(value, bool),
    "device": lambda value: value in ("auto", "cpu", "cuda", "mps"),
}
_ALLOWED = {"progress": "True or False", "device": "'auto', 'cpu', 'cuda' or 'mps'"}

OPTIONS: dict[str, Any] = {"progress": True, "device": "auto"}


class set_options:
    """Set options globally, or within a ``with`` block.

    Parameters
    ----------
    progress : bool
        Whether to show progress bars for computations of more than a few seconds. Default: True.
    device : {"auto", "cpu", "cuda", "mps"}
        Device on which models are trained and applied. Default: ``"auto"``, an accelerator if there is one.

    Raises
    ------
    OptionError
        If an option does not exist or its value is not allowed.

    Examples
    --------
    >>> import xcarbon
    >>> with xcarbon.set_options(progress=False):
    ...     xcarbon.core.options.OPTIONS["progress"]
    False
    >>> xcarbon.core.options.OPTIONS["progress"]
    True
    """

    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            if name not in OPTIONS:
                raise OptionError(f"unknown option {name!r}: the options are {sorted(OPTIONS)}")
            if not _CHECKS[name](value):
                raise OptionError(f"option {name}={value!r} is not allowed: set it to {_ALLOWED[name]}")
        self._previous = {name: OPTIONS[name] for name in options}
        OPTIONS.update(options)

    def __enter__(self) -> set_options:
        """Return the object; the options are set already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore the options from before the block."""
        OPTIONS.update(self._previous)


def progress_bar(what: str) -> TqdmCallback:
    """Show the progress of Dask computations in a ``with`` block, if they run in this process."""
    # The import is here because it warns in a notebook without ipywidgets.
    from tqdm.dask import TqdmCallback

    return TqdmCallback(desc=what, disable=not OPTIONS["progress"], unit="task", delay=2)
