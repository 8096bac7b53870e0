"""Takes jobs and sees them through: the Celery side, the supervisor of one attempt, and the runner that is its child."""
