"""What a command says by its exit code."""

DONE, ATTENTION, FAILED, WRONG_USAGE, LOCKED = range(5)
"""Done; done, but needs attention; failed; wrong configuration or usage; another run holds the lock."""
