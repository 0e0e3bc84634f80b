"""Parsers for what command plugins print: bytes in, readings and faults out, nothing else touched."""
