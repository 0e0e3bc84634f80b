"""The control socket: sessions, roles and commands."""
