"""Flask's commands for an operator: `flask cache ...`."""
