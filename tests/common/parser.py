"""Parses command lines as the Python tool itself does: one JSON list of words per line in, one JSON answer per line out.

The answer is "help", "version", "error", or the values that argparse found. The definitions are taken from the real
module: its cli() is run until it asks for its arguments.
"""
import argparse
import io
import json
import sys
import contextlib

from cjnfuncs import resourcelock


class Captured(Exception):
    pass


class Refused(Exception):
    pass


def refuse(_):
    raise Refused


def definitions():
    """The parser that cli() builds. What it would print to explain itself takes most of its time, and is not made."""
    argparse._ = str  # no translations
    original = argparse.ArgumentParser.parse_args

    def capture(parser, *_):
        raise Captured(parser)

    argparse.ArgumentParser.parse_args = capture
    try:
        resourcelock.cli()
    except Captured as captured:
        (parser,) = captured.args
        parser.error = refuse
        parser.format_help = lambda: "usage:"
        return parser
    finally:
        argparse.ArgumentParser.parse_args = original


def read(parser, words):
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            found = vars(parser.parse_args(words))
    except SystemExit as end:
        if end.code:
            return "error"
        return "help" if printed.getvalue().startswith("usage:") else "version"
    except (Refused, ValueError):
        return "error"
    # Infinity and NaN are not JSON.
    return {key: repr(value) if isinstance(value, float) else value for key, value in found.items()}


parser = definitions()
for line in sys.stdin:
    print(json.dumps(read(parser, json.loads(line))))
