"""Starts what the tests call: an installation under `engineshed up`, and aimock behind it."""

import ctypes
import datetime
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(os.environ["CLIENTS_BIN"])
NODE_MODULES = pathlib.Path(os.environ["CLIENTS_CACHE"]) / "node" / "node_modules"

REGION = "cn-hangzhou"
SECURE_DOMAIN = "secure.example.com"
CERTIFICATE = "secure"  # the name of the pair of files for it


def eventually(what: str, condition: Callable[[], Any], limit: float = 20.0) -> Any:
    """Asks until the condition holds and returns what it said; after the limit the test has failed."""
    deadline = time.monotonic() + limit
    while True:
        held = condition()
        if held:
            return held
        assert time.monotonic() < deadline, f"{what}: not within {limit:g} s"
        time.sleep(0.02)


def die_with_parent() -> None:
    """Makes the kernel end a child whose test run was killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class Process:
    """A program that runs until stop; what it prints goes to a file."""

    def __init__(self, log: pathlib.Path, *command: str, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})}, start_new_session=True, preexec_fn=die_with_parent,
            )

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def assert_running(self) -> None:
        code = self.process.poll()
        assert code is None, f"{self.process.args[0]} ended with {code}:\n{self.printed()[-4000:]}"

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Aimock:
    """The npm package, as another author's idea of OpenAI and Anthropic. It takes one key and no other."""

    def __init__(self, directory: pathlib.Path, key: str) -> None:
        config = json.loads((HERE / "aimock.json").read_text())
        config["auth"] = {"apiKeys": [key]}
        config["llm"]["fixtures"] = str(HERE / "aimock-fixtures.json")
        (directory / "aimock.json").write_text(json.dumps(config))
        cli = NODE_MODULES / "@copilotkit" / "aimock" / "dist" / "aimock-cli.js"
        self._process = Process(directory / "aimock.log", os.environ["CLIENTS_NODE"], str(cli), "--config", str(directory / "aimock.json"))
        self.url = eventually("aimock says where it listens", self._announced)

    def _announced(self) -> str:
        self._process.assert_running()
        _, found, rest = self._process.printed().partition("listening on ")
        return rest.split()[0] if found and "\n" in rest else ""

    @property
    def authority(self) -> str:
        return self.url.removeprefix("http://")

    def stop(self) -> None:
        self._process.stop()


class Installation:
    """A whole Engineshed with vllm-sim as its engine, which may forward to the given host:port pairs of this machine."""

    def __init__(self, directory: pathlib.Path, *upstreams: str) -> None:
        # Engines and Postgres do not run as root: they must be able to enter these folders.
        engine = directory / "vllm-sim"
        shutil.copy(BIN / "vllm-sim", engine)
        engine.chmod(0o755)
        self._engine = str(engine)
        self.data = directory / "data"
        self.https = free_address()
        self.trusted = make_certificate(directory / "certificates", CERTIFICATE, SECURE_DOMAIN)
        command = [
            str(BIN / "engineshed"), "up", "--data-dir", str(self.data), "--region", REGION,
            "--api-addr", free_address(), "--gateway-addr", free_address(), "--public-addr", free_address(), "--https-addr", self.https,
            "--cert-dir", str(self.trusted.parent),
        ]
        for upstream in upstreams:
            command += ["--allow-upstream", upstream]
        self._process = Process(directory / "up.log", *command, env={"DATABASE_URL": "", "VLLM_COMMAND": str(engine)})
        told = eventually("up has written credentials.json", self._credentials, 90)
        self.endpoint: str = told["endpoint"]
        self.gateway: str = told["gateway"]
        self.access_key_id: str = told["accessKeyId"]
        self.access_key_secret: str = told["accessKeySecret"]
        self.instance: str = told["dbInstanceId"]

    def _credentials(self) -> dict[str, str] | None:
        self._process.assert_running()
        try:
            return json.loads((self.data / "credentials.json").read_text())
        except FileNotFoundError:
            return None

    def engines(self) -> set[int]:
        """The process ids of the engines that run."""
        found = set()
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cmdline").read_bytes().startswith(self._engine.encode() + b"\0"):
                    found.add(int(process.name))
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has ended meanwhile
        return found

    def last_words(self) -> str:
        """The ends of all logs, for a failed run."""
        logs = [self._process.log, *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}" for log in logs)

    def stop(self) -> None:
        self._process.stop()


def free_address() -> str:
    """An address that nobody listens on, and whose port no outgoing connection is given before somebody does."""
    first_given = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(first_given, 11_000))
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        return f"127.0.0.1:{port}"


def make_certificate(directory: pathlib.Path, name: str, domain: str) -> pathlib.Path:
    """Writes NAME.crt and NAME.key, which nobody but its holder has signed, and returns the former."""
    directory.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, domain)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(hours=1),
                                now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    (directory / f"{name}.key").chmod(0o600)
    return directory / f"{name}.crt"


def new_directory() -> pathlib.Path:
    """A folder that other users may enter."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="engineshed-clients-"))
    directory.chmod(0o755)
    return directory
