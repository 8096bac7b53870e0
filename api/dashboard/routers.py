"""Every page of the dashboard."""

from fastapi import APIRouter

from api.dashboard import static_files
from api.dashboard.routes import compare, datasets, job, job_list, keys, models, new_job, overview, sign_in, webhooks

ROUTERS: tuple[APIRouter, ...] = (
    overview.router,
    sign_in.router,
    job_list.router,
    job.router,
    new_job.router,
    compare.router,
    models.router,
    datasets.router,
    keys.router,
    webhooks.router,
    static_files.router,
)
