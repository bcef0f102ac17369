"""The command line: typer for arguments, rich for tables; results to stdout, everything else to stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.terminal import (
    check_outputs,
    compiling,
    console,
    draw,
    hand_over,
    note,
    parse_settings,
    print_json,
    progress,
    run,
)

app = typer.Typer(
    name="routegraph",
    help="How far can a KV cache be compressed before its routes break?",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
model_app = typer.Typer(help="Models that need no hub.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(model_app, name="model")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"must be a whole number, got {text!r}") from None


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number, got {text!r}") from None


def _count(help: str) -> Any:
    return typer.Option(parser=_whole, metavar="N", help=help)


def _share(help: str) -> Any:
    return typer.Option(parser=_real, metavar="X", help=help)


Ratios = Annotated[
    list[float], typer.Option(parser=_real, metavar="RATIO", help="Compression ratio in [0, 1); repeatable.")
]
Seed = Annotated[int, _count("Seed of all random numbers.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of tables.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a figure (pdf, svg or png).")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON document here.")]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Known name, local folder, GGUF file, or hub id.")
]
QuestionAware = Annotated[bool, typer.Option("--question-aware", help="Let the scores know the question.")]
Dtype = Annotated[str, typer.Option(metavar="NAME", help="float32 or bfloat16.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu or cuda.")]
Threads = Annotated[int | None, _count("Threads of torch; half of the cores by default.")]
Tasks = Annotated[
    list[str],
    typer.Option(metavar="NAME", help="A task, a JSONL file of prompts, or 'bundled'; repeatable."),
]
Items = Annotated[int | None, _count("Items of each task; by default 100 of a task, all of a file.")]
Length = Annotated[int | None, _count("Length of a task's contexts in tokens; the task's own by default.")]
ReplyLength = Annotated[int | None, _count("Length of the longest reply.")]
ChunkLength = Annotated[int, _count("Rows of a chunk of the policy chunk.")]


def _version(value: bool) -> None:
    if value:
        from routegraph import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Command group."""


@app.command()
def simulate(
    n_tokens: Annotated[int, _count("Cache rows; the query is one more position after them.")] = 4096,
    ratio: Ratios = [0.9],  # noqa: B006
    n_layers: Annotated[int, _count("Layers.")] = 32,
    n_heads: Annotated[int, _count("KV heads a layer.")] = 8,
    degree: Annotated[int, _count("Reads of each (layer, KV head, token).")] = 1,
    ensemble: Annotated[str, typer.Option(metavar="NAME", help="Where the reads fall.")] = "uniform",
    policy: Annotated[str, typer.Option(metavar="NAME", help="Which rows are evicted first.")] = "random",
    score_correlation: Annotated[
        float,
        typer.Option(parser=_real, metavar="RHO", help="Correlation of a token's scores between slots."),
    ] = 0.0,
    prune: Annotated[str, typer.Option(metavar="NAME", help="columns or decode.")] = "columns",
    residual: Annotated[bool, typer.Option(help="Let a token carry itself down a layer.")] = True,
    n_answers: Annotated[int, _count("Answer tokens drawn in each replicate.")] = 8,
    group_size: Annotated[int, _count("Query heads per KV head.")] = 1,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Agreement of heads by depth: flat, llama, qwen, given.")
    ] = "flat",
    correlation_floor: Annotated[
        float, _share("Share of the correlation that all layers have in common.")
    ] = 1.0,
    correlation_length: Annotated[float, _share("Layers over which the rest of it decays.")] = 10.0,
    read_agreement: Annotated[float, _share("How far heads that agree also read alike.")] = 0.0,
    attention_tie: Annotated[float, _share("Correlation of the scores with how often a slot is read.")] = 0.0,
    answer_shift: Annotated[float, _share("Standard deviations added to the answer tokens' scores.")] = 0.0,
    source: Annotated[
        str, typer.Option(metavar="NAME", help="Where routes start: query, or row (all of the top layer).")
    ] = "query",
    directed: Annotated[
        bool, typer.Option("--directed/--undirected", help="Routes go from query to key only.")
    ] = True,
    replicates: Annotated[int, _count("Independent graphs.")] = 32,
    seed: Seed = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Parameter of the ensemble or policy; repeatable."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further measure on the stored graph; repeatable."),
    ] = None,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
) -> None:
    """Simulate token-attention graphs under eviction, theory beside it."""
    check_outputs(plot, out)
    settings = parse_settings(setting or [])
    from routegraph.sim.simulation import simulate as run_simulation

    with progress("replicates", compiling()) as advance:
        result = run_simulation(
            n_tokens,
            ratio,
            n_layers=n_layers,
            n_heads=n_heads,
            degree=degree,
            ensemble=ensemble,
            policy=policy,
            score_correlation=score_correlation,
            prune=prune,
            residual=residual,
            n_answers=n_answers,
            group_size=group_size,
            profile=profile,
            correlation_floor=correlation_floor,
            correlation_length=correlation_length,
            read_agreement=read_agreement,
            attention_tie=attention_tie,
            answer_shift=answer_shift,
            source=source,
            directed=directed,
            replicates=replicates,
            seed=seed,
            settings=settings,
            measures=measure or (),
            progress=advance,
        )
    if plot is not None:
        from routegraph.sim.figures import plot_simulation

        draw(plot_simulation(result), plot)
    if hand_over(result.to_dict(), json_, out):
        from routegraph import views

        views.simulation(console(), result)


@model_app.command("list")
def model_list(json_: Json = False) -> None:
    """Show the models that need no hub."""
    from routegraph.validate import models

    found = models.model_list()
    if json_:
        print_json(found)
        return
    from routegraph.views import Grid

    rows = [
        [m["name"], m["summary"], m["licence"], f"{m['megabytes']} MB", "yes" if m["cached"] else "no"]
        for m in found
    ]
    columns = ["name", "what it is", "licence", "disk", "cached"]
    console().print(Grid(columns, rows, right_from=3).to_rich())


@model_app.command("get")
def model_get(name: Annotated[str, typer.Argument(metavar="NAME", help="One of `model list`.")]) -> None:
    """Fetch a model into the cache folder and convert it once; prints where it is."""
    from routegraph.validate import models

    with progress(f"model {name}") as advance:
        folder = models.get_model(name, progress=advance)
    typer.echo(folder)


@app.command()
def extract(
    model: Model,
    prompts: Annotated[
        str, typer.Option(metavar="FILE", help="JSONL, one prompt a line; 'bundled': the ones that ship.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Trace file to write.")],
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What rows are scored by, NAME/chunk64 by chunks; repeatable; expected_attention by default.",
        ),
    ] = None,
    chunk_length: Annotated[int, _count("Rows of a chunk scored by itself.")] = 64,
    limit: Annotated[int | None, _count("Only the first N prompts.")] = None,
    graphs: Annotated[bool, typer.Option("--graphs", help="Keep the read graphs, too.")] = False,
    question_aware: QuestionAware = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Prefill each prompt once and write the scores of every (layer, KV head, token)."""
    from routegraph.validate.extract import SCORERS, extract_to_file
    from routegraph.validate.models import use_threads

    use_threads(threads)
    with progress("prompts") as advance:
        traces = extract_to_file(
            model,
            prompts,
            out,
            chunk_length=chunk_length,
            limit=limit,
            dtype=dtype,
            device=device,
            progress=advance,
            graphs=graphs,
            scorers=scorer or SCORERS,
            question_aware=question_aware,
        )
    rows = sum(trace.n_context for trace in traces)
    note(f"wrote {out}: {len(traces)} prompts, {rows} tokens")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result of simulate --out, or a trace.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="Ends in .graphml, .json or .csv.")],
    replicate: Annotated[int, _count("Which replicate of a simulation.")] = 0,
    limit: Annotated[int | None, _count("Only the first N prompts of a trace.")] = None,
) -> None:
    """Write a simulated graph or a trace's scores for other programs."""
    from routegraph.export import export as run_export

    rows = run_export(file, to, replicate, limit)
    note(f"wrote {to}: {rows} rows")


@app.command("list")
def list_(json_: Json = False) -> None:
    """Show what is registered: policies, ensembles, observables, scorers, model families, tasks."""
    from routegraph.policies import policies
    from routegraph.sim.ensembles import ensembles
    from routegraph.sim.measures import measures
    from routegraph.sim.observables import observables
    from routegraph.sim.profiles import profiles
    from routegraph.validate.families import families
    from routegraph.validate.scorers import SCORERS
    from routegraph.validate.tasks import tasks

    registries = (policies, ensembles, profiles, observables, measures, SCORERS, families, tasks)
    if json_:
        print_json(
            {
                registry.kind: {
                    name: {"summary": registry.summary(name), "parameters": registry.parameters(name)}
                    for name in registry
                }
                for registry in registries
            }
        )
        return
    from routegraph.views import Grid

    for registry in registries:
        rows = []
        for name in registry:
            parameters = ", ".join(f"{k}={v}" for k, v in registry.parameters(name).items())
            rows.append([name, registry.summary(name), parameters])
        console().print(Grid([registry.kind, "what it does", "parameters"], rows, right_from=3).to_rich())
        console().print()


import routegraph.cli_claims  # noqa: E402  (registers claims)
import routegraph.cli_compare  # noqa: E402  (registers compare, report)
import routegraph.cli_inspect  # noqa: E402  (registers inspect)
import routegraph.cli_measure  # noqa: E402  (registers measure)
import routegraph.cli_probe  # noqa: E402  (registers probe)
import routegraph.cli_sweep  # noqa: E402  (registers sweep, fit, replay)
import routegraph.cli_task  # noqa: E402  (registers task)
import routegraph.cli_train  # noqa: E402, F401  (registers model train)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    run(app, arguments)
