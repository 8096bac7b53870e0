"""`scalpel maintain`: the service's housekeeping as a process of its own."""

from cli.environment import log_to_stderr, process_settings


def maintain() -> None:
    """Ring for queued jobs and bring back lost ones, until SIGTERM. Several do no harm. `scalpel serve` does it by itself."""
    import signal
    import threading

    from jobs.housekeeping.maintain import run

    settings, stop = process_settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log_to_stderr()
    run(settings, stop)
