"""Names the settings in the chart's schema: `python -m tests.deploy.chart_schema`."""

from __future__ import annotations

import json

from proxy.settings import Settings
from tests.deploy.ecosystem import DEPLOY

SCHEMA = DEPLOY / "helm" / "pgfunnel" / "values.schema.json"
_BY_THE_CHART = {
    "upstream",
    "auth_file",
    "listen_addr",
    "listen_port",
    "http_addr",
    "http_port",
    "default_pool_size",
    "max_db_connections",
    "drain_timeout",
}


def current() -> str:
    """The schema as it must be: every setting that the chart does not set itself."""
    schema = json.loads(SCHEMA.read_text())
    names = sorted(Settings.model_fields.keys() - _BY_THE_CHART)
    schema["properties"]["settings"]["propertyNames"] = {"enum": names}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(current())
