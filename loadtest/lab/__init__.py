"""The serverless lab: functions as they behave, a Postgres with 75 connections, three ways to it.

`loadtest/locustfile.py` is the load; `python -m loadtest.lab` runs the whole comparison and writes
its report. What runs inside Locust (`functions`, `behaviours`, `workloads`, `shapes`, `tally`)
knows nothing of what runs around it (`paths`, `generator`, `watch`, `comparison`, `report`).
"""

SCHEMA_NAME = "pgfunnel_lab"


class LabError(Exception):
    """The lab cannot go on; the message says why and what to change."""
