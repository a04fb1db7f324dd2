"""micrograd's moons demonstration, through the service: train a network over HTTP and draw what it learnt.

    python examples/moons.py                 start a service, use it, stop it
    python examples/moons.py --url ADDRESS   use a service that runs already

Two interleaved half circles of 50 points each are told apart by a network of 337 parameters, trained for 100 steps
by gradient descent. Andrej Karpathy published the losses of this training with micrograd; the service must come to
the same ones, and this program ends with status 1 if it does not.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chainrule import Client, TrainingResult, variables
from chainrule.plots import decision_boundary, loss_curve, sparkline

HERE = Path(__file__).resolve().parent
DATA = json.loads((HERE / "data" / "moons.json").read_text(encoding="utf-8"))
STEPS = 100
SPEC = {
    "model": {
        "inputs": 2,
        "layers": [16, 16, 1],
        "activation": "relu",
        "output_activation": "linear",
        "init": {"scheme": "micrograd", "seed": 1337},
    },
    "data": {"inputs": DATA["inputs"], "targets": DATA["targets"]},
    "loss": {"name": "hinge", "reduction": "mean", "l2": 1e-4},
    "optimizer": {
        "name": "sgd",
        "learning_rate": {"schedule": "linear", "start": 1.0, "end": 0.1, "steps": STEPS},
    },
    "steps": STEPS,
    "metrics": ["accuracy"],
}
#: From the published output of micrograd's demo notebook, by step.
PUBLISHED = {0: 0.8958441028683222, 1: 1.7235905336972022, 2: 0.7429006313851131, 99: 0.010978370135492717}
#: Sums in another order differ in the last bits; a wrong rule anywhere differs in the first ones.
TOLERANCE = 1e-12


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train micrograd's moons network through the service.")
    parser.add_argument("--url", help="address of a running service (default: start one, and stop it afterwards)")
    parser.add_argument("--out", type=Path, default=HERE.parent / "build", help="folder for the pictures")
    options = parser.parse_args(arguments)
    if options.url:
        return demonstrate(options.url, options.out)
    # Being told to stop must stop the service too, so it is made an exception like Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with service() as url:
        return demonstrate(url, options.out)


def demonstrate(url: str, folder: Path) -> int:
    """Train, compare, and draw; return the exit status."""
    with Client(url) as client:
        print(f"service at {url}: chainrule engine {client.version()['engine']['version']}")
        print(f"training 2-16-16-1 on {len(DATA['inputs'])} points for {STEPS} steps over HTTP ...")
        start = time.perf_counter()
        result = client.train(SPEC)
        print(f"job {result.job}: {result.stop_reason} in {time.perf_counter() - start:.1f} s\n")
        show(result)
        faults = differences(result)
        for fault in faults:
            print(f"WRONG: {fault}")
        for picture in draw(client, result, folder):
            print(f"picture: {picture}")
    return 1 if faults else 0


def show(result: TrainingResult) -> None:
    """Print the loss curve, some steps of it, and how the losses compare with the known ones."""
    losses, accuracy = result.loss_history, result.metrics["accuracy"]
    print(f"loss  {sparkline(losses)}  {losses[0]:.3f} to {losses[-1]:.3f}\n")
    print("step   loss                   published              accuracy")
    for step in [0, 1, 2, 3, 5, 10, 20, 50, STEPS - 1]:
        published = repr(PUBLISHED[step]) if step in PUBLISHED else ""
        print(f"{step:4}   {losses[step]!r:<22} {published:<22} {accuracy[step]:7.0%}")
    known = max(abs(losses[step] - loss) for step, loss in PUBLISHED.items())
    arrays = max(abs(a - b) for a, b in zip(losses, DATA["numpy_losses"], strict=True))
    print(f"\nlargest difference from the published losses:              {known:.1e}")
    print(f"largest difference from all {STEPS} losses of a NumPy training: {arrays:.1e}")
    print(f"allowed:                                                   {TOLERANCE:.1e}\n")


def differences(result: TrainingResult) -> list[str]:
    """Return a line for each thing that is not as it was published."""
    losses = result.loss_history
    faults = [] if len(losses) == STEPS else [f"{len(losses)} losses instead of {STEPS}"]
    for source, known in (("published", PUBLISHED), ("NumPy's", dict(enumerate(DATA["numpy_losses"])))):
        faults += [
            f"the loss of step {step} is {losses[step]!r}, {source} is {loss!r}"
            for step, loss in known.items()
            if step < len(losses) and not abs(losses[step] - loss) <= TOLERANCE
        ]
    if result.metrics["accuracy"][-1] != 1.0:
        faults.append(f"the last accuracy is {result.metrics['accuracy'][-1]:.0%} instead of 100%")
    return faults


def draw(client: Client, result: TrainingResult, folder: Path) -> list[Path]:
    """Write the loss curve and the decision boundary, whose map the service computes as one batch of points."""

    def predict(xs: list[float], ys: list[float]) -> list[float]:
        score = result.network(*variables(x=xs, y=ys))
        values: list[float] = client.evaluate(score, derivative="none").value
        return values

    folder.mkdir(parents=True, exist_ok=True)
    curve = loss_curve(result.loss_history, log=True, title="Moons: loss at each step")
    boundary = decision_boundary(
        predict, DATA["inputs"], DATA["targets"], cells=60, title="Moons: what the network learnt"
    )
    return [curve.save(folder / "moons-loss.svg"), boundary.save(folder / "moons-boundary.svg")]


@contextmanager
def service() -> Iterator[str]:
    """Start `chainrule serve` on a free port with an empty data folder, and stop it in any event."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="chainrule-") as folder:
        log = Path(folder, "server.log")
        command = [sys.executable, "-m", "chainrule", "serve", "--port", str(port), "--data", folder]
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(url, process, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, patience: float = 60.0) -> None:
    """Return once the service answers that it is ready; end this program if it stops or takes too long."""
    deadline = time.monotonic() + patience
    with Client(url) as client:
        while not client.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                what = "stopped" if process.poll() is not None else f"was not ready within {patience:g} s"
                sys.exit(f"the service {what}:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
