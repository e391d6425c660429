"""Install the peers, measure, and render: see ``benchmarks/README.md``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.speed import environments

OUT = environments.ROOT / "benchmarks" / "out"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", help="make the environments; needs no package")
    install.add_argument("bench", type=Path, help="folder for environments and checkpoints")
    run = commands.add_parser("run", help="measure; by the interpreter of the environment torch")
    run.add_argument("bench", type=Path)
    run.add_argument("--rows", default="main,scale,callers,cold,memory,size", help="which rows, separated by commas")
    run.add_argument("--systems", default="", help="which systems, separated by commas; by default all")
    run.add_argument("--checkpoint", default="minilm-l6", help="its shape")
    run.add_argument("--minutes", type=float, default=40, help="about how long all rows together may take")
    run.add_argument("--quick", action="store_true", help="a few measurements of each row, to test that it runs")
    run.add_argument("--out", type=Path, default=OUT)
    render = commands.add_parser("render", help="make tables and plot from the measurements")
    render.add_argument("--out", type=Path, default=OUT)
    render.add_argument("--publish", action="store_true", help="put them into benchmarks/README.md too")
    options = parser.parse_args()
    if options.command == "install":
        environments.install(options.bench.absolute())
    elif options.command == "run":
        measure(options)
    else:
        publish(options.out, into_readme=options.publish)


def measure(options: argparse.Namespace) -> None:
    """Run rows one after the other; the file of a row is written after every measurement."""
    from benchmarks.speed.checkpoints import make
    from benchmarks.speed.machine import describe
    from benchmarks.speed.rows import ROWS
    from benchmarks.speed.session import Session

    bench = options.bench.absolute()
    rows = options.rows.split(",")
    if unknown := [row for row in rows if row not in ROWS]:
        sys.exit(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    folder = make(bench / "checkpoints", options.checkpoint)
    machine = describe(bench)
    whole = sum(ROWS[row][1] for row in rows)
    for name in rows:
        row, part = ROWS[name]
        only = [system for system in options.systems.split(",") if system]
        session = Session(bench, folder, options.minutes * part / whole, quick=options.quick, only=only)
        raw = {"row": name, "checkpoint": options.checkpoint, "quick": options.quick, "machine": machine}
        measurements, began = [], time.monotonic()
        try:
            for measurement in row(session):
                measurements.append(measurement)
                header = {"unavailable": session.unavailable, "seconds": time.monotonic() - began}
                file = options.out / f"{name}-{options.checkpoint}.json"
                file.write_text(json.dumps({**raw, **header, "measurements": measurements}), encoding="utf-8")
        finally:
            session.close()
        print(f"{name}: {len(measurements)} measurements in {time.monotonic() - began:.0f} s", flush=True)
        for system, reason in session.unavailable.items():
            print(f"  {system}: {reason}", flush=True)


def publish(out: Path, *, into_readme: bool) -> None:
    """Write ``speed.md`` and ``speed.svg`` beside the measurements, and on demand into the benchmarks' page."""
    from benchmarks.speed.plot import plot
    from benchmarks.speed.tables import between_markers, page

    raw = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob("*.json"))}
    if not raw:
        sys.exit(f"nothing was measured yet in {out}")
    text = page(raw)
    (out / "speed.md").write_text(text, encoding="utf-8")
    plot(raw, out / "speed.svg")
    print(text)
    if into_readme:
        readme = environments.ROOT / "benchmarks" / "README.md"
        readme.write_text(between_markers(readme.read_text(encoding="utf-8"), text), encoding="utf-8")
        plot(raw, readme.with_name("speed.svg"))


if __name__ == "__main__":
    main()
