"""The command line, one module a group of commands; `program` has them all."""

from tonsurance_risk.cli.program import app, main, run

__all__ = ["app", "main", "run"]
