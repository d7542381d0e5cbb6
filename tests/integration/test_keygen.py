"""`pgvigil keygen`: pairs of keys that only their owner can read, with a passphrase that is never an argument."""

import contextlib
import os
import pty
import re
import termios

from backup_tools import assert_says
from harness import Pgvigil, own, run, wait_until, write_file
from test_encryption import keygen


def test_keygen(scratch):
    """Files that only their owner can read, never replaced, of the kind and name asked for."""
    pgvigil = Pgvigil(None, cwd=scratch.path)
    done = pgvigil.run("keygen", "one")  # a relative path
    assert f"recipients = {scratch.path}/one.crt\n" in done.stdout and f"identity = {scratch.path}/one.key\n" in done.stdout
    key, certificate = scratch.path / "one.key", scratch.path / "one.crt"
    assert (key.stat().st_mode & 0o7777, certificate.stat().st_mode & 0o7777) == (0o600, 0o644)
    assert sorted(path.name for path in scratch.path.iterdir() if "one" in path.name) == ["one.crt", "one.key"]
    before = key.read_bytes(), certificate.read_bytes()
    assert_says(pgvigil.run("keygen", key.with_suffix(""), check=1), key, "exists already", "choose another name")
    key.rename(scratch.path / "aside")
    assert_says(pgvigil.run("keygen", "one", check=1), certificate, "exists already")
    assert not key.exists() and certificate.read_bytes() == before[1]

    keygen(scratch, "two", "--rsa", "--name", "two of three")
    text = run(["openssl", "x509", "-in", scratch.path / "two.crt", "-noout", "-text"]).stdout
    assert re.search("Subject: CN ?= ?two of three", text) and "(3072 bit)" in text and "CA:FALSE" in text
    assert_says(pgvigil.run("keygen", "three", "--name", "x" * 65, check=2), "1 to 64 bytes", "--name")
    assert_says(pgvigil.run("keygen", f"{scratch.path}/", check=2), "is a directory", hint=False)
    assert_says(pgvigil.run("keygen", "nowhere/three", check=3), "nowhere", hint=False)
    assert "pgvigil keygen PATH" in pgvigil.run("keygen", check=2).stderr


def opens(key, passphrase):
    return run(["openssl", "pkey", "-in", key, "-noout", "-passin", f"pass:{passphrase}"], check=False).rc == 0


def test_keygen_with_a_passphrase(scratch):
    """From a file, the environment or the terminal; never from the arguments."""
    word = write_file(scratch.path / "word", "open sesame\nnot this\n")
    key, _ = keygen(scratch, "file", "--passphrase-file", word)
    assert opens(key, "open sesame") and not opens(key, "") and "ENCRYPTED" in key.read_text()
    key, _ = keygen(scratch, "environment", "--passphrase", env={"PGVIGIL_PASSPHRASE": "tell me"})
    assert opens(key, "tell me") and not opens(key, "")
    pgvigil = Pgvigil(None, cwd=scratch.path)
    word.chmod(0o644)
    assert_says(pgvigil.run("keygen", "x", "--passphrase-file", word, check=2), word, "can be used by others", "chmod")
    empty = write_file(scratch.path / "empty", "\n")
    assert_says(pgvigil.run("keygen", "x", "--passphrase-file", empty, check=2), "1 to 1000 bytes", hint=False)
    assert_says(pgvigil.run("keygen", "x", "--passphrase", check=2), "no terminal", "--passphrase-file")
    assert not (scratch.path / "x.key").exists()


def on_a_terminal(command, lines):
    """Runs a command on a terminal of its own, with these lines typed when it asks; (exit code, what was shown)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown = b""
    with contextlib.suppress(OSError):
        for line in lines:
            while not shown.rstrip().endswith(b":"):
                shown += os.read(fd, 1000)
            wait_until(lambda: not termios.tcgetattr(fd)[3] & termios.ECHO, 10, "the echo to be off")
            os.write(fd, line.encode() + b"\n")
            shown += os.read(fd, 1)
        while piece := os.read(fd, 1000):
            shown += piece
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_keygen_asks_on_the_terminal(scratch):
    command = [str(Pgvigil(None).program), "keygen", str(scratch.path / "asked"), "--passphrase"]
    code, shown = on_a_terminal(command, ["abracadabra", "something else"])
    assert code == 2 and not (scratch.path / "asked.key").exists(), shown
    code, shown = on_a_terminal(command, ["abracadabra", "abracadabra"])
    assert code == 0 and "abracadabra" not in shown, shown
    own(scratch.path / "asked.key")
    assert opens(scratch.path / "asked.key", "abracadabra")
