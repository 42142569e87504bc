"""Programs that put load on pgfunnel: the bench against PgBouncer and the load tests."""
