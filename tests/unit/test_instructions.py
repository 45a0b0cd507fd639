"""The fastest instructions are chosen by what the system says of the processor, and each of them gives the goldens."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CPUINFO = Path("/proc/cpuinfo")
x86_linux = pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPUINFO.exists(), reason="needs an x86 processor and /proc/cpuinfo"
)


@dataclass(frozen=True)
class Processor:
    """What Linux says of an x86 processor, by a list that is not the code's own detection."""

    flags: frozenset[str]
    vendor: str

    @classmethod
    def of_this_machine(cls) -> Processor:
        lines = [line.split(":", 1) for line in CPUINFO.read_text().split("\n\n")[0].splitlines()]
        facts = {name.strip(): value.strip() for name, value in lines}
        return cls(frozenset(facts["flags"].split()), facts["vendor_id"])

    def has(self, *flags: str) -> bool:
        return self.flags.issuperset(flags)

    def kinds(self, tiles: bool) -> list[str]:
        """The kinds of instructions that `CHANDELIER_SIMD` may name, if the system permits `tiles` or does not."""
        amx = tiles and self.has("avx512f", "amx_tile", "amx_bf16", "amx_int8")
        has = {"amx": amx, "avx512": self.has("avx512f"), "avx2": self.has("avx2", "fma", "f16c"), "portable": True}
        return [kind for kind in has if has[kind]]

    def fastest(self, tiles: bool) -> dict[str, str]:
        """What multiplies in each precision."""
        kinds = self.kinds(tiles)
        fastest = dict.fromkeys(("float32", "bfloat16", "int8"), next(kind for kind in kinds if kind != "amx"))
        if "avx512" in kinds:
            # Whole numbers have no instruction in what every AVX-512 has, and Intel's for bfloat16 is slow.
            fastest["int8"] = "avx512vnni" if self.has("avx512_vnni") else "avx2"
            if self.has("avx512_bf16") and self.vendor == "AuthenticAMD":
                fastest["bfloat16"] = "avx512bf16"
        if "amx" in kinds:
            fastest.update(bfloat16="amx", int8="amx")
        return fastest


# Whether Linux grants tiles to a process is asked last: the extension must have asked by itself.
CHOSEN = """
import ctypes, json, os
from chandelier import ArgumentError, build_info
kernels = build_info()["kernels"]
os.environ["CHANDELIER_SIMD"] = "none"
try:
    build_info()
except ArgumentError as error:
    refused = str(error)
ARCH_PRCTL, REQUEST_PERMISSION, TILES = 158, 0x1023, 18
tiles = ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILES) == 0
print(json.dumps([kernels, refused, tiles]))
"""


@x86_linux
def test_the_fastest_that_the_processor_has_is_chosen() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CHANDELIER_SIMD"}
    done = subprocess.run([sys.executable, "-c", CHOSEN], env=environment, capture_output=True, text=True, check=True)
    kernels, refused, tiles = json.loads(done.stdout)
    processor = Processor.of_this_machine()
    print(kernels, refused)
    assert dict(each.split(": ") for each in kernels.split(", ")) == processor.fastest(tiles)
    assert re.findall(r'"(\w+)"', refused.split("wanted")[1]) == processor.kinds(tiles)


@pytest.mark.parametrize("simd", ["amx", "avx512", "avx2", "neon", "portable"])
def test_every_golden_holds_by_every_kind_of_instructions(simd: str) -> None:
    """In float32, within the tolerances of the goldens: what one kind rounds otherwise is no excuse."""
    environment = {**os.environ, "CHANDELIER_SIMD": simd}
    probe = [sys.executable, "-c", "from chandelier import build_info; print(build_info()['simd'])"]
    known = subprocess.run(probe, env=environment, capture_output=True, text=True, check=False)
    if "CHANDELIER_SIMD: got" in known.stderr and simd != "portable":
        pytest.skip(f"this processor has no {simd}")
    # Tiles multiply no float32.
    assert known.stdout == ("avx512\n" if simd == "amx" else f"{simd}\n"), known.stderr
    file = str(Path(__file__).with_name("test_goldens.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", "test_rows_and_scores"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
