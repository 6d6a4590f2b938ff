"""`upweight attribute`: scores of a study's queries for all training examples, in a store, shard by shard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.explain import ByToken
from upweight.cli.job_options import Ray, Slurm, StudyFile, Workers
from upweight.cli.options import LARGEST_SEED, AsJson, Force, Quiet
from upweight.cli.session import Session, session

if TYPE_CHECKING:
    from upweight.cli.job import Done
    from upweight.report import Report


def attribute(
    study: StudyFile,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where the scores go: a folder, or a URL such as s3://bucket/folder.",
            show_default=False,
        ),
    ],
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", "-k", min=1, help="Keep the k largest and k smallest scores of each query, not all."),
    ] = None,
    self_influence: Annotated[
        bool, typer.Option("--self-influence", help="Score each training example for itself, not for the queries.")
    ] = False,
    quantity: Annotated[str, typer.Option(help="removal or upweight.")] = "removal",
    measurement: Annotated[
        str, typer.Option(help="What is explained of a query: loss, margin or log-probability.")
    ] = "loss",
    inverse: Annotated[
        str | None, typer.Option(help="Of the curvature, by its name in upweight.inverse (default: chosen).")
    ] = None,
    damping: Annotated[
        str | None, typer.Option(help="δ of the curvature: a number, or auto (default: the inverse's own).")
    ] = None,
    renormalize: Annotated[
        bool, typer.Option("--renormalize", help="The mean is taken over the n−1 examples left.")
    ] = False,
    leverage_corrected: Annotated[
        bool, typer.Option("--leverage-corrected", help="Divide out each example's leverage.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="Of the factors of products: float32, tf32 or bfloat16.")
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Training examples that are done and kept at a time (default: by memory).")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns", help="A column of the study's table, or label, to be kept beside the scores; repeat it "
            "(default: all; none: none)."
        ),
    ] = None,
    force: Force = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=LARGEST_SEED, help="Of the inverse's random choices.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Also write a page, .html: the first queries with their examples, texts and columns."),
    ] = None,
    tokens: ByToken = None,
    workers: Workers = None,
    ray: Ray = None,
    slurm: Slurm = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Score the training examples of a study for its queries, into a folder that `upweight query` reads.

    The work is done in shards of training examples, each kept as soon as it is done: after Ctrl-C, a kill or a full
    disk `upweight resume DIR` goes on where it was. A finished job is shown, and not done again.
    """
    with session(as_json, quiet) as run:
        from upweight import files
        from upweight.cli.job import go_on, show
        from upweight.cli.job_options import who
        from upweight.cli.study_file import refuse_other
        from upweight.jobs.begun import Begun
        from upweight.jobs.of_study import digest
        from upweight.store.backend import backend

        refuse_other(study)
        options: dict[str, Any] = {
            "self_influence": self_influence,
            "quantity": quantity,
            "measurement": measurement,
            "inverse": inverse,
            "damping": damping_of(damping),
            "renormalize": renormalize,
            "leverage_corrected": leverage_corrected,
            "precision": precision,
            "top_k": top_k,
            "shard_size": shard_size,
            "columns": columns or None,
            "seed": seed,
        }
        check(options)
        place = backend(out, "--out")
        begun = Begun(
            study=str(study.absolute()),
            digest=digest(study),
            folder=str(Path.cwd()),
            options=options,
            who={"workers": workers, "ray": ray, "slurm": slurm},
        )
        page = None if report is None else planned(report, study, force)
        begun.refuse_other(place)
        executor = who(workers, ray, slurm, str(place))
        done = go_on(run, begun, place, executor)
        made = None if page is None else make_page(run, done, options, study.name, tokens)
        show(run, done.stored, place)
        if page is not None and made is not None:
            files.write(page, made.html(), replace=force)
            run.files["report"] = page


def planned(report: Path, study: Path, force: bool) -> Path:
    """The page's place, checked before the work.

    Raises
    ------
    InputError
        If it is no name of a page, or in the way of another file.
    """
    from upweight.cli.outputs import REPORT, plan_file
    from upweight.errors import InputError

    if report.suffix.lower() != REPORT:
        raise InputError(f"--report: {report} is no name of a page; give one that ends in {REPORT}")
    return plan_file(report, "--report", inputs=[study], force=force).absolute()


def make_page(run: Session, done: Done, options: dict[str, Any], name: str, tokens: bool | None) -> Report:
    """The first queries with their examples; tokens coloured where the study says what they are, or they are asked for.

    Raises
    ------
    InputError
        If tokens are asked for, and there are none.
    """
    from upweight.cli.query import kept
    from upweight.cli.scores_page import EXAMPLES, QUERIES, Predicted, scores_page, tokens_by_query
    from upweight.cli.texts import framed
    from upweight.errors import InputError
    from upweight.frameworks.shown import columns_like
    from upweight.tasks.token_explanation import has_tokenizer

    study, stored = done.study, done.stored
    is_known = study.tokens is not None or has_tokenizer(study.objective)
    corrected = [name for name in ("renormalize", "leverage_corrected") if options[name]]
    if tokens and corrected:
        raise InputError(f"--tokens: scores by token don't go with --{corrected[0].replace('_', '-')}; leave one out")
    rows = range(min(stored.shape[0], QUERIES)) if len(stored.shape) > 1 else range(0)
    k, found = min(EXAMPLES, kept(stored, None)), None
    if rows and tokens is not False and (is_known or tokens) and not corrected:
        run.stage("scoring tokens")
        try:
            found = tokens_by_query(done, options, rows, k)
        except InputError as error:
            if tokens:
                raise
            run.warnings.append(f"tokens can't be scored: {error}")
    try:
        predicted = Predicted.of(done, rows, k)
    except InputError as error:  # more classes than names
        predicted = None
        run.warnings.append(f"labels and predictions can't be said: {error}")
    known = framed(columns_like(study.objective, study.queries)) if study.query_table is None else study.query_table
    return scores_page(
        stored,
        f"Scores: {name}",
        rows or None,
        k,
        known=known,
        tokens=found,
        predicted=predicted,
        warnings=run.warnings,
    )


def damping_of(words: str | None) -> float | str | None:
    """A number, or the name of a rule that gives one.

    Raises
    ------
    InputError
        If it is neither.
    """
    from upweight import scalars
    from upweight.errors import InputError

    if words is None or words == "auto":
        return words
    try:
        return scalars.number("--damping", float(words), least=0)
    except ValueError:
        raise InputError(f"--damping: give a number ≥ 0, or auto; got {words!r}") from None


def check(options: dict[str, Any]) -> None:
    """Refuse, before the study is read, what no study could make possible.

    Raises
    ------
    InputError
        Names the option.
    """
    from upweight import scalars
    from upweight.cli.job import INVERSES
    from upweight.errors import InputError

    scalars.one_of("--quantity", options["quantity"], ("removal", "upweight"))
    scalars.one_of("--measurement", options["measurement"], ("loss", "margin", "log-probability"))
    if options["inverse"] is not None:
        scalars.one_of("--inverse", options["inverse"], INVERSES)
    if options["precision"] is not None:
        scalars.one_of("--precision", options["precision"], ("float32", "tf32", "bfloat16"))
    if options["self_influence"] and (options["quantity"], options["measurement"]) != ("removal", "loss"):
        raise InputError("--self-influence: is the removal of an example for its own loss; leave out --quantity and --measurement")  # noqa: E501  # fmt: skip
