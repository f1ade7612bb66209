"""The report's plots as Plotly figures in JSON; axes and text take the page's light or dark theme there."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from mmssl.report.collect import EmbeddingMap, Stage

PALETTE = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951",
    "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
)  # fmt: skip
"""Categorical colours that stay apart on white and on near-black (Observable 10)."""

AXES = {"data_wait": {"tickformat": ".0%", "rangemode": "tozero"}, "std": {"rangemode": "tozero"}}
"""Value axes that are not Plotly's own choice."""

POINTS = 400
"""A curve keeps at most so many points."""

TITLES = {
    "loss": "loss",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "images_per_s": "images / s",
    "data_wait": "time waiting for data",
    "rankme": "RankMe",
    "std": "spread (std × √d)",
}
"""What log values are called; others keep their own name, with spaces."""


def curves(stage: Stage) -> list[dict[str, Any]]:
    """One small figure for each value a training stage has logged, the most telling first."""
    series = {name: [(line["step"], line.get(name)) for line in stage.log] for name in ("loss",)}
    for group in ("health", "parts"):
        for name in dict.fromkeys(key for line in stage.log for key in line.get(group, {})):
            series[name] = [(line["step"], line.get(group, {}).get(name)) for line in stage.log]
    for name in ("images_per_s", "data_wait", "lr", "grad_norm"):
        series[name] = [(line["step"], line.get(name)) for line in stage.log]
    kept = {name: [(x, y) for x, y in pairs if isinstance(y, int | float)] for name, pairs in series.items()}
    return [_curve(name, pairs) for name, pairs in kept.items() if pairs]


def _curve(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    stride = -(-len(pairs) // POINTS)
    pairs = [*pairs[:-1][::stride], pairs[-1]]
    line = go.Scatter(
        x=[x for x, _ in pairs],
        y=[y for _, y in pairs],
        mode="lines+markers" if len(pairs) < 4 else "lines",
        line={"width": 1.8, "color": PALETTE[0]},
        hovertemplate="step %{x}<br>%{y:.4~g}<extra></extra>",
    )
    title = {"text": TITLES.get(name, name.replace("_", " ")), "x": 0.02, "y": 0.97, "yanchor": "top"}
    layout = go.Layout(
        title=title,
        height=168,
        margin={"l": 44, "r": 8, "t": 30, "b": 26},
        xaxis={"nticks": 4},
        yaxis={"nticks": 4, "zeroline": False, **AXES.get(name, {"tickformat": "~g"})},
        showlegend=False,
        template="none",
    )
    return as_json(go.Figure(line, layout))


def lines(figure: dict[str, Any]) -> dict[str, Any]:
    """Quantities along one axis, dotted the untrained network, dashed chance; bars where there is a range."""
    x, series = figure["x"], figure["series"]
    drawn = go.Figure(
        layout=go.Layout(
            title={"text": figure["title"], "x": 0.02, "y": 0.97, "yanchor": "top"},
            height=320,
            margin={"l": 56, "r": 12, "t": 58, "b": 44},
            xaxis={"title": {"text": figure["x_label"], "standoff": 6}, "nticks": 8, "zeroline": False},
            yaxis={"title": {"text": figure["y_label"], "standoff": 6}, "nticks": 6, "rangemode": "tozero"},
            hovermode="x unified",
            showlegend=True,
            legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
            template="none",
        )
    )
    for number, (name, values) in enumerate(series.items()):
        colour = PALETTE[number % len(PALETTE)]
        drawn.add_scatter(
            x=x,
            y=values,
            name=name,
            mode="lines+markers" if len(x) <= 24 else "lines",
            line={"width": 1.8, "color": colour},
            marker={"size": 6, "color": colour},
            hovertemplate="%{y:.4~g}",
            error_y=_bars(values, figure.get("range", {}).get(name)),
        )
    for name, dash in (("untrained", "dot"), ("chance", "dash")):
        if figure[name] is not None:
            drawn.add_scatter(
                x=x,
                y=figure[name],
                name=name,
                mode="lines",
                line={"width": 1.5, "color": "#888", "dash": dash},
                hovertemplate="%{y:.4~g}",
            )
    if len(x) <= 12 and all(float(at).is_integer() for at in x):
        drawn.update_xaxes(tickvals=x)
    return as_json(drawn)


def _bars(
    values: Sequence[float | None], ranges: Sequence[Sequence[float] | None] | None
) -> dict[str, Any] | None:
    """From the least to the greatest of what each value is the mean of; None where there is no range."""
    if ranges is None or not any(ranges):
        return None
    pairs = [
        (one[1] - value, value - one[0]) if one else (0.0, 0.0)
        for one, value in zip(ranges, (value or 0.0 for value in values), strict=True)
    ]
    up, down = zip(*pairs, strict=True)
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 4}


def scatter(map_: EmbeddingMap, label: str) -> dict[str, Any]:
    """The embedding map coloured by one label; ``customdata`` is the sample's position in the map."""
    points = map_.points
    names = points.get("classes", {}).get(label, [])
    values = points["labels"].get(label, [0] * len(points["x"]))
    figure = go.Figure(
        layout=go.Layout(
            height=560,
            margin={"l": 8, "r": 8, "t": 8, "b": 8},
            xaxis={"visible": False},
            yaxis={"visible": False, "scaleanchor": "x"},
            hovermode="closest",
            legend={"itemsizing": "constant"},
            template="none",
        )
    )
    for value in sorted(set(values)):
        rows = [row for row, own in enumerate(values) if own == value]
        name = names[value] if 0 <= value < len(names) else "no label" if value < 0 else str(value)
        figure.add_scatter(
            x=[points["x"][row] for row in rows],
            y=[points["y"][row] for row in rows],
            customdata=rows,
            name=name,
            mode="markers",
            marker={
                "size": 6,
                "opacity": 0.85,
                "color": PALETTE[value % len(PALETTE)] if value >= 0 else "#888",
            },
            hoverinfo="none",
        )
    return as_json(figure)


def as_json(figure: go.Figure) -> dict[str, Any]:
    """A figure's data and layout as plain values."""
    plain: dict[str, Any] = figure.to_plotly_json()
    plain["layout"].pop("template", None)
    return {"data": list(plain["data"]), "layout": plain["layout"]}
