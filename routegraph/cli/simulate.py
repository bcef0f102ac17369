"""The command `simulate`."""

from __future__ import annotations

from typing import Annotated

import typer

from routegraph.cli.options import Json, Out, Plot, Ratios, Seed, count, real, share
from routegraph.cli.terminal import (
    check_outputs,
    compiling,
    console,
    draw,
    hand_over,
    parse_settings,
    progress,
)


def simulate(
    n_tokens: Annotated[int, count("Cache rows; the query is one more position after them.")] = 4096,
    ratio: Ratios = [0.9],  # noqa: B006
    n_layers: Annotated[int, count("Layers.")] = 32,
    n_heads: Annotated[int, count("KV heads a layer.")] = 8,
    degree: Annotated[int, count("Reads of each (layer, KV head, token).")] = 1,
    ensemble: Annotated[str, typer.Option(metavar="NAME", help="Where the reads fall.")] = "uniform",
    policy: Annotated[str, typer.Option(metavar="NAME", help="Which rows are evicted first.")] = "random",
    score_correlation: Annotated[
        float,
        typer.Option(parser=real, metavar="RHO", help="Correlation of a token's scores between slots."),
    ] = 0.0,
    prune: Annotated[str, typer.Option(metavar="NAME", help="columns or decode.")] = "columns",
    residual: Annotated[bool, typer.Option(help="Let a token carry itself down a layer.")] = True,
    n_answers: Annotated[int, count("Answer tokens drawn in each replicate.")] = 8,
    group_size: Annotated[int, count("Query heads per KV head.")] = 1,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Agreement of heads by depth: flat, llama, qwen, given.")
    ] = "flat",
    correlation_floor: Annotated[
        float, share("Share of the correlation that all layers have in common.")
    ] = 1.0,
    correlation_length: Annotated[float, share("Layers over which the rest of it decays.")] = 10.0,
    read_agreement: Annotated[float, share("How far heads that agree also read alike.")] = 0.0,
    attention_tie: Annotated[float, share("Correlation of the scores with how often a slot is read.")] = 0.0,
    answer_shift: Annotated[float, share("Standard deviations added to the answer tokens' scores.")] = 0.0,
    source: Annotated[
        str, typer.Option(metavar="NAME", help="Where routes start: query, or row (all of the top layer).")
    ] = "query",
    directed: Annotated[
        bool, typer.Option("--directed/--undirected", help="Routes go from query to key only.")
    ] = True,
    replicates: Annotated[int, count("Independent graphs.")] = 32,
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
        from routegraph.sim.simulation import plot_simulation

        draw(plot_simulation(result), plot)
    if hand_over(result.to_dict(), json_, out):
        from routegraph.sim import tables

        tables.simulation(console(), result)
