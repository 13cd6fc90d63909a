import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from feature_repo.atomic import exclusively, replace_text
from tests.child import child


def test_a_replaced_file_leaves_nothing_else_behind(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    replace_text(path, "old")
    replace_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_process_waits_for_the_lock(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from feature_repo.atomic import exclusively\n"
        "print('asks', flush=True)\n"
        "with exclusively(Path(sys.argv[1])): print(Path(sys.argv[2]).read_text(), flush=True)"
    )
    lock, note = tmp_path / ".lock", tmp_path / "note"
    command = [sys.executable, "-c", script, str(lock), str(note)]
    with ExitStack() as ending:
        with exclusively(lock):
            note.write_text("unfinished")
            other = ending.enter_context(child(command, stdout=subprocess.PIPE, text=True))
            assert other.stdout.readline() == "asks\n"
            note.write_text("finished")
        assert other.communicate(timeout=60)[0] == "finished\n"
