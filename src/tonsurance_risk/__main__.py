"""``python -m tonsurance_risk`` is the command line."""

from tonsurance_risk.cli import main

main()
