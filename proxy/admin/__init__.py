"""The console: the database `pgbouncer`, where operators look and give commands.

Names, columns and messages are those of PgBouncer 1.25's documentation (usage.md).
"""

from proxy.admin.console import Console, Program, Shutdown

__all__ = ["Console", "Program", "Shutdown"]
