"""What may be wrong with an installation, a machine, a config and what it calls: one function a check, and a report."""
