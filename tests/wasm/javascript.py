"""The npm package in Node: Python says what is evaluated, and gets what comes out."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from chandelier import MultiVectors

DTYPES = {"Float32Array": np.float32, "Uint32Array": np.uint32, "Uint8Array": np.uint8}

READ = """
    const { readFileSync, readdirSync, statSync } = require("node:fs");
    kept.read ??= folder => Object.fromEntries(
        readdirSync(folder, { recursive: true }).filter(path => statSync(`${folder}/${path}`).isFile())
            .map(path => [path, new Uint8Array(readFileSync(`${folder}/${path}`))]));
    kept.rows ??= found => {
        const parts = { data: found.data, offsets: found.offsets, dim: found.dim };
        found.free();
        return parts;
    };
"""


class JavaScriptError(Exception):
    """What the code threw."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name, self.message = name, message


class Node:
    """A process of Node with the package loaded. What it keeps, a model say, stays until it ends."""

    def __init__(self, program: str, package: Path) -> None:
        command = [program, str(Path(__file__).with_name("evaluate.cjs")), str(package / "chandelier.js")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.evaluate(READ)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.communicate(timeout=20)

    def evaluate(self, code: str, argument: object = None) -> Any:
        """What the body of a function of ``(chandelier, argument, kept, require)`` returns.

        Raises:
            JavaScriptError: If it throws.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"code": code, "argument": argument}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"Node ended with {self.process.wait(timeout=20)}"
        answer = json.loads(line, object_hook=array)
        if "message" in answer:
            assert answer["isError"], f"no Error was thrown, but {answer['message']!r}"
            raise JavaScriptError(answer["name"], answer["message"])
        return answer.get("result")


def array(found: dict[str, Any]) -> Any:
    """A typed array as numpy's; other objects as they are."""
    if found.keys() != {"type", "base64"}:
        return found
    return np.frombuffer(base64.b64decode(found["base64"]), DTYPES[found["type"]])


def multivectors(parts: dict[str, Any]) -> MultiVectors:
    """What `kept.rows` gave."""
    return MultiVectors(parts["data"].reshape(-1, parts["dim"]), parts["offsets"].astype(np.int64))
