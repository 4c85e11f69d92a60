"""How many requests per second does `kvae serve` answer, against a bare handler of FastAPI and ONNX Runtime?

Both run on loopback with one process of uvicorn. Locust requests 1 and 16 samples of mnist as JSON, from 1 and 16
clients. The servers take turns; the table has medians over the rounds. `--mixed MINUTES` instead sends a
mixture of all operations to `kvae serve`, and prints its resident memory and the failures.

Needs `pip install -e '.[serve]' fastapi`, and `locust` in this or another environment (`--locust PATH`).
Run it from the root of the repository: `python benchmarks/serving.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

PORTS = {"kvae serve": 0, "bare handler": 0}
MODELS = ["mnist", "sprites", "tests/data/linear_table"]
MODE = os.environ.get("SERVING_MODE")

if MODE is not None:  # Imported by Locust as its file.
    from locust import FastHttpUser, constant, constant_throughput, task

    class User(FastHttpUser):
        """Sends requests of one kind as fast as they are answered, or a mixture, one per second."""

        wait_time = constant_throughput(1) if MODE == "mixed" else constant(0)
        seed = 0

        @task
        def send(self) -> None:
            """Send one request."""
            self.seed += 1
            if MODE == "mixed":
                self.send_kind(self.seed % 8)
            else:
                path = os.environ["SERVING_PATH"]
                self.client.post(path, json={"label": int(self.seed) % 10, "n": int(MODE), "seed": self.seed})

        def send_kind(self, number: int) -> None:
            """Send a request of one of eight kinds."""
            root = "/v1/models"
            digits = {"x": [[[[128 + self.seed % 128]] * 28] * 28] * 16, "label": 3}
            rows = [{"age": 20, "sex": "male", "pay": -3, "debt": self.seed % 5}] * 8
            png, npy = {"Accept": "image/png"}, {"Accept": "application/x-npy"}
            if number == 0:
                self.client.get(f"{root}/mnist/sample?label=3&n=16&seed={self.seed}", headers=png, name="png")
            elif number == 1:
                self.client.post(f"{root}/mnist/encode", json=digits, name="encode")
            elif number == 2:
                self.client.post(f"{root}/mnist/reconstruct", json=digits, headers=npy, name="reconstruct")
            elif number == 3:
                self.client.post(f"{root}/mnist/score", json=digits | {"x": digits["x"][:2]}, name="score")
            elif number == 4:
                self.client.post(f"{root}/linear_table/score", json={"x": rows}, name="score a table")
            elif number == 5:
                self.client.post(f"{root}/linear_table/sample", json={"n": 1 + self.seed % 900}, name="sample a table")
            elif number == 6:
                self.client.post(f"{root}/sprites/sample", json={"n": 1 + self.seed % 64}, name="sample sprites")
            else:
                with self.client.post(f"{root}/mnist/sample", json={"n": "x"}, name="bad", catch_response=True) as bad:
                    if bad.status_code == 400:
                        bad.success()
                    else:
                        bad.failure(f"status {bad.status_code}")


def start(server: str) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers."""
    port = str(PORTS[server])
    if server == "kvae serve":
        models = [each for model in MODELS for each in ("-m", model)]
        command = [sys.executable, "-m", "kvae", "serve", *models, "--port", port, "-q"]
    else:
        bare = ["-m", "uvicorn", "bare_server:app", "--app-dir", "benchmarks", "--no-access-log"]
        command = [sys.executable, *bare, "--log-level", "error", "--port", port]
    process = subprocess.Popen(command)
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=5):
                return process
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"{server} did not start.") from None
            time.sleep(0.2)


def load(locust: str, server: str, mode: str, clients: int, seconds: int) -> list[dict]:
    """Run Locust; return its statistics."""
    path = "/v1/models/mnist/sample" if server == "kvae serve" else "/sample"
    host = f"http://127.0.0.1:{PORTS[server]}"
    limits = ["-u", str(clients), "-r", str(clients), "-t", f"{seconds}s", "--stop-timeout", "5"]
    command = [locust, "-f", __file__, "--headless", "--json", "--loglevel", "ERROR", "--host", host, *limits]
    environment = os.environ | {"SERVING_MODE": mode, "SERVING_PATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("["):
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def p99(stats: dict) -> float:
    """Return the 99th percentile of the response times in ms."""
    left = 0.01 * sum(stats["response_times"].values())
    for milliseconds, num in sorted(((float(key), num) for key, num in stats["response_times"].items()), reverse=True):
        left -= num
        if left < 0:
            return milliseconds
    return 0.0


def processor_ms(process: subprocess.Popen[bytes]) -> float:
    """Return the processor time of a process, which a busy machine changes less than wall time."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def compare(locust: str, rounds: int, seconds: int, servers: dict[str, subprocess.Popen[bytes]]) -> None:
    """Print requests per second, p99 and processor time of both servers."""
    print("| images | clients | server | requests/s | p99, ms | CPU ms per request | failures | ratio of requests/s |")
    print("|---|---|---|---|---|---|---|---|")
    for images in (1, 16):
        for clients in (1, 16):
            found: dict[str, list[tuple[float, ...]]] = {server: [] for server in PORTS}
            for _ in range(rounds):
                for server in PORTS:
                    before = processor_ms(servers[server])
                    (stats,) = load(locust, server, str(images), clients, seconds)
                    spent = (processor_ms(servers[server]) - before) / stats["num_requests"]
                    rate = stats["num_requests"] / (stats["last_request_timestamp"] - stats["start_time"])
                    found[server].append((rate, p99(stats), spent, stats["num_failures"]))
            medians = {
                server: [statistics.median(each) for each in zip(*found[server], strict=True)] for server in PORTS
            }
            ratio = medians["kvae serve"][0] / medians["bare handler"][0]
            for server, (rate, slowest, spent, failures) in medians.items():
                shown = f"{ratio:.2f}" if server == "kvae serve" else ""
                numbers = f"{rate:.0f} | {slowest:.0f} | {spent:.2f} | {failures:.0f} | {shown}"
                print(f"| {images} | {clients} | {server} | {numbers} |", flush=True)


def mixed(locust: str, minutes: float, server: subprocess.Popen[bytes], clients: int) -> None:
    """Print the resident memory of the server every minute, then requests and failures by kind."""
    status = Path(f"/proc/{server.pid}/status")
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(load, locust, "kvae serve", "mixed", clients, int(60 * minutes))
        began = time.monotonic()
        while not result.done():
            resident = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            print(f"{(time.monotonic() - began) / 60:5.1f} min  {int(resident.split()[1]) / 1024:.1f} MiB", flush=True)
            wait([result], 60)
    for each in result.result():
        print(f"{each['name']}: {each['num_requests']} requests, {each['num_failures']} failures, p99 {p99(each):g} ms")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--locust", default="locust", help="command of Locust")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="time of each measurement")
    parser.add_argument("--mixed", type=float, metavar="MINUTES")
    parser.add_argument("--clients", type=int, default=8, help="clients of --mixed, one request per second each")
    parser.add_argument("--port", type=int, default=8771, help="first of two ports")
    options = parser.parse_args()
    PORTS.update({server: options.port + number for number, server in enumerate(PORTS)})
    servers = {server: start(server) for server in (list(PORTS)[:1] if options.mixed else PORTS)}
    try:
        if options.mixed:
            mixed(options.locust, options.mixed, servers["kvae serve"], options.clients)
        else:
            compare(options.locust, options.rounds, options.seconds, servers)
    finally:
        for server in servers.values():
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
