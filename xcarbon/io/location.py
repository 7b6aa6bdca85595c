"""The place of a store: in a local folder, in a bucket of an object store, or on a web server.

A local folder is plain Zarr, which is replaced by renaming, unless its name ends in ``.icechunk``. Objects in
a bucket cannot be renamed together. Stores in buckets are therefore written with Icechunk, a format for Zarr
with transactions and versions; plain Zarr in a bucket or on a web server is only read. All readers and
writers of stores find them through :class:`Location`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pandas as pd
from zarr.storage import FsspecStore, StoreLike

from xcarbon.core import atomic
from xcarbon.core.errors import OptionError, StoreError
from xcarbon.core.extras import require

if TYPE_CHECKING:
    from icechunk import Repository, Storage

PathLike = str | os.PathLike[str]
Options = Mapping[str, Any]

#: Names of buckets begin with these; the names of their options in obstore, where Icechunk has others.
BUCKETS: dict[str, dict[str, str]] = {
    "s3": {"endpoint_url": "endpoint", "anonymous": "skip_signature"},
    "gs": {"service_account_file": "service_account", "anonymous": "skip_signature"},
    "az": {
        "account": "account_name",
        "access_key": "account_key",
        "sas_token": "sas_key",
        "bearer_token": "token",
    },
}
#: Suffix of the folders that are written with Icechunk.
ICECHUNK = ".icechunk"
MAIN = "main"


@dataclass(frozen=True, slots=True)
class Opened:
    """A store that is open for reading.

    Attributes
    ----------
    path : str
        Path or URL, for messages.
    store : zarr.storage.StoreLike
        What Zarr opens: the path of a folder, or a store of Zarr.
    version : str or None
        Snapshot of Icechunk, which never changes; None for plain Zarr.
    """

    path: str
    store: StoreLike
    version: str | None = None

    def __str__(self) -> str:
        return self.path

    def __deepcopy__(self, memo: Any) -> Opened:
        return self

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        changed = None if not os.path.exists(self.path) else os.path.getmtime(self.path)
        return (self.path, self.version or changed)


@dataclass(frozen=True)
class Location:
    """The place of a store.

    Attributes
    ----------
    path : str
        Path of a folder, or URL.
    options : mapping
        Arguments of the storage, for URLs.
    """

    path: str
    options: Options

    @classmethod
    def of(cls, path: PathLike, storage_options: Options | None = None) -> Location:
        """Return the location of a path or URL; ``file://`` URLs become paths."""
        text, options = os.fspath(path), dict(storage_options or {})
        if isinstance(path, Path) and (found := re.match(r"(\w{2,}):/", text)):
            raise OptionError(f"{text} was a URL before it became a Path: give {found[1]}://... as a string")
        parts = urlsplit(text)
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise OptionError(f"{text} names the host {parts.netloc}: write file:///folder/store")
            text = unquote(parts.path)
        if options and "://" not in text:
            raise OptionError(f"storage_options are for URLs, but {text} is a local folder")
        return cls(text, options)

    def __str__(self) -> str:
        return self.path

    @property
    def folder(self) -> Path | None:
        """The local folder; None for other URLs."""
        return None if "://" in self.path else Path(self.path)

    @property
    def plain_folder(self) -> Path | None:
        """The local folder if stores are written here as plain Zarr, which is replaced by renaming."""
        return None if self.is_repository else self.folder

    @property
    def returned(self) -> Path | str:
        """What functions return that have written a store: a path, or a URL."""
        return self.folder or self.path

    @property
    def suffix(self) -> str:
        """The suffix of the name."""
        return Path(urlsplit(self.path).path if self.folder is None else self.path).suffix

    @property
    def is_repository(self) -> bool:
        """Whether stores are written here with Icechunk."""
        if self.folder is None:
            return True
        return self.suffix == ICECHUNK or is_repository(self.folder)

    def exists(self) -> bool:
        """Return whether there is a complete store, or anything else in the place of a local one."""
        if self.plain_folder is not None:
            return self.plain_folder.exists()
        repository = self.repository()
        return repository is not None and not _is_empty(repository)

    def check_free(self, *, overwrite: bool) -> None:
        """Raise StoreError if something exists that may not be replaced."""
        if self.plain_folder is not None:
            atomic.check_free(self.plain_folder, overwrite=overwrite)
        elif not overwrite and self.exists():
            raise atomic.occupied(self.path)

    def check_output(self) -> None:
        """Raise OptionError if the name is neither that of a store nor that of a NetCDF file."""
        if self.suffix == ".nc" and self.folder is None:
            raise OptionError(f"{self} must be a store: NetCDF files are written to local folders only")
        if self.suffix not in (".nc", ".zarr") and not self.is_repository:
            raise OptionError(f"{self} must end in .zarr for a store or in .nc for a NetCDF file")

    def check_replaceable(self) -> None:
        """Raise StoreError if there is a local folder or file that is no store."""
        folder = self.plain_folder
        if folder is None or not folder.exists():
            return
        if not any((folder / name).exists() for name in ("zarr.json", ".zgroup")):
            raise StoreError(
                f"{self} is not a Zarr store and is not replaced: remove it, or choose another path"
            )

    def open(self, version: str | None = None) -> Opened:
        """Open a store for reading: the latest version, or that of a snapshot or tag."""
        if self.folder is not None and not is_repository(self.folder):
            if self.suffix == ICECHUNK and self.folder.is_dir():
                raise StoreError(f"{self} is not a store of Icechunk, although its name ends in {ICECHUNK}")
            return self._plain(self.path, version)
        if self.folder is None and self._scheme not in BUCKETS:
            return self._plain(FsspecStore.from_url(self.path, dict(self.options), read_only=True), version)
        repository = self.repository()
        if repository is None:
            return self._plain(self._objects(), version)
        if _is_empty(repository):
            raise StoreError(f"{self} has no complete store: run the command that began to write it again")
        with self.naming_errors():
            snapshot = self._snapshot(repository, version)
            return Opened(self.path, repository.readonly_session(snapshot_id=snapshot).store, snapshot)

    def _plain(self, store: StoreLike, version: str | None) -> Opened:
        if version is not None:
            raise StoreError(f"{self} is plain Zarr, which has no versions: leave out version={version!r}")
        return Opened(self.path, store)

    def _snapshot(self, repository: Repository, version: str | None) -> str:
        """Return the snapshot of a version."""
        if version is None:
            return repository.lookup_branch(MAIN)
        tags = repository.list_tags()
        if version in tags:
            return repository.lookup_tag(version)
        from icechunk import IcechunkError

        try:
            return repository.lookup_snapshot(version).id
        except (IcechunkError, ValueError) as error:
            known = ", ".join(sorted(tags, key=_number)) or "none"
            raise StoreError(f"{self} has no version {version}: its tags are {known}") from error

    def versions(self) -> pd.DataFrame:
        """List the tagged versions, from the oldest to the newest."""
        repository = self.repository()
        if repository is None:
            raise StoreError(f"{self} has no versions: there is no store of Icechunk")
        with self.naming_errors():
            rows = []
            for tag in sorted(repository.list_tags(), key=_number):
                info = repository.lookup_snapshot(repository.lookup_tag(tag))
                rows.append((tag, info.id, info.written_at))
        return pd.DataFrame(rows, columns=["version", "snapshot", "written"]).set_index("version")

    def repository(self, *, create: bool = False) -> Repository | None:
        """Open the repository of Icechunk; None if there is none."""
        if self.folder is not None and not create and not is_repository(self.folder):
            return None
        with self.naming_errors():
            storage = self._storage()
            from icechunk import Repository

            if Repository.exists(storage):
                return Repository.open(storage)
            return Repository.create(storage) if create else None

    @contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Raise errors of Icechunk as a StoreError that names the location."""
        require(f"stores such as {self}", "cloud", "icechunk")
        from icechunk import ConflictError, IcechunkError

        try:
            yield
        except (ConflictError, IcechunkError) as error:
            reason = str(error).strip().splitlines()[0].removeprefix("x ").strip()
            raise StoreError(f"{self}: {_advice(error, reason)}") from error

    @property
    def _scheme(self) -> str:
        scheme = urlsplit(self.path).scheme
        return "gs" if scheme == "gcs" else scheme

    @property
    def _bucket(self) -> tuple[str, str]:
        """Name of the bucket, and path within it."""
        parts = urlsplit(self.path)
        bucket, prefix = parts.netloc, parts.path.strip("/")
        if not (bucket and prefix):
            raise OptionError(f"{self} names no store in a bucket: write {self._scheme}://bucket/store")
        return bucket, prefix

    def _storage(self) -> Storage:
        """Return the storage of Icechunk; credentials that are not given come from the environment."""
        import icechunk

        if self.folder is not None:
            # It prints at each opening that a folder is not safe for several writers, as the manual states.
            if "ICECHUNK_LOG" not in os.environ:
                icechunk.set_logs_filter("icechunk=error")
            return icechunk.local_filesystem_storage(str(self.folder.absolute()))
        if self._scheme not in BUCKETS:
            raise StoreError(
                f"{self} cannot be written: stores are written to local folders and to URLs that begin with "
                f"{', '.join(f'{scheme}://' for scheme in BUCKETS)}"
            )
        (bucket, prefix), options = self._bucket, self._complete()
        try:
            if self._scheme == "s3":
                endpoint = options.get("endpoint_url")
                # Names of buckets are part of the host only in the cloud of Amazon.
                own = {"allow_http": _is_http(endpoint), "force_path_style": True} if endpoint else {}
                return icechunk.s3_storage(bucket=bucket, prefix=prefix, **(own | options))
            if self._scheme == "gs":
                return icechunk.gcs_storage(bucket=bucket, prefix=prefix, **options)
            return icechunk.azure_storage(container=bucket, prefix=prefix, **options)
        except TypeError as error:
            raise OptionError(f"storage_options of {self}: {error}") from error

    def _complete(self) -> dict[str, Any]:
        """Return the options with those that the environment sets."""
        options, environment = dict(self.options), os.environ
        if self._scheme == "s3":
            endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
            options = ({"endpoint_url": endpoint} if endpoint else {}) | options
        if self._scheme == "az":
            options = {"account": environment.get("AZURE_STORAGE_ACCOUNT_NAME")} | options
            if not options["account"]:
                raise OptionError(
                    f"{self} needs an account: set AZURE_STORAGE_ACCOUNT_NAME, or account in storage_options"
                )
        given = options.keys() - {"endpoint_url", "region", "account", "config"}
        return options if given else options | {"from_env": True}

    def _objects(self) -> StoreLike:
        """Return a store of Zarr for plain Zarr in a bucket."""
        require(f"stores such as {self}", "cloud", "obstore")
        from obstore.exceptions import BaseError
        from obstore.store import from_url
        from zarr.storage import ObjectStore

        names, options = BUCKETS[self._scheme], self._complete()
        options.pop("from_env", None)  # the default of obstore
        client: Any = {"allow_http": _is_http(options.get("endpoint_url"))}
        bucket, prefix = self._bucket
        try:
            settings: Any = {names.get(name, name): value for name, value in options.items()}
            store = from_url(f"{self._scheme}://{bucket}/{prefix}", client_options=client, **settings)
        except BaseError as error:
            raise OptionError(f"storage_options of {self}: {str(error).splitlines()[0]}") from error
        return ObjectStore(store, read_only=True)


def tag(repository: Repository, snapshot: str) -> str:
    """Tag a snapshot with the next number: v1, v2 and so on."""
    from icechunk import IcechunkError

    last = max((_number(name) for name in repository.list_tags()), default=0)
    for number in itertools.count(last + 1):
        try:
            repository.create_tag(f"v{number}", snapshot)
        except IcechunkError as error:
            # Another process was faster, or a tag of this name was deleted, which makes the name unusable.
            if "already exists" not in str(error):
                raise
        else:
            break
    return f"v{number}"


def _number(name: str) -> int:
    """Return the number of a tag such as v12; 0 for others."""
    found = re.fullmatch(r"v(\d+)", name)
    return int(found[1]) if found else 0


def is_repository(folder: Path) -> bool:
    """Return whether a folder is a repository of Icechunk."""
    return all((folder / name).is_dir() for name in ("refs", "snapshots"))


def _is_empty(repository: Repository) -> bool:
    """Return whether no store was completed in a repository."""
    return next(repository.ancestry(branch=MAIN)).parent_id is None


def _is_http(endpoint: str | None) -> bool:
    return bool(endpoint) and str(endpoint).startswith("http://")


def _advice(error: Exception, reason: str) -> str:
    """Return what happened and what to do about it."""
    from icechunk import ConflictError

    if isinstance(error, ConflictError) or "conflict" in reason:
        return (
            "another process has written this store since this one began, and its version is kept: wait "
            "until it has finished, and run this again"
        )
    if "clean prefixes" in reason:
        return "there are other files or objects in this place, which are not replaced: choose another one"
    return (
        f"the storage cannot be accessed ({reason}): check that the bucket exists, and the credentials in "
        "the environment or in storage_options"
    )
