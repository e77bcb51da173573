"""A short run of training with Prometheus beside it, and leases on the same Ray."""

from __future__ import annotations

import functools
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import pytest
import ray
from rich.console import Console

from raygym.errors import LeaseHeld
from raygym.leases.protocols import Want
from raygym.service.leased import leased_backend_on_ray
from raygym.service.metrics.specs import SPECS
from raygym.service.ray_registry import RayRegistry
from raygym.service.reports import ActorReport
from raygym.training.config import TrainConfig
from raygym.training.trainer import StopFlag, Trainer, train
from tests.support.dashboard import MONITORING, queries
from tests.support.directory_store import DirectoryStore
from tests.support.node_keepers import living
from tests.support.process_tree import command, descendants
from tests.support.prometheus import Prometheus, prometheus, promtool
from tests.support.small_ray import small_ray

pytestmark = [pytest.mark.timeout(420), pytest.mark.alone]

CLUSTER = "test-metrics"
ENV = "gym-core.CartPole-v1"
NUM_SLOTS = 2
MOST_MINUTES = 4.0
STEPS_BEFORE, STEPS_AFTER = 100, 500
SEEN_S = 60.0
DISCOVERY = "/tmp/ray/prom_metrics_service_discovery*.json"


@dataclass(frozen=True)
class Run:
    """What was seen of the run."""

    prometheus: Prometheus
    summary: dict[str, Any]
    while_playing_s: float
    """When slots still played, in unix seconds."""

    def total(self, name: str, more: str = "") -> float:
        """Returns the sum of a metric of the run, of series with more tags."""
        (value,) = self.prometheus.values(f'sum({name}{{run="a-run"{more}}})')
        return value


@pytest.fixture(scope="module")
def metrics_address() -> Iterator[str]:
    """Starts a Ray that hands metrics on often; yields where it serves them."""
    with pytest.MonkeyPatch.context() as patch:
        # A gauge goes after two intervals without news; a keeper looks each 3 s.
        patch.setenv("RAY_metrics_report_interval_ms", "3000")
        patch.setenv("RAYGYM_CLUSTER", CLUSTER)
        with small_ray():
            (node,) = ray.nodes()
            yield f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


class KillsARemote:
    """Kills the Remote of slot 0 once it has played, and ends the run a while after.

    Args:
        note: What the trainer does with a report.
        stop: Ends the run.
    """

    def __init__(self, note: Callable[[Trainer, Any], None], stop: StopFlag) -> None:
        self._note = note
        self._stop = stop
        self._steps = 0
        self._is_killed = False

    def __call__(self, trainer: Trainer, report: ActorReport) -> None:
        """Stands in for ``Trainer._note``."""
        self._note(trainer, report)
        if report.sampler.slot != 0:
            return
        self._steps += report.sampler.steps
        if not self._is_killed and self._steps >= STEPS_BEFORE:
            (host,) = [pid for pid in descendants(report.pid) if "raygym.runtimes" in command(pid)]
            os.kill(host, signal.SIGKILL)
            self._is_killed, self._steps = True, 0
        elif self._is_killed and self._steps >= STEPS_AFTER:
            self._stop.request()


@pytest.fixture(scope="module")
def run(metrics_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Plays for a while with Prometheus beside it; it lives as long as the tests."""
    directory = tmp_path_factory.mktemp("prometheus")
    with prometheus(_config(directory, metrics_address), directory) as server:
        _play_with_leases(tmp_path_factory.mktemp("containers"))
        stop = StopFlag()
        kills = KillsARemote(Trainer._note, stop)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_note", lambda trainer, report: kills(trainer, report))
            summary = train(
                TrainConfig(
                    env=ENV,
                    mode="realtime",
                    backend="process",
                    minutes=MOST_MINUTES,
                    workers=NUM_SLOTS,
                    logdir=tmp_path_factory.mktemp("logdir") / "a-run",
                ),
                console=Console(file=io.StringIO()),
                stop=stop,
            )
        over_s = time.time()
        steps = "sum(rate(ray_raygym_env_steps_total[15s]))"
        seen = f'sum(ray_raygym_slots{{state="running"}}) and {steps}'
        playing = [back_s for back_s in range(1, 90) if server.values(seen, at_s=over_s - back_s)]
        yield Run(server, summary, over_s - min(playing) - 1)


def _config(directory: Path, metrics_address: str) -> Path:
    """Writes our configuration with Ray's pace here, and its address."""
    discovery = directory / "discovery.json"
    discovery.write_text(f'[{{"labels": {{"job": "ray"}}, "targets": ["{metrics_address}"]}}]')
    text = (MONITORING / "prometheus" / "prometheus.yml").read_text()
    assert DISCOVERY in text
    text = text.replace(DISCOVERY, str(discovery)).replace("_interval: 10s", "_interval: 3s")
    (directory / "alerts.yml").write_text((MONITORING / "prometheus" / "alerts.yml").read_text())
    config = directory / "prometheus.yml"
    config.write_text(text)
    promtool("check", "config", str(config))
    return config


def _play_with_leases(root: Path) -> None:
    """Holds a lease, is refused one, and lets one run out whose container the keeper finds."""
    make_store = functools.partial(DirectoryStore, root)
    backend = leased_backend_on_ray(make_store, keep_s=30.0)
    remote = backend.start("flashgames", client_id="held")
    registry = RayRegistry(make_store, cluster=CLUSTER)
    node = ray.get_runtime_context().get_node_id()
    # A process that surely lives: the parent of all.
    rival = replace(living(node), pid=1, started_ticks=0)
    want = Want(client_id="held", runtime="flashgames", holder=rival)
    with pytest.raises(LeaseHeld):
        registry.grant(want)
    lost = registry.grant(replace(want, client_id="lost", ttl_s=0.2))
    DirectoryStore(root).create(
        "r-stray",
        "flashgames",
        client_id="stray",
        variant=(),
        cluster=CLUSTER,
        lease=replace(lost.as_file(), expires_unix_s=time.time() - 60),
    )
    backend.release(remote.id)
    backend.close()


def _await_names(run: Run) -> set[str]:
    """Returns our names once all of the page are there, or as they are when time is up."""
    documented = {spec.exported for spec in SPECS.values()}
    deadline_s = time.monotonic() + SEEN_S
    while True:
        names = {n for n in run.prometheus.metric_names() if n.startswith("ray_raygym_")}
        if names >= documented or time.monotonic() > deadline_s:
            return names
        time.sleep(0.2)


def test_a_live_run_has_every_documented_name_and_no_other(run: Run) -> None:
    assert _await_names(run) == {spec.exported for spec in SPECS.values()}


def test_each_series_has_the_documented_tags(run: Run) -> None:
    of_ray = {"WorkerId", "NodeAddress", "SessionName", "Version", "Component", "job", "instance"}
    for spec in SPECS.values():
        found = run.prometheus.get("series", **{"match[]": spec.exported})
        assert found, spec.name
        for series in found:
            own = {tag for tag in series if tag not in of_ray and not tag.startswith("otel_")}
            assert own - {"__name__"} == set(spec.tags), spec.name
            assert {"WorkerId", "NodeAddress"} <= set(series)


@pytest.mark.parametrize(
    ("title", "query"),
    [pytest.param(*one, id=f"{n}-{one[0]}") for n, one in enumerate(queries(rate_interval="15s"))],
)
def test_a_panel_of_the_dashboard_has_data_while_slots_play(
    run: Run, title: str, query: str
) -> None:
    assert run.prometheus.values(query, at_s=run.while_playing_s), query


def test_the_counters_agree_with_the_summary_of_the_run(run: Run) -> None:
    # An actor's last seconds may reach Prometheus and not the summary, or the other way round.
    steps, episodes = run.summary["env_steps_this_run"], run.summary["episodes"]
    assert steps / 3 < run.total("ray_raygym_env_steps_total") < 3 * steps
    assert episodes / 3 < run.total("ray_raygym_episodes_total") < 3 * episodes
    # CartPole gives 1.0 a step.
    assert 0 < run.total("ray_raygym_score_gained_total") < 3 * steps
    assert run.total("ray_raygym_fabricated_zeros_total") == 0
    lags = run.total("ray_raygym_reaction_time_count_total")
    assert run.total("ray_raygym_reaction_time_bucket_total", ',le="+Inf"') == lags > 0


def test_the_remote_that_was_killed_is_a_relaunch_by_its_cause(run: Run) -> None:
    assert run.summary["remotes"] == {"started": NUM_SLOTS + 1, "lost": 1}
    assert run.total("ray_raygym_claim_latency_count_total") == NUM_SLOTS + 1
    assert run.total("ray_raygym_relaunches_total") == 1
    assert run.total("ray_raygym_relaunches_total", ',cause="infra_failure"') == 1
    # Between two episodes there is none that it could have ended.
    cut = run.total("ray_raygym_episodes_total", ',slot="0",outcome="infra_failure"')
    assert cut == run.summary["outcomes"].get("infra_failure", 0) <= 1


def test_all_alert_rules_can_be_evaluated_and_no_zero_was_fabricated(run: Run) -> None:
    (group,) = run.prometheus.get("rules")["groups"]
    assert {rule["name"]: rule["health"] for rule in group["rules"]} == {
        rule["name"]: "ok" for rule in group["rules"]
    }
    states = {rule["name"]: rule["state"] for rule in group["rules"]}
    assert states["RaygymFabricatedZeros"] == "inactive"
    assert len(states) == 9


def test_leases_are_granted_refused_and_run_out_and_no_orphan_stays(run: Run) -> None:
    def value(query: str) -> float:
        return sum(run.prometheus.values(query))

    run.prometheus.await_true(
        lambda: (
            value("ray_raygym_leases_expired_total") >= 1 and value("ray_raygym_reaped_total") >= 1
        ),
        "a lease ran out, and what no lease names was removed",
        timeout_s=SEEN_S,
    )
    assert value('ray_raygym_lease_grants_total{how="new"}') == 2
    assert value('ray_raygym_lease_refusals_total{why="LeaseHeld"}') == 1
    run.prometheus.await_true(
        lambda: value("ray_raygym_orphans") == 0, "no orphan is left", timeout_s=SEEN_S
    )


def test_rays_file_of_nodes_is_where_our_configuration_reads_it() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    pattern = Path(DISCOVERY)
    assert pattern.parent.is_dir(), "Ray has run on this machine"
    assert PurePath(PROMETHEUS_SERVICE_DISCOVERY_FILE).match(pattern.name)
