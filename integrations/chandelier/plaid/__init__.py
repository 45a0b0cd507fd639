"""`PlaidStore`: PLAID in this process, over an index that is quantised and mapped from disk, and documents in SQLite.

It needs no extra: import it from here.
"""

from chandelier.plaid.store import PlaidStore

__all__ = ["PlaidStore"]
