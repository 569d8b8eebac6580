"""A store is open until it is closed."""

from __future__ import annotations

from typing import Self

from tonsurance_risk.errors import StorageError


class OpenStore:
    """What is left of a store when its contents are taken away: being open, and being closed."""

    _is_open = True

    def close(self) -> None:
        """Release files and connections; may be called again."""
        self._is_open = False

    def _refuse_closed(self) -> None:
        if not self._is_open:
            raise StorageError("this store is closed; open it again with open_store")

    def __enter__(self) -> Self:
        self._refuse_closed()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()
