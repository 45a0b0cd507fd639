"""A real Weaviate on the loopback, for tests and benchmarks; it ends with the process that started it, even killed.

`python tests/weaviate_server.py [FOLDER]` runs one until standard input ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a server can be had without the client
    from weaviate import WeaviateAsyncClient, WeaviateClient

BUILD = Path(__file__).with_name("build_weaviate.sh")

# Its own process and session, so that neither kill -9 nor Ctrl-C takes it along: each line of its standard input is a
# server to start; when its input ends it kills what runs, and deletes the folder that is to go.
GUARD = """
while IFS= read -r command; do eval "exec $command" </dev/null >>"$1/log" 2>&1 & echo $!; done
kill -9 $(jobs -rp); wait
[ "$2" ] && rm -rf "$1"
"""

SETTINGS = {
    "DEFAULT_VECTORIZER_MODULE": "none",
    "ENABLE_MODULES": "",
    "API_BASED_MODULES_DISABLED": "true",
    "DISABLE_TELEMETRY": "true",
    "GO_PROFILING_DISABLE": "true",
    "DISK_USE_READONLY_PERCENTAGE": "0",  # else everything is refused on a disk that is nine tenths full
    "CLUSTER_HOSTNAME": "node1",
    "CLUSTER_IN_LOCALHOST": "true",
    "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
    "CLUSTER_BIND_ADDR": "127.0.0.1",
    "RAFT_BOOTSTRAP_EXPECT": "1",
    "RAFT_TIMEOUTS_MULTIPLIER": "1",  # ready in 3 seconds rather than 9
}


def weaviate_program() -> Path | None:
    """The server that `build_weaviate.sh` built, if it did."""
    path = Path(subprocess.run([BUILD, "path"], check=True, capture_output=True, text=True).stdout.rstrip("\n"))
    return path if os.access(path, os.X_OK) else None


class WeaviateServer:
    """A server that is ready, over an empty folder or over yours, until `stop` or the end of the ``with``.

    Args:
        folder: Where the data stays; one of its own, deleted in the end, unless given.
        api_key: The one key that it lets in; without, everybody.
        settings: Weaviate's environment variables, over `SETTINGS`.
    """

    http_port: int
    grpc_port: int
    pid: int

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, api_key: str | None = None, **settings: str
    ) -> None:
        program = weaviate_program()
        if program is None:
            raise FileNotFoundError(f"Weaviate is not built: run {BUILD}")
        self.folder = Path(tempfile.mkdtemp(prefix="weaviate-") if folder is None else folder)
        self._program, self._settings = program, {**SETTINGS, **access(api_key), **settings}
        self._api_key = api_key
        self._process = -1  # a descriptor: unlike a number, it never comes to mean another process
        with ExitStack() as undo:
            lock = locked(self.folder)
            undo.callback(os.close, lock)  # ours; the guard and the server have theirs for as long as they live
            self._guard = subprocess.Popen(
                ["bash", "-c", GUARD, "guard", self.folder, "delete" if folder is None else ""],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                pass_fds=[lock],
                start_new_session=True,
            )
        try:
            self._start(new_ports=True)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> WeaviateServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def connect(self, **options: Any) -> WeaviateClient:
        """A client that is connected, with the right key unless `auth_credentials` says otherwise; close it."""
        import weaviate

        return weaviate.connect_to_local(**self._connection(), **{**self._defaults(), **options})

    def connect_async(self, **options: Any) -> WeaviateAsyncClient:
        """A client that ``async with`` connects and closes."""
        import weaviate

        return weaviate.use_async_with_local(**self._connection(), **{**self._defaults(), **options})

    def kill(self) -> None:
        """``kill -9``, and waits until it is dead."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Has the server end in its own way, and waits for that."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Starts it again, over the same folder and on the same ports; kills it first if it runs."""
        self.kill()
        self._start(new_ports=False)

    def freeze(self) -> None:
        """Stops it where it stands, and waits until the last of its threads does: some go on for a while after the
        signal where the processors are busy, and answer."""
        os.kill(self.pid, signal.SIGSTOP)
        while not all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in self._threads()):
            time.sleep(0.001)

    def thaw(self) -> None:
        """Has it go on after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def memory(self) -> int:
        """What it has resident, in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def stop(self) -> None:
        """Ends it for good; twice is as good as once."""
        if self._guard.stdin.closed:
            return
        self.terminate()
        self._guard.stdin.close()
        self._guard.stdout.close()
        self._guard.wait()

    def _connection(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.http_port, "grpc_port": self.grpc_port}

    def _defaults(self) -> dict[str, Any]:
        # The checks at the beginning ask PyPI, too, whether the client is the newest.
        return {"auth_credentials": self._api_key, "skip_init_checks": True}

    def _start(self, *, new_ports: bool) -> None:
        for _ in range(3):  # it ends at once when somebody was quicker to take one of its ports
            if new_ports:
                self._first_port = free_ports(6)
                self.http_port, self.grpc_port = self._first_port, self._first_port + 1
            if self._is_ready_in_the_end():
                return
            self.kill()
        raise RuntimeError(f"Weaviate does not start: {self._last_words()}")

    def _is_ready_in_the_end(self) -> bool:
        """Starts it; whether it gets ready rather than end."""
        self._guard.stdin.write(self._command() + "\n")
        self._guard.stdin.flush()
        self.pid = int(self._guard.stdout.readline())
        try:
            self._process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        deadline = time.monotonic() + 60
        while not self._ended(within=0.05):
            if answers(self.http_port) and listens(self.grpc_port):
                return True
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"Weaviate runs, but is not ready after a minute: {self._last_words()}")
        return False

    def _command(self) -> str:
        gossip, data, raft, raft_rpc = (self._first_port + i for i in range(2, 6))
        settings = {
            **self._settings,
            "PERSISTENCE_DATA_PATH": self.folder / "data",
            "GRPC_PORT": self.grpc_port,
            "CLUSTER_GOSSIP_BIND_PORT": gossip,
            "CLUSTER_DATA_BIND_PORT": data,
            "RAFT_PORT": raft,
            "RAFT_INTERNAL_RPC_PORT": raft_rpc,
        }
        environment = ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]
        options = ["--scheme=http", "--host=127.0.0.1", f"--port={self.http_port}"]
        return shlex.join([*environment, str(self._program), *options, "--read-timeout=600s", "--write-timeout=600s"])

    def _threads(self) -> list[Path]:
        return list(Path(f"/proc/{self.pid}/task").glob("*/stat"))

    def _ended(self, within: float) -> bool:
        return bool(select.select([self._process], [], [], within)[0])

    def _end(self, how: signal.Signals) -> None:
        if self._process < 0:
            return
        try:
            signal.pidfd_send_signal(self._process, how)
            if not self._ended(within=30):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
                self._ended(within=30)
        except ProcessLookupError:  # it is dead already
            pass
        finally:
            os.close(self._process)
            self._process = -1

    def _last_words(self) -> str:
        lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-3:]) or "it says nothing"


def access(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {"AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true"}
    return {
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
        "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": api_key,
        "AUTHENTICATION_APIKEY_USERS": "tester",
    }


def locked(folder: Path) -> int:
    """A descriptor that locks the folder until its last copy is closed, or an error: a second server there hangs."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    for _ in range(20):  # what looked after a server that was killed ends a moment later
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            time.sleep(0.1)
    os.close(lock)
    raise RuntimeError(f"{folder}: a Weaviate runs over this folder already")


def free_ports(count: int) -> int:
    """The first of as many ports in a row that nobody has, for TCP and UDP.

    They are below those that Linux gives to outgoing connections, which may take them before a restart does.
    """
    while True:
        base = random.SystemRandom().randrange(15_000, 32_000)
        with ExitStack() as sockets:
            try:
                for port in range(base, base + count):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        sockets.enter_context(socket.socket(type=kind)).bind(("", port))
                return base
            except OSError:
                pass


def answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v1/.well-known/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    with WeaviateServer(*sys.argv[1:2]) as server:
        print(f"{server.url} (gRPC: {server.grpc_port})", flush=True)
        sys.stdin.read()
