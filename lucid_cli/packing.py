"""`--pack`: all inputs to one output."""

from pathlib import Path

from lucid.errors import LucidError
from lucid.packs import pack
from lucid_cli.batch import DASH, end, show_summary
from lucid_cli.one_output import make_output
from lucid_cli.outcomes import Outcomes
from lucid_cli.request import Request, refuse


def run_pack(request: Request) -> int:
    """Pool the inputs into one output; the exit status."""
    _check(request)
    assert request.pack is not None
    name = request.pack
    outcomes = Outcomes(as_json=request.as_json, keeps_all=request.verbose)
    done = make_output(name, 0, request, outcomes, pack, request.inputs, Path(name), request.options)
    if done is None:
        return end(outcomes)
    for source, reason in done.left_out.items():
        outcomes.leave_out(source, reason)
    for source, failure in done.failures.items():
        outcomes.fail(source, failure)
    if done.report is not None:
        outcomes.add(done.report)
    else:
        outcomes.fail(name, LucidError(f"is not made, since {len(done.failures):,} of its inputs failed"))
    show_summary(outcomes, request)
    return end(outcomes)


def _check(request: Request) -> None:
    """Raise for what does not go with a pack."""
    refuse(
        (not request.inputs or DASH in request.inputs, "--pack needs files or folders as inputs"),
        (request.output is not None, "--pack names the output; choose it or --output"),
        (request.output_dir is not None, "--pack is one output; choose it or --output-dir"),
        (request.dask is not None, "--pack is made by one machine; choose it or --dask"),
        (request.options.resume, "--pack is made whole; choose it or --resume"),
        (request.options.slice is not None, "--pack is made whole; choose it or --slice"),
        (request.preview, "--preview shows one input; choose it or --pack"),
        (not request.options.sizes, "Missing option '-s' / '--size'; expected the output grid"),
    )
