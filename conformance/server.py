"""Servers for the suites: fresh ones, on either engine, that end with the suite."""
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("METAL_SERVER", str(ROOT / "target/debug/metal-server"))
POSTGRES = pathlib.Path("/usr/lib/postgresql/15/bin")
# What `BootService/SuperUserPassword` answers.
SUPERUSER_PASSWORD = "super-secret"


@contextlib.contextmanager
def running(engine="sqlite", replicas=1):
    """The URLs of so many servers on one new database, and that database."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="metal-conformance-")))
        database = f"sqlite:{folder / 'metal.db'}" if engine == "sqlite" else stack.enter_context(_postgres(folder))
        yield [stack.enter_context(_server(database)) for _ in range(replicas)], database


def token(database, user, *roles):
    """A token made beside the server, as for the very first login."""
    made = subprocess.run([BINARY, "token", "create", "--database", database, "--user", user, *roles], check=True, capture_output=True, text=True)
    return made.stdout.strip()


@contextlib.contextmanager
def _server(database):
    # how often somebody calls is not what these suites are about
    arguments = ["serve", "--listen", "127.0.0.1:0", "--database", database,
                 "--max-requests-per-minute", "0", "--max-unauthenticated-requests-per-minute", "0"]
    environment = {**os.environ, "NO_COLOR": "1", "METAL_BMC_SUPERUSER_PASSWORD": SUPERUSER_PASSWORD}
    server = subprocess.Popen([BINARY, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
    log = []
    try:
        for line in server.stderr:
            log.append(line)
            if "address=" in line:
                address = line.split("address=", 1)[1].split()[0]
                break
        else:
            raise SystemExit("the server ended before it answered:\n" + "".join(log))
        # nobody waits for a log that is not read
        threading.Thread(target=lambda: log.extend(server.stderr), daemon=True).start()
        yield f"http://{address}"
        if server.poll() is not None:
            raise SystemExit("the server ended by itself:\n" + "".join(log[-20:]))
    finally:
        _end(server)


@contextlib.contextmanager
def _postgres(folder):
    # PostgreSQL refuses to run as root
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    subprocess.run([*prefix, POSTGRES / "initdb", "--auth=trust", "--username=postgres", "--no-sync", "--locale=C", "--encoding=UTF8", "-D", data],
                   check=True, stdout=subprocess.DEVNULL, cwd=folder)
    end = time.monotonic() + 120

    def start():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        return port, subprocess.Popen([*prefix, POSTGRES / "postgres", "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                                       "-k", folder, "-D", data], stderr=subprocess.DEVNULL, cwd=folder)

    port, server = start()
    try:
        # asked at its own socket: the port may be somebody else's by now, and then it ends
        while subprocess.run([POSTGRES / "pg_isready", "-q", "-h", folder, "-p", port]).returncode:
            if time.monotonic() > end:
                raise SystemExit("PostgreSQL does not answer")
            if server.poll() is not None:
                port, server = start()
            time.sleep(0.05)
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        _end(server)


def _end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
