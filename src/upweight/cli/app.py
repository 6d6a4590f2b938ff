"""The commands, put together."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from upweight.cli import data
from upweight.cli.attack import attack
from upweight.cli.attribute import attribute
from upweight.cli.clean import clean
from upweight.cli.compare import compare
from upweight.cli.demo import demo
from upweight.cli.domain_mismatch import domain_mismatch
from upweight.cli.explain import explain
from upweight.cli.explore import explore
from upweight.cli.info import info
from upweight.cli.json_always import JsonAlways
from upweight.cli.label_errors import label_errors
from upweight.cli.options import EXAMPLES
from upweight.cli.query import query
from upweight.cli.replay import replay
from upweight.cli.resume import resume
from upweight.cli.select import select
from upweight.cli.unlearn import correct_labels, unlearn
from upweight.cli.verify import verify

app = typer.Typer(
    cls=JsonAlways,
    help="Which training examples made a model do this, and what would change without them?",
    epilog=EXAMPLES
    + "upweight demo\n\nupweight label-errors people.csv --target income\n\n"
    + "upweight explain people.csv --target income --row 17\n\nupweight verify study.py",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"upweight {metadata.version('upweight')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


app.command(
    epilog=EXAMPLES + "upweight demo\n\nupweight demo --seed 1 --output /tmp/report\n\nupweight demo --json",
)(demo)
app.command(
    "label-errors",
    epilog=EXAMPLES
    + "upweight label-errors people.csv --target income\n\n"
    + "upweight label-errors people.csv --target income --top 50 --output checked\n\n"
    + "upweight label-errors people.csv --target income --json\n\n"
    + "upweight label-errors study.py --method margin",
)(label_errors)
app.command(
    "domain-mismatch",
    epilog=EXAMPLES
    + 'upweight domain-mismatch people.csv --target income --group "age < 25"\n\n'
    + 'upweight domain-mismatch people.csv --target income --group "age < 25" --row 17 --row 40\n\n'
    + "upweight domain-mismatch study.py --group \"region == 'north'\" --json",
)(domain_mismatch)
app.command(
    epilog=EXAMPLES
    + "upweight explain people.csv --target income\n\n"
    + "upweight explain people.csv --target income --row 17 --top 10\n\n"
    + "upweight explain study.py --query 3 --json",
)(explain)
app.command(
    epilog=EXAMPLES
    + "upweight verify people.csv --target income\n\n"
    + "upweight verify study.py --query 3 --k 50 --output proof",
)(verify)
app.command(
    epilog=EXAMPLES
    + "upweight attack study.py\n\nupweight attack study.py --count 5 --queries 50 --output audit\n\n"
    + "upweight attack study.py --query 3 --json",
)(attack)
app.command(
    epilog=EXAMPLES
    + "upweight unlearn study.py --class 3\n\n"
    + "upweight unlearn study.py --class cat --ratio 0.1 --method FIF --json",
)(unlearn)
app.command(
    "correct-labels",
    epilog=EXAMPLES + "upweight correct-labels study.py --labels corrected.csv --ratio 0.1",
)(correct_labels)
app.command(
    epilog=EXAMPLES
    + "upweight select study.py -k 500\n\n"
    + "upweight select people.csv --target income -k 1000 --diversity 0.5\n\n"
    + "upweight select study.py -k 500 --method similarity --json",
)(select)
app.command(
    epilog=EXAMPLES
    + "upweight replay study.py\n\n"
    + "upweight replay study.py --first 20 --weight 0.5 --store states\n\n"
    + "upweight replay study.py --seed 0 --seed 1 --json",
)(replay)
app.command(epilog=EXAMPLES + "upweight compare pixels.py features.py --query 3")(compare)
app.command(
    epilog=EXAMPLES
    + "upweight attribute study.py --out scores --workers 4\n\n"
    + "upweight attribute study.py --out scores --top-k 100 --ray auto\n\n"
    + "upweight attribute study.py --out scores --workers 8 --slurm timeout_min=60 --slurm mem_gb=16",
)(attribute)
app.command(
    epilog=EXAMPLES
    + "upweight query scores\n\nupweight query scores 3 17 --top 10\n\nupweight query scores --top 100 --to best.csv",
)(query)
app.command(epilog=EXAMPLES + "upweight info scores\n\nupweight info scores --verify --json")(info)
app.command(epilog=EXAMPLES + "upweight resume scores\n\nupweight resume scores --workers 2")(resume)
app.command(
    epilog=EXAMPLES
    + "upweight explore --demo\n\nupweight explore scores\n\n"
    + "upweight explore people.csv --target income --store people\n\nupweight explore study.py --prepare",
)(explore)
app.command(epilog=EXAMPLES + "upweight clean demo.explore\n\nupweight clean people --output cleaned --no-retrain")(
    clean
)
app.add_typer(data.app, name="data")
