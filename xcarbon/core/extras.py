"""Optional packages: one error that names what to install."""

from __future__ import annotations

from importlib import import_module

from xcarbon.core.errors import MissingPackageError, XCarbonError


def require(what: str, extra: str, *modules: str, error: type[XCarbonError] = MissingPackageError) -> None:
    """Raise an error that names the extra to install, unless all modules can be imported.

    Parameters
    ----------
    what : str
        What needs the packages, in the plural: the beginning of the message.
    extra : str
        Name of the extra of xcarbon that installs them.
    *modules : str
        Names of the modules.
    error : type
        Class of the error.

    Raises
    ------
    MissingPackageError
        Or another ``error``, if a module cannot be imported.

    Examples
    --------
    >>> require("figures", "plot", "nothing")
    Traceback (most recent call last):
    ...
    xcarbon.core.errors.MissingPackageError: figures need the package nothing: pip install 'xcarbon[plot]'
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as cause:
            package = module.partition(".")[0]
            raise error(f"{what} need the package {package}: pip install 'xcarbon[{extra}]'") from cause
