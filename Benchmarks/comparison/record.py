"""What a run has found, as a table: printed, and written to .build or to Benchmarks/results."""

import datetime
import json
import os
import pathlib
import platform

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent


def machine():
    """What the figures are of, and when."""
    cpu = next((line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 ** 30
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"{cpu}, {os.cpu_count()} cores, {pages:.0f} GiB, Linux {platform.release()}; {now}"


def write(run, name, head, rows, explanation, alignment, recorded):
    """Prints the table and writes it, with the run itself beside it.

    `alignment` has a letter for each column of the written table, l or r; printed, the first columns that are all l are, too.
    """
    rows = [head, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    left = next((column for column, letter in enumerate(alignment) if letter == "r"), len(head))
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) if column < left else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths))).rstrip())
    for error in run["errors"]:
        print(f"FAILED: {error}")
    directory = BENCHMARKS / "results" if recorded else BENCHMARKS.parent / ".build" / name
    file = directory / (name if recorded else "last")
    directory.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".json").write_text(json.dumps(run, indent=1) + "\n")
    lines = [f"<!-- Written by Benchmarks/{name}. -->", "", run["machine"] + "  ",
             ", ".join(f"{key} {value}" for key, value in run["versions"].items() if value) + "  ", explanation, "",
             "| " + " | ".join(head) + " |", "|" + "".join("---:|" if letter == "r" else "---|" for letter in alignment)]
    lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    lines += ["", *(f"- FAILED: {error}" for error in run["errors"])] if run["errors"] else []
    file.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(f"\n{file}.json, .md")
