"""`python -m loadtest.bench`: pgfunnel and PgBouncer side by side on one Postgres.

A measurement, not a test: it says what each proxy costs on this machine, and by how much the
two differ. See docs/bench.md.
"""


class BenchError(Exception):
    """The bench cannot go on; the message says why and what to change."""
