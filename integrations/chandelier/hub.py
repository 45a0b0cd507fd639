"""A hub name in, a local snapshot folder out.

The hub's own client does the talking, so its cache and its switches (`HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT`,
`HF_HUB_OFFLINE`, ...) hold. It is imported only when a name is no folder, and what it raises leaves as a `HubError`.
Fetched is what the core reads and nothing else: settings first and weights last, so that a snapshot with weights has
its settings too, whenever a download was cut off.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chandelier._core import __version__
from chandelier.exceptions import ArgumentError, HubError, HubMissingError
from chandelier.hub_layout import MODULES, PICKLED, WEIGHTS, Layout
from chandelier.multivectors import checked_path

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

__all__ = ["HubOptions", "Snapshot", "locate"]

COMMIT = re.compile(r"[0-9a-f]{40}")
TRANSPORTS = {"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2", "h11", "hf_xet", "ssl", "socket"}
ONE_DOWNLOAD = threading.Lock()  # two at once lose the lock of the client's progress bars, and fail or wait for ever
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(ONE_DOWNLOAD=threading.Lock()))
MOVES = 3  # how often a branch may move while it is fetched


class Snapshot(NamedTuple):
    """Where a model stands.

    Attributes:
        folder: The folder to open.
        revision: The commit of a hub model; None for a folder.
        warning: What the user should know about where it came from, if anything.
    """

    folder: str
    revision: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class HubOptions:
    """How to ask the hub; the arguments of `ColBERT` of the same names."""

    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = field(default=None, repr=False)
    local_files_only: bool = False

    def __post_init__(self) -> None:
        """Refuse what the hub's client would misunderstand, and never repeat a token."""
        revision, token = self.revision, self.token
        if revision is not None and not (isinstance(revision, str) and re.fullmatch(r"(?!.*\.\.)[!-~]+", revision)):
            wanted = "a branch, a tag or a commit"
            raise ArgumentError(f"revision: got {revision!r}, wanted {wanted}", argument="revision")
        if not isinstance(token, bool | None) and not (isinstance(token, str) and re.fullmatch(r"[!-~]+", token)):
            wanted = "a str of printable ASCII without spaces"
            raise ArgumentError(f"token: got a {type(token).__name__}, wanted {wanted}", argument="token")
        if not isinstance(self.local_files_only, bool):
            got = repr(self.local_files_only)
            raise ArgumentError(f"local_files_only: got {got}, wanted True or False", argument="local_files_only")
        if self.cache_dir is not None:
            folder = os.path.abspath(os.path.expanduser(checked_path("cache_dir", self.cache_dir)))
            object.__setattr__(self, "cache_dir", folder)  # a handle outlives a change of folder


def locate(name: str | os.PathLike[str], options: HubOptions) -> Snapshot:
    """The folder of a model: the one that the name is, or the snapshot of the hub's repository of that name.

    Raises:
        HubError: If the hub has it and does not give it, or cannot be asked; see there.
        ArgumentError: If a folder comes with a revision.
    """
    path = checked_path("model_name_or_path", name)
    if re.match(r"[a-z]+://", path):
        wanted = "a folder, or a hub name as 'organisation/name' (with revision=... for a branch, tag or commit)"
        raise ArgumentError(f"model_name_or_path: got {path!r}, wanted {wanted}", argument="model_name_or_path")
    if os.path.isdir(path) and options.revision is not None:
        wanted = f"none: {path!r} is a folder, and a folder has no revisions"
        raise ArgumentError(f"revision: got {options.revision!r}, wanted {wanted}", argument="revision")
    if not isinstance(name, str) or _is_path(path) or not _is_repository(path):
        return Snapshot(os.path.abspath(path))
    return snapshot(path, options)


def _is_path(name: str) -> bool:
    """Whether a name stands for something on this machine, even if nothing is there."""
    ends = (os.sep, os.altsep or os.sep, "/")
    evident = os.path.isabs(name) or name.startswith((".", "~")) or name.endswith(ends) or "\\" in name
    return evident or name.count("/") > 1 or os.path.lexists(name)


def _is_repository(name: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def snapshot(repository: str, options: HubOptions) -> Snapshot:
    """The snapshot of a repository, fetched as far as the cache lacks it."""
    return _Request(repository, options).snapshot()


class _Request:
    """One repository at one revision, asked for once."""

    def __init__(self, repository: str, options: HubOptions) -> None:
        from huggingface_hub import HfApi, constants

        self.repository = repository
        self.options = options
        self.revision = options.revision or "main"
        self.cache_dir = None if options.cache_dir is None else os.fspath(options.cache_dir)
        self.endpoint = constants.ENDPOINT
        self.client: dict[str, Any] = {"library_name": "chandelier", "library_version": __version__}
        self.api = HfApi(token=options.token, **self.client)

    def snapshot(self) -> Snapshot:
        from huggingface_hub import constants

        if self.options.local_files_only:
            return self._cached("local_files_only is set")
        if constants.HF_HUB_OFFLINE:
            switch = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)), None)
            return self._cached(f"{switch or 'HF_HUB_OFFLINE'} is set")
        if COMMIT.fullmatch(self.revision) and (known := self._known(self.revision)):
            return known  # a commit does not change: nothing to ask
        for _ in range(MOVES):
            try:
                info = self._ask()
            except HubError as error:
                if not _passes_by_itself(error.__cause__):
                    raise
                return self._cached_instead(error)
            folder = self._fetch(str(info.sha), {file.rfilename: file for file in info.siblings or ()})
            if folder is not None:
                return Snapshot(folder, str(info.sha))
        raise self._error("the revision moved again and again while it was fetched; name a commit")

    def _ask(self) -> Any:
        from huggingface_hub import constants

        with _translated(self):
            return self.api.model_info(
                self.repository,
                revision=self.revision,
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
                files_metadata=True,  # sizes and hashes
            )

    def _fetch(self, commit: str, files: dict[str, RepoSibling]) -> str | None:
        """Fetches what is lacking; None if the revision has become another commit in the meantime."""
        layout = Layout(files)
        if MODULES in files:
            layout.read_modules(self._download([MODULES], commit, files, commit))
        self._refuse(layout.lacking())
        folder = self._download(layout.settings(), commit, files, commit)
        layout.read_shards(folder)
        self._refuse(layout.lacking())
        # Last and by the name of the branch, so that the client notes in its cache which commit that is.
        folder = self._download(layout.weights(), self.revision, files, commit)
        return folder if os.path.basename(folder) == commit else None

    def _refuse(self, lacking: list[str]) -> None:
        if lacking:
            what = "holds no model that can be read: it lacks " + ", ".join(lacking)
            raise self._error(
                f"{what}; wanted a checkpoint with {WEIGHTS}, its shards or {PICKLED}, and tokenizer.json"
            )

    def _download(self, names: list[str], revision: str, files: dict[str, RepoSibling], commit: str) -> str:
        """Has the client fetch the files that its cache lacks, and checks them."""
        from huggingface_hub import snapshot_download

        # Looked up under both names: the commit's for the file, the branch's for the client's note of where it stands.
        new = [name for name in names if self._cached_file(name, commit) is None]
        here = self._cached_file(names[0], revision)
        if not new and here is not None and (folder := here[: -len(names[0]) - 1]).endswith(commit):
            return folder
        with ONE_DOWNLOAD, _translated(self):
            folder = snapshot_download(  # all that is to be fetched, or one file for the note alone
                self.repository,
                revision=revision,
                cache_dir=self.cache_dir,
                token=self.options.token,
                # Brackets keep the characters that a pattern would take for its own.
                allow_patterns=[re.sub(r"([*?[])", r"[\1]", name) for name in new or names[:1]],
                **self.client,
            )
        folder = str(folder)
        if os.path.basename(folder) == commit:
            damage = [self._damage(os.path.join(folder, *name.split("/")), files[name]) for name in new]
            if wrong := next((problem for problem in damage if problem), None):
                way = "it was deleted, so try again; if it stays so, a proxy or a mirror alters what it passes on"
                raise self._error(f"{wrong}; {way}")
        return folder

    def _cached_file(self, name: str, revision: str) -> str | None:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repository, name, cache_dir=self.cache_dir, revision=revision)
        return path if isinstance(path, str) else None

    def _damage(self, path: str, file: RepoSibling) -> str | None:
        """Compares the bytes with the hub's hash, and deletes them if they are others.

        The client compares sizes only, and wrong weights look like right ones.
        """
        import hashlib

        try:
            size = os.path.getsize(path)
        except FileNotFoundError:
            raise self._error(f"{file.rfilename} was fetched and is gone; is something clearing the cache?") from None
        digest = file.lfs and file.lfs["sha256"]
        if file.size is not None and size != file.size:
            problem = f"{size} bytes instead of {file.size}"
        elif digest and (found := _hashed(path, hashlib.sha256())) != digest:
            problem = f"SHA-256 {found} instead of {digest}"
        elif not file.lfs and file.blob_id and _hashed(path, hashlib.sha1(b"blob %d\0" % size)) != file.blob_id:
            problem = f"other bytes than git's {file.blob_id}"
        else:
            return None
        for each in {path, os.path.realpath(path)}:
            os.unlink(each)
        return f"{file.rfilename} arrived with {problem}"

    def _known(self, commit: str) -> Snapshot | None:
        """The cached snapshot of a commit, if the client's cache also knows that nothing is lacking."""
        from huggingface_hub import snapshot_download

        files = self._listing(commit)
        if files is None:
            return None
        try:
            folder = snapshot_download(
                self.repository,
                revision=commit,
                cache_dir=self.cache_dir,
                local_files_only=True,
                allow_patterns=[],
            )
        except FileNotFoundError:
            return None
        return None if self._holes(folder, files) else Snapshot(folder, commit)

    def _listing(self, commit: str) -> set[str] | None:
        """The names of a commit's files, if the cache has them; clients before 2.0 do not keep them."""
        import huggingface_hub

        listing: Callable[..., Any] | None = getattr(huggingface_hub, "get_cached_repo_tree", None)
        if listing is None:
            return None
        try:
            return {file.path for file in listing(self.repository, revision=commit, cache_dir=self.cache_dir)}
        except Exception:
            return None  # not kept for this commit, or not readable: as with an older client

    def _cached(self, why: str) -> Snapshot:
        """The snapshot in the cache, without asking anybody."""
        from huggingface_hub import snapshot_download

        try:
            folder = snapshot_download(
                self.repository,
                revision=self.revision,
                cache_dir=self.cache_dir,
                local_files_only=True,
                allow_patterns=[],  # which files matter is decided below
            )
        except FileNotFoundError as error:
            way = f"open it once online, or give the folder of a model (there is none of the name {self.repository!r})"
            raise self._error(f"{why}, and the cache does not hold it; {way}", missing=True) from error
        commit = os.path.basename(folder)
        if holes := self._holes(folder, self._listing(commit)):
            what = f"the snapshot in the cache is incomplete, it lacks {', '.join(holes)}"
            raise self._error(f"{why}, and {what} ({folder}); open it once online", missing=True)
        return Snapshot(folder, commit)

    def _cached_instead(self, unreachable: HubError) -> Snapshot:
        try:
            cached = self._cached("the hub cannot be reached")
        except HubMissingError as error:
            raise self._error(f"{_problem(unreachable)}; {_problem(error)}") from unreachable.__cause__
        commit = cached.revision
        message = f"{_problem(unreachable)}; opened commit {commit} from the cache, which may not be the newest"
        return cached._replace(warning=f"{self.repository!r}: {message} (local_files_only=True asks nobody)")

    def _holes(self, folder: str, files: set[str] | None) -> list[str]:
        """What a snapshot lacks: of the repository's files, or else, as far as it can be told, of any checkpoint's."""
        present = set(_walk(folder))
        layout = Layout(present if files is None else files)
        if MODULES in layout.files and MODULES not in present:
            return [MODULES]
        layout.read_modules(folder)
        layout.read_shards(folder)
        if files is not None:
            return [name for name in (*layout.settings(), *layout.weights()) if name not in present]
        return layout.lacking() + layout.unlikely_to_lack(folder)

    def _error(self, problem: str, *, missing: bool = False) -> HubError:
        kind = HubMissingError if missing else HubError
        message = f"{self.repository!r} (revision {self.revision!r}): {problem}"
        return kind(message, repository=self.repository, revision=self.revision)

    def translate(self, error: Exception) -> HubError | None:
        """What a failure of the client means for the caller; None if it is none of the hub's."""
        from huggingface_hub import errors

        status = getattr(getattr(error, "response", None), "status_code", None)
        page = f"{self.endpoint}/{self.repository}"
        if isinstance(error, errors.GatedRepoError):
            way = f"ask for it at {page}, then give the token of that account (HF_TOKEN, or token=...)"
            return self._error(f"access to this repository must be granted and was not ({status}); {way}")
        if isinstance(error, errors.RepositoryNotFoundError):
            what = f"no such repository at {self.endpoint}, or a private one that the token does not open"
            way = f"check the name, or set HF_TOKEN; a folder of the name {self.repository!r} is not here either"
            return self._error(f"{what}; {way}", missing=True)
        if isinstance(error, errors.RevisionNotFoundError):
            return self._error(f"the repository has no such branch, tag or commit; see {page}/tree/main", missing=True)
        if isinstance(error, errors.LocalEntryNotFoundError):
            # The client found no way to the file's address and no file in the cache; the cause says why.
            why = self.translate(error.__cause__) if isinstance(error.__cause__, Exception) else None
            return why or self._error(f"a file could not be fetched: {_brief(error)}")
        if status == 401:
            return self._error("the token is not valid (401); correct or unset HF_TOKEN, or log in again")
        if status == 403:
            return self._error(f"access is refused (403: {_brief(error)}); check what the token may read")
        if status is not None:
            return self._error(f"{self.endpoint} answered {status} ({_brief(error)}); try again later")
        if _is_transport(error):
            way = "check the network, the proxy and HF_ENDPOINT"
            return self._error(f"{self.endpoint} could not be reached, or broke off ({_brief(error)}); {way}")
        if isinstance(error, OSError) and error.errno is None:
            return self._error(
                f"the download failed: {_brief(error)}"
            )  # the client's own finding, such as a wrong size
        return None  # a full disk, a folder without rights, a defect


class _translated:  # noqa: N801
    """Turns what the hub's client raises into a `HubError` of the request."""

    def __init__(self, request: _Request) -> None:
        self.request = request

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and (ours := self.request.translate(error)) is not None:
            raise ours from error


def _is_transport(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return any(kind.__module__.partition(".")[0] in TRANSPORTS for kind in type(error).__mro__)


def _passes_by_itself(error: BaseException | None) -> bool:
    """Whether the hub was not reached, or is not in order: nothing that it said about the model."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return bool(status in (408, 429) or status >= 500)
    return error is not None and _is_transport(error)


def _brief(error: Exception) -> str:
    """The reason in one line: what the server said, or the first line of the client's message."""
    said = getattr(error, "server_message", None) or str(error)
    line = next((line.strip() for line in said.splitlines() if line.strip()), "")
    return line[:200] or type(error).__name__


def _problem(error: HubError) -> str:
    return str(error).partition("): ")[2]


def _hashed(path: str, digest: Any) -> str:
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return str(digest.hexdigest())


def _walk(folder: str) -> Iterator[str]:
    """The names of the files of a snapshot, without links that lead nowhere."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if os.path.exists(path):
                yield os.path.relpath(path, folder).replace(os.sep, "/")
