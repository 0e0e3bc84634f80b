"""plugctl: the command-line client of plugd."""
