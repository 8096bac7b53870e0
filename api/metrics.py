"""What Prometheus scrapes: figures of the database, made at each scrape, and this process's own requests."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobs.database import Sessions
from jobs.settings import Settings
from jobs.watching.figures import Figures, figures
from jobs.watching.presence import WorkerStatus, workers

REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
WORKER_STATES = ("idle", "busy", "draining", "lost")


class HttpMetrics:
    """Of the requests that this process answered; each API process is scraped by itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "scalpel_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "scalpel_http_request_seconds",
            "Until the answer began.",
            ("method", "route"),
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)


class DatabaseCollector(Collector):
    """Figures of the whole service; every API process gives the same."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self._sessions, self._settings = sessions, settings

    def collect(self) -> Iterable[Metric]:
        with self._sessions() as session:
            found = figures(session, self._settings.lease_s)
            known = workers(session, self._settings.worker_lost_s)
        yield from _job_metrics(found)
        yield from _worker_metrics(known)


def _job_metrics(found: Figures) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("scalpel_jobs", "Jobs by state.", labels=("state",))
    for state, count in found.jobs.items():
        jobs.add_metric((state.value,), count)
    yield jobs
    ages = GaugeMetricFamily(
        "scalpel_queue_oldest_age_seconds", "For how long the first in the queue has been due.", labels=("need",)
    )
    for need, age_s in found.oldest_age_s.items():
        ages.add_metric((need,), age_s)
    yield ages
    yield GaugeMetricFamily(
        "scalpel_lease_age_seconds", "Since the renewal of the lease that was renewed longest ago.", value=found.lease_age_s
    )
    finished = CounterMetricFamily("scalpel_jobs_finished", "Jobs that have ended.", labels=("outcome",))
    for outcome, total in found.finished.items():
        finished.add_metric((outcome,), total)
    yield finished
    stages = HistogramMetricFamily("scalpel_stage_seconds", "Stages of jobs that have ended.", labels=("stage",))
    for stage, times in found.stages.items():
        stages.add_metric((stage,), times.buckets, times.sum_s)
    yield stages


def _worker_metrics(known: Sequence[WorkerStatus]) -> Iterator[Metric]:
    states = GaugeMetricFamily("scalpel_workers", "Workers by state.", labels=("state",))
    for state in WORKER_STATES:
        states.add_metric((state,), sum(status.state == state for status in known))
    yield states
    memory = GaugeMetricFamily(
        "scalpel_device_memory_bytes", "Of each device, as built in.", labels=("host", "worker", "device")
    )
    for status in known:
        for slot in status.slots:
            if slot.memory_bytes is not None and status.state != "lost":
                memory.add_metric((status.worker.host, status.worker.id, slot.device), slot.memory_bytes)
    yield memory
