"""plugd: a host-metrics daemon whose plugins run in processes of their own."""

__version__ = "0.1.0"
