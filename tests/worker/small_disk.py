"""Works one job off whose store lies on a disk that is too small, gives it more room, and works the next one off.

A program, since the disk is mounted in a namespace of its own. Not a test. Arguments: a folder, and the disk's folder.
Prints one document: what became of both jobs, and what lay in the store when the first had ended.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

from jobs import database, repository
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from worker.attempt import Host
from worker.supervisor import Supervisor

SCRIPT = Path(__file__).with_name("greedy_runner.py")
TOO_SMALL, LARGE_ENOUGH = "size=70m", "size=300m"  # what the job publishes takes 100 MiB


def main(folder: Path, disk: Path) -> None:
    mount(disk, TOO_SMALL)
    model = folder / "models" / "tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    settings = Settings(
        data_dir=folder / "data", artifact_url=disk.as_uri(), model_roots=(model.parent,), device="cpu", retry_delay_s=0.0
    )
    database.migrate(settings)
    engine = database.engine(settings)
    sessions = database.sessions(engine)
    # Isolated, it reads what its command names: also the script that it imports from.
    command = (sys.executable, str(SCRIPT), "publish-much", str(SCRIPT.with_name("scripted_runner.py")))
    host = Host(settings, sessions, artifact_store(settings), {}, threading.Event(), command)
    ended = []
    for option in (TOO_SMALL, LARGE_ENOUGH):
        mount(disk, f"remount,{option}")
        request = JobRequest.model_validate({"model": str(model), "recipe": {"sparsity": 0.5}})
        with sessions.begin() as session:
            job_id = repository.submit(session, LOCAL_TENANT_ID, request, check_request(request), max_attempts=2).id
        Supervisor(host).work_off()
        with sessions() as session:
            job = repository.find(session, job_id)
            ended.append(
                {"state": job.state, "error": job.error, "files": len(repository.artifacts(session, LOCAL_TENANT_ID, job_id))}
            )
        if option == TOO_SMALL:
            stored = {path.name: path.stat().st_size for path in disk.rglob("*") if path.is_file()}
    engine.dispose()
    scratch = [path.name for path in (settings.scratch_dir / "jobs").iterdir()]
    json.dump({"jobs": ended, "stored": stored, "scratch": scratch}, sys.stdout)


def mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
