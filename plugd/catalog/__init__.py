"""Which plugins exist and which may run."""
