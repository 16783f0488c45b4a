#!/usr/bin/env python3
"""Holds an S3 server to what Amazon documents of S3.

usage: conformance.py ENDPOINT ACCESS_KEY SECRET_KEY [REGION]     needs: pip install 'boto3[crt]'

Prints one line per check: `OK`, a tab and its name, or `NO`, a tab, its name, a tab and what was seen instead.
The server should thaw objects within a few seconds. Checks build on what those before them stored.
"""
import sys

sys.dont_write_bytecode = True

if len(sys.argv) < 4:
    sys.exit(__doc__)

# Each module adds its checks, in the order in which they run.
from checks import storing, reading  # noqa: E402, F401
from checks.common import CHECKS, reason  # noqa: E402


def main():
    failed = 0
    for name, function in CHECKS:
        try:
            function()
            print(f"OK\t{name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"NO\t{name}\t{reason(error)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
