"""Run the daemon: ``python -m plugd``."""

from plugd.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
