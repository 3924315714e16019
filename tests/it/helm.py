"""Renders deploy/helm with Helm itself: `helm.py VALUES`, the values as JSON, the manifests on standard output."""

import json
import sys

from helm_python import Chart

with Chart.load("deploy/helm") as chart:
    values = json.loads(sys.argv[1])
    rendered = chart.render(values, name="maint", namespace="data", is_install=True)
    print("\n---\n".join(text for _, text in sorted(rendered.items()) if text.strip()))
