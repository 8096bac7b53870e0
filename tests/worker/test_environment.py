from pathlib import Path

from worker.environment import child_environment


def test_only_the_allowlist_is_passed_on() -> None:
    given = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "AWS_SECRET_ACCESS_KEY": "x", "HF_TOKEN": "x", "HOME": "/root"}
    environment = child_environment(given, Path("/scratch/home"), None)
    assert (environment["PATH"], environment["CUDA_VISIBLE_DEVICES"]) == ("/bin", "1")
    assert (environment["HOME"], environment["TMPDIR"]) == ("/scratch/home", "/scratch/home")
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} & environment.keys()


def test_threads_are_set_only_when_said() -> None:
    home = Path("/scratch/home")
    assert child_environment({"OMP_NUM_THREADS": "2"}, home, None)["OMP_NUM_THREADS"] == "2"
    assert child_environment({"OMP_NUM_THREADS": "2"}, home, 4)["OMP_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in child_environment({}, home, None)


def test_threads_sleep_at_barriers_unless_told_to_spin() -> None:
    home = Path("/scratch/home")
    assert child_environment({}, home, None)["OMP_WAIT_POLICY"] == "PASSIVE"
    assert child_environment({"OMP_WAIT_POLICY": "ACTIVE"}, home, None)["OMP_WAIT_POLICY"] == "ACTIVE"
