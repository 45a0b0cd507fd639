"""What an install costs: bytes to download, by the registry's own figures, and bytes on the disk, by what is installed.

    python tests/benchmarks/hosts_sizes.py download UV PYTHON REQUIREMENT...
    python tests/benchmarks/hosts_sizes.py disk REQUIREMENT... --site FOLDER...

By a Python of the version that is asked about, with `packaging`. One JSON line: `{"packages": 25, "bytes": 52000000}`.
"""

import argparse
import json
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

import tomllib
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name, parse_wheel_filename


def download(uv: str, python: str, requirements: Sequence[str]) -> dict[str, int]:
    """What `pip install REQUIREMENTS` would fetch today for this machine: nothing is fetched."""
    command = [uv, "pip", "compile", "--quiet", "--format", "pylock.toml", "--python", python, "-"]
    made = subprocess.run(command, input="\n".join(requirements), check=True, stdout=subprocess.PIPE, text=True)
    order = {tag: place for place, tag in enumerate(sys_tags())}
    sizes = []
    for package in tomllib.loads(made.stdout)["packages"]:
        if "marker" in package and not Marker(package["marker"]).evaluate():
            continue
        if "archive" in package:
            sizes.append(Path(package["archive"]["path"]).stat().st_size)
            continue
        ranked = []
        for wheel in package.get("wheels", []):
            tags = parse_wheel_filename(wheel["url"].rsplit("/", 1)[1])[3]
            ranked += [(order[tag], wheel["size"]) for tag in tags if tag in order]
        sizes.append(min(ranked)[1] if ranked else package["sdist"]["size"])
    return {"packages": len(sizes), "bytes": sum(sizes)}


def disk(requirements: Iterable[str], sites: Sequence[Path]) -> dict[str, int]:
    """The files of these distributions and of all that they need, bytecode left out."""
    installed: dict[str, Distribution] = {}
    for found in distributions(path=[str(site) for site in sites]):
        installed.setdefault(canonicalize_name(found.metadata["Name"]), found)
    waiting = [Requirement(text) for text in requirements]
    extras: dict[str, set[str]] = {}
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        asked = {"", *wanted.extras} - extras.get(name, set())
        if not asked:
            continue
        if name not in installed:
            raise SystemExit(f"{wanted}: not installed in {', '.join(map(str, sites))}")
        extras.setdefault(name, set()).update(asked)
        for text in installed[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in asked):
                waiting.append(needed)
    files = {
        Path(str(file.locate())).resolve()
        for name in extras
        for file in installed[name].files or ()
        if file.suffix != ".pyc"
    }
    return {"packages": len(extras), "bytes": sum(file.stat().st_size for file in files if file.exists())}


def main() -> None:
    """Prints one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("download")
    one.add_argument("uv")
    one.add_argument("python")
    one.add_argument("requirements", nargs="+")
    two = commands.add_parser("disk")
    two.add_argument("requirements", nargs="+")
    two.add_argument("--site", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    if args.command == "download":
        found = download(args.uv, args.python, args.requirements)
    else:
        found = disk(args.requirements, args.site)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
