"""Options of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xcarbon.core.errors import OptionError

if TYPE_CHECKING:
    from tqdm.dask import TqdmCallback

_ALLOWED: dict[str, tuple[Any, ...]] = {
    "progress": (True, False),
    "device": ("auto", "cpu", "cuda", "mps"),
}

OPTIONS: dict[str, Any] = {"progress": True, "device": "auto"}


class set_options:  # numpydoc ignore=PR01,PR02
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
            if type(value) is not type(OPTIONS[name]) or value not in _ALLOWED[name]:
                known = " or ".join(map(repr, _ALLOWED[name]))
                raise OptionError(f"option {name}={value!r} is not allowed: set it to {known}")
        self._previous = {name: OPTIONS[name] for name in options}
        OPTIONS.update(options)

    def __enter__(self) -> set_options:
        return self

    def __exit__(self, *exception: object) -> None:
        OPTIONS.update(self._previous)


def progress_bar(what: str) -> TqdmCallback:
    """Show the progress of Dask computations in a ``with`` block, if they run in this process."""
    # The import is here because it warns in a notebook without ipywidgets.
    from tqdm.dask import TqdmCallback

    return TqdmCallback(desc=what, disable=not OPTIONS["progress"], unit="task", delay=2)
