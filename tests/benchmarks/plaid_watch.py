"""What a process takes while it works, seen from outside: its memory, and a limit to its time."""

import re
import subprocess
import threading
from pathlib import Path
from types import TracebackType

EVERY_S = 0.05


class Watch:
    """The highest memory of a process while this is entered.

    Attributes:
        own_mb: What only it can give back; NaN where the system does not say.
        mapped_mb: Pages of files that it has mapped, which the system may drop and read again.
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.own_mb = self.mapped_mb = 0.0 if self._status.exists() else float("nan")

    def _watch(self) -> None:
        while self._look() and not self._ended.wait(EVERY_S):
            pass

    def _look(self) -> bool:
        try:
            found = re.findall(r"Rss(Anon|File|Shmem):\s+(\d+) kB", self._status.read_text())
        except OSError:  # it has ended
            return False
        mb = {kind: int(size) / 1024 for kind, size in found}
        if not mb:
            return False
        self.own_mb = max(self.own_mb, mb["Anon"] + mb["Shmem"])
        self.mapped_mb = max(self.mapped_mb, mb["File"])
        return True

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()


class Limit:
    """Ends a process after so many seconds, unless this is left before.

    Attributes:
        reached: Whether it did.
    """

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self.reached = False
        self._process = process
        self._timer = threading.Timer(seconds, self._end)

    def _end(self) -> None:
        self.reached = True
        self._process.kill()

    def __enter__(self) -> "Limit":
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
