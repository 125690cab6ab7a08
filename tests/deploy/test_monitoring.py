"""The dashboard asks for figures that the pipeline gives."""

import inspect
import json
import re
from pathlib import Path

from workers.insight import metrics

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"


def test_every_panel_asks_for_a_figure_that_there_is():
    dashboard = json.loads((FOLDER / "grafana" / "inception.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    names = {name for expr in asked for name in re.findall(r"inception_(\w+)", expr)}
    source = inspect.getsource(metrics.metrics)
    assert names == {name for name in names if f'"{name}"' in source}
    assert len(names) >= 5


def test_prometheus_asks_the_service_of_the_compose_file_on_its_port():
    assert 'targets: ["metrics:9464"]' in (FOLDER / "prometheus.yml").read_text()
    from workers.commands import computing

    default = inspect.signature(computing.metrics).parameters["port"].default
    assert default == 9464
