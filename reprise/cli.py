"""The command `reprise`: create a study, check what it needs, open its report. Snakemake runs the studies.

reprise new my-study                       write config/my-study.yaml and config/my-study-prompts.tsv, then edit them
reprise doctor --configfile FILE           check that everything the studies need is available
reprise open [FOLDER]                      open the report of the last run in the browser
"""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from reprise.config.errors import ConfigError
from reprise.config.new_study import write_new_study


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 1 after printing what is wrong."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "new":
            return _new(options.name)
        if options.command == "doctor":
            return _doctor(options.configfile)
        return _open(options.results)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="reprise", description="Helper commands. Snakemake runs the studies.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="new | doctor | open")
    new = commands.add_parser("new", help="write a configuration and a prompts file for a new study")
    new.add_argument("name", help="the study's name, also the name of its folder under results/")
    doctor = commands.add_parser("doctor", help="check model, SAEs, memory, disk and configuration")
    doctor.add_argument("--configfile", type=Path, default=Path("config/config.yaml"), metavar="FILE")
    report = commands.add_parser("open", help="open the report in the browser")
    report.add_argument("results", nargs="?", type=Path, default=Path("results"), metavar="FOLDER")
    return parser


def _new(name: str) -> int:
    config, prompts = write_new_study(name)
    print(f"written: {config} and {prompts}\nEdit both, then:\n  reprise doctor --configfile {config}")
    print(f"  snakemake --cores all --configfile {config}")
    return 0


def _doctor(path: Path) -> int:
    # Importing torch takes seconds, and the other commands do not need it.
    from reprise.config.reading import read_yaml, told_by
    from reprise.config.renamed import with_new_names
    from reprise.workflow.examination import examine, show

    raw = read_yaml(path)
    for warning in with_new_names(raw)[1]:
        print(f"{path}: {warning}", file=sys.stderr)
    findings, problems = examine(raw, told_by({str(path): raw}, {}))
    show(findings, problems)
    return 1 if problems else 0


def _open(results: Path) -> int:
    page = results / "report" / "index.html"
    if not page.is_file():
        raise ConfigError([f"{page}: there is no report; valid: the results folder of a finished run"])
    print(page)
    webbrowser.open(page.resolve().as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
