"""`scalpel webhooks`: who is told when jobs end, and what became of the messages."""

from typing import Annotated

import typer

from cli.exits import EPILOG
from cli.listing import Json, print_json, print_rows, tell
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect

COLUMNS = ("id", "url", "events", "is_enabled", "failing_since", "description")
LOG_COLUMNS = (
    "id",
    "type",
    "job_id",
    "state",
    "attempt",
    "status_code",
    "latency_s",
    "attempted_at",
    "next_attempt_at",
    "error",
)
ONCE = "its messages are signed with this secret, which is shown once"

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK_ID", help="The webhook, as the list shows it.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="https://...; it must be public.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="job.succeeded, job.failed, job.cancelled or job.paused; repeat it. Default: all."),
]
Description = Annotated[str, typer.Option("--description", help="A word to know it by.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]

webhooks = typer.Typer(help="Have an address told when jobs end.", no_args_is_help=True, epilog=EPILOG)


@webhooks.command("list", epilog=EPILOG)
def list_webhooks(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the webhooks, the newest first."""
    with connect(url, data_dir) as service:
        found = service.webhooks.list()
    rows = [webhook.model_dump(mode="json" if is_json else "python") for webhook in found]
    print_rows(rows, COLUMNS, is_json=is_json, if_none="no webhooks")


@webhooks.command("add", epilog=EPILOG)
def add(
    address: Address,
    event: Events = None,
    description: Description = "",
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Add a webhook; the secret that signs its messages goes to stdout, once."""
    with connect(url, data_dir) as service:
        made = service.webhooks.create(address, event, description=description)
    if is_json:
        print_json(made.model_dump(mode="json"))
    else:
        typer.echo(made.secret)
        typer.echo(f"{made.id}: {ONCE}", err=True)


@webhooks.command("remove", epilog=EPILOG)
def remove(webhook_id: WebhookId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Remove a webhook and its log."""
    with connect(url, data_dir) as service:
        gone = service.webhooks.delete(webhook_id)
    tell(gone.model_dump(mode="json"), f"{gone.id} ({gone.url}) is removed", is_json=is_json)


@webhooks.command("deliveries", epilog=EPILOG)
def deliveries(
    webhook_id: WebhookId,
    limit: Limit = 20,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show a webhook's messages, the newest first, and what came of each."""
    from itertools import islice

    with connect(url, data_dir) as service:
        found = list(islice(service.webhooks.deliveries(webhook_id, page_size=min(limit, 200)), limit))
    rows = [delivery.model_dump(mode="json" if is_json else "python") for delivery in found]
    print_rows(rows, LOG_COLUMNS, is_json=is_json, if_none="no deliveries")


@webhooks.command("test", epilog=EPILOG)
def test(webhook_id: WebhookId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Send a webhook a message that tells of nothing."""
    with connect(url, data_dir) as service:
        sent = service.webhooks.test(webhook_id)
    words = f"{sent.id} is on its way; `scalpel webhooks deliveries {webhook_id}` tells what came of it"
    tell(sent.model_dump(mode="json"), words, is_json=is_json)
