"""The daemon's side of a plugin: its worker process, its supervisor, the registry of all."""
