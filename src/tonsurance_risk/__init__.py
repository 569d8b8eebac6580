"""Risk of stablecoin depeg cover: prices, depegs, correlation, simulated losses and a daily report.

Importing it starts nothing and loads nothing: a public name is loaded from its module when it is first used. The
list of names is ``__init__.pyi``. Price sources are in `tonsurance_risk.sources`, stores in
`tonsurance_risk.storage`, errors in `tonsurance_risk.errors`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
