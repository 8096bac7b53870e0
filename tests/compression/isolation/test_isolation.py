"""Isolation seen from inside: real programs, started as runners are, that try what they must not be able to do."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from compression.isolation import PACKAGES, Reach, evidence, isolated
from compression.isolation.landlock import Landlock
from compression.isolation.libc import syscall


def has_landlock() -> bool:
    try:
        return syscall(444, None, 0, 1) >= 1
    except OSError:
        return False


needs_landlock = pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


ALONE = Reach()


def run(program: str, reach: Reach = ALONE) -> subprocess.CompletedProcess[str]:
    command = isolated((sys.executable, "-c", program), reach)
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(PACKAGES)}, cwd="/", check=False)


def said(program: str, reach: Reach = ALONE) -> str:
    done = run(program, reach)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_exit_code_output_and_process_number_are_the_command_s() -> None:
    program = "import os; print(os.getpid(), flush=True); raise SystemExit(7)"
    with subprocess.Popen(isolated((sys.executable, "-c", program), Reach()), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read() == f"{process.pid}\n"
    assert process.returncode == 7


def test_a_listening_port_of_this_host_is_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.0)
        port = server.getsockname()[1]
        done = run(f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)")
        assert done.returncode == 1
        assert "OSError" in done.stderr or "PermissionError" in done.stderr
        with pytest.raises(BlockingIOError):
            server.accept()


def test_evidence_names_what_is_in_force() -> None:
    found = said("from compression.isolation.evidence import in_force; print('|'.join(in_force()))").split("|")
    assert evidence.NO_NEW_PRIVILEGES in found
    assert evidence.NO_NETWORK in found or evidence.NO_TCP in found
    if has_landlock():
        assert {evidence.FEW_FILES, evidence.BLIND} <= set(found)


def test_evidence_claims_nothing_without_isolation() -> None:
    program = "from compression.isolation.evidence import in_force; print(in_force())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGES, check=True)
    assert not {evidence.NO_NETWORK, evidence.NO_TCP, evidence.FEW_FILES, evidence.OTHER_USER} & {*eval(done.stdout)}


def test_no_core_is_dumped() -> None:
    assert said("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))") == "(0, 0)"


def test_isolation_within_isolation_holds_as_well(tmp_path: Path) -> None:
    """A runner that renders a chat template."""
    program = f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}; "
    program += "from compression.chat import render_chat; print(render_chat([{'role': 'user'}], '{{ messages[0].role }}'))"
    reach = Reach(write=(tmp_path,))
    assert said(program, reach) == "user"
    assert (
        "InvalidTemplate" in run(program.replace("messages[0].role", "''.__class__.__mro__[1].__subclasses__()"), reach).stderr
    )


@needs_root
def test_root_keeps_its_rights_over_files_alone() -> None:
    assert said("from compression.isolation.capabilities import effective; print(effective() & ~0b1111)") == "0"


@needs_landlock
class TestFiles:
    def test_only_what_is_named_is_read(self, tmp_path: Path) -> None:
        for name in ("named", "other"):
            (tmp_path / name).write_text(name)
        reach = Reach(read=(tmp_path / "named",))
        assert said(f"print(open({str(tmp_path / 'named')!r}).read())", reach) == "named"
        assert "PermissionError" in run(f"open({str(tmp_path / 'other')!r})", reach).stderr
        assert "PermissionError" in run(f"open({str(tmp_path / 'named')!r}, 'a')", reach).stderr

    def test_only_named_folders_are_written(self, tmp_path: Path) -> None:
        inside, outside = tmp_path / "inside", tmp_path / "outside"
        inside.mkdir()
        outside.mkdir()
        work = f"import os; os.makedirs({str(inside / 'a')!r}); open({str(inside / 'f')!r}, 'w').write('x')"
        move = f"; os.rename({str(inside / 'f')!r}, {str(inside / 'a' / 'g')!r}); os.truncate({str(inside / 'a' / 'g')!r}, 0)"
        said(work + move, Reach(write=(inside,)))
        assert (inside / "a" / "g").read_text() == ""
        leave = f"import os; os.rename({str(inside / 'a')!r}, {str(outside / 'a')!r})"
        assert run(leave, Reach(write=(inside,))).returncode == 1
        assert list(outside.iterdir()) == []

    def test_what_it_wrote_is_not_executed(self, tmp_path: Path) -> None:
        program = (
            f"import os, shutil; shutil.copy('/bin/true', {str(tmp_path / 't')!r}); os.execv({str(tmp_path / 't')!r}, ['t'])"
        )
        assert "PermissionError" in run(program, Reach(write=(tmp_path,))).stderr

    def test_a_link_gives_no_way_out(self, tmp_path: Path) -> None:
        secret, folder = tmp_path / "secret", tmp_path / "folder"
        secret.write_text("x")
        folder.mkdir()
        program = f"import os; os.symlink({str(secret)!r}, {str(folder / 'l')!r}); open({str(folder / 'l')!r})"
        assert "PermissionError" in run(program, Reach(write=(folder,))).stderr

    def test_password_hashes_are_out_of_reach(self) -> None:
        assert "PermissionError" in run("open('/etc/shadow')").stderr

    def test_the_environment_of_its_parent_is_out_of_reach(self) -> None:
        assert "PermissionError" in run("import os; open(f'/proc/{os.getppid()}/environ').read()").stderr

    def test_paths_that_are_not_there_are_left_out(self, tmp_path: Path) -> None:
        Landlock([], ["/no/such/path"], [str(tmp_path / "neither")])


NAMES_A_THREAD = "open(f'/proc/self/task/{threading.get_native_id()}/comm', 'w').write('named')"
NAMES_THREADS = f"""
import subprocess, sys, threading
thread = threading.Thread(target=lambda: {NAMES_A_THREAD})
thread.start()
thread.join()
print(open('/proc/self/comm').read().strip(), flush=True)
subprocess.run([sys.executable, '-c', "import threading; {NAMES_A_THREAD}; print('child named')"], check=True)
"""


@needs_landlock
class TestNamingThreads:
    """As CUDA's driver does."""

    def test_threads_of_the_command_and_of_what_it_starts_are_named(self) -> None:
        assert said(NAMES_THREADS, Reach(names_threads=True)).splitlines()[-1] == "child named"

    def test_nothing_is_named_otherwise(self) -> None:
        assert "PermissionError" in run(f"import threading; {NAMES_A_THREAD}").stderr

    @pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness"])
    def test_the_kernel_s_switches_stay_as_they_are(self, path: str) -> None:
        failed = run(f"open({path!r}, 'w')", Reach(names_threads=True))
        assert failed.returncode == 1
        assert "PermissionError" in failed.stderr or "Read-only file system" in failed.stderr

    def test_the_supervisor_s_memory_stays_out_of_reach(self) -> None:
        assert run(f"open('/proc/{os.getpid()}/mem', 'r+b')", Reach(names_threads=True)).returncode == 1

    def test_no_entry_is_made_or_removed(self, tmp_path: Path) -> None:
        assert "PermissionError" in run(f"open({str(tmp_path / 'new')!r}, 'w')", Reach(names_threads=True)).stderr


@needs_root
class TestUser:
    def test_the_command_runs_as_the_named_user(self) -> None:
        done = subprocess.run(
            isolated(("/usr/bin/id", "-u"), Reach(user="nobody")), capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "65534"

    def test_nothing_runs_when_the_user_is_not_there(self, tmp_path: Path) -> None:
        command = isolated(("/bin/sh", "-c", f"echo > {tmp_path / 'ran'}"), Reach(write=(tmp_path,), user="no-such-user"))
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
        assert list(tmp_path.iterdir()) == []
