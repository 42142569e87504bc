"""A randomized test of sessions: many clients, each with a model of what its own session holds.

`python -m tests.sessions --help` runs it by hand; tests/integration/test_sessions.py in the suite.
"""
