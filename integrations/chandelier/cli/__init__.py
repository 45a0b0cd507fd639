"""The command line: ``chandelier encode``, ``rerank``, ``explain``, ``index``, ``search`` and ``info``.

Results go to stdout, everything else to stderr, and both are UTF-8 whatever the locale. The exit code is 0 when the
work was done, 1 when it failed (one line on stderr says why), 2 for a wrong command line and 130 after Ctrl-C.

The engine is imported inside the commands, so that ``--help`` and usage errors do not pay for it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from chandelier.cli import commands, stores
from chandelier.cli.output import describe
from chandelier.cli.texts import STDIN, CommandError, json_type

__all__ = ["main"]

INPUT_HELP = """
Input is UTF-8: one text a line, or JSONL (one object a line with the text in a field). A FILE named *.jsonl or *.ndjson
is JSONL and everything else is text, unless --format says otherwise. An empty line of a text file is an empty text for
encode and is passed over by rerank and explain; a blank line of JSONL is skipped. Without FILE, or for the FILE "-",
standard input is read.
"""
INDEX_HELP = """
Input is UTF-8: JSONL (one object a line: an id, a text, and whatever else is known of it, which becomes metadata) or
one text a line, whose id is FILE:LINE and whose metadata are "file" and "line"; with --format whole each FILE is one
text, whose id is FILE. A FILE named *.jsonl or *.ndjson is JSONL and everything else is text, unless --format says
otherwise; standard input, which is read without FILE or for the FILE "-", is JSONL. An id is a string, or a whole
number, which becomes one: 7 and "7" are the same document. Fields of the metadata stand beside the text, in no object
of their own. Blank lines are passed over. Files are read bit by bit and may be larger than the memory.

A document replaces the one with the same id, so what was interrupted can be run again: nothing is lost or doubled. At
the first line that is not valid the work ends, when all before it is stored; --skip-bad goes on. The exit code is 1 if
a line was skipped or a document refused.
"""
SEARCH_HELP = """
A filter is a JSON object of fields of the metadata, all of which must fit: {"lang": "en", "year": {"$gte": 2020}}. It
knows $eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not, and author.name for a field in an object.
"""
KEY_HELP = """
The key of a server is taken from the environment variable QDRANT_API_KEY or WEAVIATE_API_KEY. A Weaviate is reached by
two ports: that of the URL, and --grpc-port.
"""
PLACES = {
    "store": (),
    "plaid": ("depth",),
    "qdrant": ("collection", "prefetch", "depth", "grpc", "grpc_port", "timeout"),
    "weaviate": ("collection", "muvera", "tenant", "depth", "grpc_port", "timeout"),
}
"""Where a store can be, and the options that go with it alone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments after the program name; those of the process by default.

    Returns:
        The exit code: 0 done, 1 failed, 130 interrupted.

    Raises:
        SystemExit: For a wrong command line (code 2), and after ``--help`` and ``--version`` (code 0).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A lone surrogate (a file name that is not UTF-8, an id in JSON escapes) then prints as its \udXXX escape,
            # which inside JSON is that very character.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return 130


def _run(arguments: argparse.Namespace) -> int:
    from chandelier.exceptions import ChandelierError

    code = 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            arguments.run(arguments)
        print(end="", flush=True)
    except BrokenPipeError:
        pass  # the reader, such as head, has had enough: that is no failure
    except (ChandelierError, CommandError, OSError) as error:
        print(f"chandelier: error: {describe(error)}", file=sys.stderr)
        code = 1
    try:
        print(end="", flush=True)
    except OSError:
        # What stdout did not take would fail once more when the interpreter flushes it at exit.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return code


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Prints a warning in one line: the line of code that Python writes below it says nothing to a reader."""
    print(f"chandelier: warning: {describe(Warning(message))}", file=sys.stderr)


class _Paragraphs(argparse.HelpFormatter):
    """Leaves paragraphs apart."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(super(_Paragraphs, self)._fill_text(each, width, indent) for each in paragraphs)


class _Version(argparse.Action):
    """Prints the installed version, looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"chandelier {version('chandelier')}")
        parser.exit()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="chandelier",
        description="Late-interaction (ColBERT) retrieval: encode texts, rank and explain documents, inspect models.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    parsers = {
        "encode": _encode_parser(subparsers),
        "rerank": _rerank_parser(subparsers),
        "explain": _explain_parser(subparsers),
        "index": _index_parser(subparsers),
        "search": _search_parser(subparsers),
        "info": _info_parser(subparsers),
    }
    command = parsers.get(argv[0]) if argv else None
    if command is None:
        return parser.parse_args(argv)
    # Through the outer parser, FILE could not follow an option: argparse then takes MODEL alone for "MODEL [FILE ...]".
    arguments = command.parse_intermixed_args(argv[1:])
    if getattr(arguments, "files", []).count(STDIN) > 1:
        command.error(f"standard input can be read only once, but {STDIN!r} is given more often")
    if place := next((name for name in PLACES if getattr(arguments, name, None) is not None), None):
        _check_options(command, arguments, place)
    return arguments


def _check_options(command: argparse.ArgumentParser, arguments: argparse.Namespace, place: str) -> None:
    """Refuses options of another place, and a server without a collection."""
    for option in dict.fromkeys(each for options in PLACES.values() for each in options):
        if option not in PLACES[place] and getattr(arguments, option, None):
            others = " and ".join(f"--{name}" for name, options in PLACES.items() if option in options)
            command.error(f"argument --{option.replace('_', '-')}: goes with {others}, not with --{place}")
    if "collection" in PLACES[place] and arguments.collection is None:
        command.error(f"argument --collection: --{place} needs the name of a collection")


def _encode_parser(subparsers: Any) -> argparse.ArgumentParser:
    about = "encode texts into one safetensors file of token vectors"
    parser = _command_parser(subparsers, "encode", commands.encode, about, epilog=INPUT_HELP)
    _add_input(parser)
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the safetensors file to write")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--queries", action="store_true", help="encode as queries instead of documents")
    _add_pooling(parser, kind)
    parser.add_argument("--prompt-name", type=_utf8, metavar="NAME", help="prepend this prompt of the checkpoint")
    parser.add_argument("--batch-tokens", type=_positive, metavar="N", help="tokens in one batch")
    _add_threads(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as a JSON object on stdout")
    return parser


def _rerank_parser(subparsers: Any) -> argparse.ArgumentParser:
    about = "score documents against a query and print them, best first"
    parser = _command_parser(subparsers, "rerank", commands.rerank, about, epilog=INPUT_HELP)
    _add_ranking(parser)
    parser.add_argument(
        "--json", action="store_true", help="print JSONL: rank, index (from 0), score, id if any, file, line, text"
    )
    return parser


def _explain_parser(subparsers: Any) -> argparse.ArgumentParser:
    about = "show which words of documents match a query"
    parser = _command_parser(subparsers, "explain", commands.explain, about, epilog=INPUT_HELP)
    _add_ranking(parser, top_k=3)
    parser.add_argument(
        "--html",
        type=_page,
        metavar="OUT",
        help="write a page instead of text; it needs nothing but a browser. With --json, write a page as well",
    )
    parser.add_argument("--json", action="store_true", help="print JSONL: as rerank, with matches and spans")
    return parser


def _index_parser(subparsers: Any) -> argparse.ArgumentParser:
    about = "store texts in a file, a folder or a server, to be searched"
    epilog = f"{INDEX_HELP}{KEY_HELP}"
    parser = _command_parser(subparsers, "index", stores.index, about, epilog=epilog)
    parser.set_defaults(stdin_is_jsonl=True)
    _add_input(parser, "whole")
    parser.add_argument("--id-field", type=_utf8, default="id", metavar="NAME", help="the field of ids (default: id)")
    parser.add_argument("--skip-bad", action="store_true", help="go on after a line that is not valid, and report it")
    _add_store(
        parser,
        "the file of the store, made if there is none",
        "a folder, made if there is none, with an index that finds candidates for MaxSim: for many documents. It is "
        "brought up to date at the end",
    )
    parser.add_argument(
        "--prefetch",
        choices=("muvera", "mean", "none"),
        help="how Qdrant finds candidates for MaxSim (default: as the collection does, none for a new one)",
    )
    parser.add_argument(
        "--muvera",
        action="store_true",
        help="have Weaviate find candidates by its MUVERA, much faster to store (default: as the collection does)",
    )
    _add_pooling(parser)
    _add_threads(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the report, with all ids, as a JSON object on stdout"
    )
    return parser


def _search_parser(subparsers: Any) -> argparse.ArgumentParser:
    about = "search a store and print the best documents"
    epilog = f"{SEARCH_HELP}{KEY_HELP}"
    parser = _command_parser(subparsers, "search", stores.search, about, epilog=epilog)
    parser.set_defaults(prefetch=None, muvera=None)
    parser.add_argument("--query", type=_utf8, metavar="TEXT", required=True, help="the query")
    _add_store(parser, "the file of the store", "the folder of a store with an index")
    parser.add_argument(
        "-k", "--top-k", type=_positive, metavar="N", default=10, help="take only the N best (default: 10)"
    )
    parser.add_argument("--filter", type=_json_object, metavar="JSON", help="what the metadata must be like")
    parser.add_argument(
        "--depth",
        type=_positive,
        metavar="N",
        help="candidates that are found for MaxSim (default: 200; 100 with --plaid; 50 for each row of the query in a "
        "plain Weaviate)",
    )
    parser.add_argument("--explain", action="store_true", help="show which words match")
    _add_threads(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSONL: rank, id, score, text, metadata; as explain does with --explain",
    )
    return parser


def _info_parser(subparsers: Any) -> argparse.ArgumentParser:
    about = "print what was read from a checkpoint, and from where"
    parser = _command_parser(subparsers, "info", commands.info, about)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _command_parser(subparsers: Any, name: str, run: Any, about: str, epilog: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=about, description=about, epilog=epilog, allow_abbrev=False, formatter_class=_Paragraphs
    )
    parser.set_defaults(run=run, threads=None)
    parser.add_argument("model", metavar="MODEL", help="the folder of the checkpoint, or its hub name")
    parser.add_argument("--revision", type=_utf8, metavar="NAME", help="branch, tag or commit of a hub model")
    parser.add_argument("--local-files-only", action="store_true", help="take a hub model from the cache, ask nobody")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8", "auto"),
        default="float32",
        help="what to compute in (default: float32, exact; auto: the fastest here that finds nearly the same)",
    )
    parser.add_argument("--from-bert", action="store_true", help="open a BERT-like model without a projection")
    return parser


def _add_input(parser: argparse.ArgumentParser, *formats: str) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help="text or JSONL files (default: standard input)")
    parser.add_argument(
        "--format", choices=("text", "jsonl", *formats), help="the format of every FILE (default: by its name)"
    )
    parser.add_argument("--field", type=_utf8, default="text", metavar="NAME", help="the JSONL field (default: text)")


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads to compute with, instead of CHANDELIER_THREADS or all cores",
    )


def _add_pooling(parser: argparse.ArgumentParser, group: Any = None) -> None:
    (group or parser).add_argument(
        "--pool-factor",
        type=_positive,
        metavar="N",
        default=1,
        help="merge similar rows: an index about N times smaller (default: 1, none)",
    )
    parser.add_argument(
        "--protected-tokens",
        type=_count,
        metavar="N",
        default=1,
        help="rows at the start that are not merged (default: 1)",
    )


def _add_store(parser: argparse.ArgumentParser, store: str, plaid: str) -> None:
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--store", metavar="FILE", help=store)
    place.add_argument("--plaid", metavar="DIR", help=plaid)
    place.add_argument("--qdrant", type=_url, metavar="URL", help="a Qdrant server, instead of a file")
    place.add_argument("--weaviate", type=_address, metavar="URL", help="a Weaviate server, instead of a file")
    parser.add_argument("--collection", type=_utf8, metavar="NAME", help="the collection on the server")
    parser.add_argument("--tenant", type=_utf8, metavar="NAME", help="whose documents, in a collection with tenants")
    parser.add_argument("--grpc", action="store_true", help="talk to Qdrant over gRPC, which is faster")
    parser.add_argument(
        "--grpc-port",
        type=_positive,
        metavar="N",
        help="the server's port for gRPC (default: 6334, or Weaviate's 50051)",
    )
    parser.add_argument("--timeout", type=_positive, metavar="SECONDS", help="wait so long for an answer (default: 60)")


def _add_ranking(parser: argparse.ArgumentParser, top_k: int | None = None) -> None:
    _add_input(parser)
    parser.add_argument("--query", type=_utf8, metavar="TEXT", required=True, help="the query")
    about = f"take only the N best (default: {top_k or 'all'})"
    parser.add_argument("-k", "--top-k", type=_positive, metavar="N", default=top_k, help=about)
    parser.add_argument("--query-prompt-name", type=_utf8, metavar="NAME", help="prepend this prompt to the query")
    parser.add_argument("--document-prompt-name", type=_utf8, metavar="NAME", help="prepend this one to documents")


def _positive(value: str) -> int:
    return _whole(value, 1)


def _count(value: str) -> int:
    return _whole(value, 0)


def _whole(value: str, least: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from {least}")
    return number


def _url(value: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        is_url = False
    if not is_url:
        raise argparse.ArgumentTypeError(f"{value!r} is no URL such as http://localhost:8080")
    if "@" in parts.netloc:
        raise argparse.ArgumentTypeError("a URL holds no key; set QDRANT_API_KEY or WEAVIATE_API_KEY")
    return value


def _address(value: str) -> str:
    """A URL of a server alone, which is all that Weaviate's client takes."""
    from urllib.parse import urlsplit

    parts = urlsplit(_url(value))
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{value!r} has more than a host and a port, such as http://localhost:8080")
    return value


def _json_object(value: str) -> dict[str, Any]:
    try:
        parsed = json.loads(_utf8(value))
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise argparse.ArgumentTypeError(f"{json_type(parsed)}, not a JSON object of fields")
    return parsed


def _page(value: str) -> str:
    if value == STDIN:
        raise argparse.ArgumentTypeError(f"a page is not written to standard output, which {value!r} stands for")
    return value


def _utf8(value: str) -> str:
    """Reads the bytes of an argument as UTF-8; Python has read them as the locale says."""
    try:
        return os.fsencode(value).decode()
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"{value!r} is not valid UTF-8") from None
