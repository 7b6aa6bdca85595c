"""Settings of a session that are not a property of the data or of a model."""

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
        Show progress bars for whatever takes longer than a few seconds. Default: True.
    device : {"auto", "cpu", "cuda", "mps"}
        Where models are trained and applied. ``"auto"`` takes an accelerator if there is one.

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
                raise OptionError(f"there is no option {name!r}; the options are {sorted(OPTIONS)}")
            if not _CHECKS[name](value):
                raise OptionError(f"option {name}={value!r} is not allowed; it takes {_ALLOWED[name]}")
        self._previous = {name: OPTIONS[name] for name in options}
        OPTIONS.update(options)

    def __enter__(self) -> set_options:
        """Keep the options for the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore what was set before the block."""
        OPTIONS.update(self._previous)


def progress_bar(what: str) -> TqdmCallback:
    """Show the progress of the Dask computations in a ``with`` block, unless the option says not to.

    Parameters
    ----------
    what : str
        What is being done.

    Returns
    -------
    tqdm.dask.TqdmCallback
        A context manager. It sees the schedulers of this process; a cluster has its dashboard.
    """
    # In a notebook without ipywidgets the import warns: not for those who only import xcarbon.
    from tqdm.dask import TqdmCallback

    return TqdmCallback(desc=what, disable=not OPTIONS["progress"], unit="task", delay=2)
