"""Names cannot control the terminal, and streams that are closed or full do not end a run."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synergy.runtime.terminal.console import make_console, plain
from synergy.runtime.terminal.streams import print_line, safe_streams
from synergy.runtime.text import printable

ROOT = Path(__file__).resolve().parents[3]
EVIL = "a\x1b[31m\nerror: \u202eb\udcff\x00"
SHOWN = r"a\x1b[31m\nerror: \u202eb\udcff\x00"
CODE = """
import logging, sys
from synergy.runtime.terminal.streams import print_line, safe_streams
with safe_streams():
    for number in range(20_000):
        print_line("line")
    print_line("Grüße 日本")
    print_line("warned", error=True)
    logging.getLogger("synergy.x").warning("name\\x1b\\n")
sys.exit(7)
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("ä 日本.jpg", "ä 日本.jpg"), (EVIL, SHOWN), ("a\tb\\", r"a\tb" + "\\"), ("\x9b\x7f", r"\x9b\x7f")],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_and_tables() -> None:
    from rich.table import Table

    found = io.StringIO()
    with contextlib.redirect_stdout(found), safe_streams():
        print_line(EVIL)
        print("\x1b[2J")
        table = Table(title=EVIL.replace("\n", ""))
        table.add_column(plain(EVIL))
        table.add_row("\x1b]0;title\x07")
        make_console().print(table)
    text = found.getvalue()
    assert text.splitlines()[0] == SHOWN and "\\x1b]0;title\\x07" in text
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(
    "redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| head -1", "2>&1 | true"]
)
def test_streams_that_cannot_be_written(redirection: str, tmp_path: Path) -> None:
    command = f'{{ {sys.executable} -c "$CODE"; echo $? >"$STATUS"; }} {redirection}'
    environment = {**os.environ, "CODE": CODE, "STATUS": str(tmp_path / "status")}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (tmp_path / "status").read_text() == "7\n", done
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr


def test_report_on_a_closed_stdout() -> None:
    command = f'{sys.executable} -c "from synergy.cli import main; main()" infer none.jpg --json - >&-'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: cannot write the report: stdout is closed")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_encodings(encoding: str) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, check=False)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 7 and last == "Grüße 日本".encode(encoding, "backslashreplace")
    assert done.stderr.splitlines() == [b"warned", b"name\\x1b\\n"]
