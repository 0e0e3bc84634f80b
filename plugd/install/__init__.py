"""``plugd install`` and ``plugd uninstall``: a systemd service of a plugd that pip or pipx has installed."""
