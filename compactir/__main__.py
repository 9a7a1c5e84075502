"""`python -m compactir` and the command `compactc`.

The command line is imported inside the guard, so that Ctrl-C while modules load ends as quietly as later.
"""

import sys

INTERRUPTED = 130


def main() -> int:
    """Run the command of this process; returns its exit code."""
    try:
        from compactir import cli

        return cli.main()
    except KeyboardInterrupt:  # before `cli.main` began, or after it ended
        print("interrupted: nothing was left half-written", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
