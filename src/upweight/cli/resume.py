"""`upweight resume`: go on with what `upweight attribute` began."""

from __future__ import annotations

from upweight.cli.job_options import Ray, Slurm, Store, Workers, place_of
from upweight.cli.options import AsJson, Quiet
from upweight.cli.session import session


def resume(
    store: Store,
    workers: Workers = None,
    ray: Ray = None,
    slurm: Slurm = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a job where it was, from its folder alone.

    What it was begun with is kept there: the study file, which is run again in the folder where the job began, and the
    options. A study that gives another model, data or queries than before is refused. --workers, --ray and --slurm take
    the place of those that the job was begun with.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.job import go_on, show
        from upweight.cli.job_options import who
        from upweight.errors import InputError
        from upweight.jobs.begun import begun

        place = place_of(store)
        found = begun(place)
        if found is None:
            raise InputError(
                f"{place}: was begun by a Python program, not by `upweight attribute`; run that again, with the same "
                "store="
            )
        if workers is None and ray is None and not slurm:
            workers, ray, slurm = (found.who.get(name) for name in ("workers", "ray", "slurm"))
        executor = who(workers, ray, slurm, str(place))
        show(run, go_on(run, found, place, executor).stored, place)
