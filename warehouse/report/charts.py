"""The charts of the report as plotly figures. Texts from records are escaped: plotly reads a little HTML in labels."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from warehouse.report.facts import Facts, Row

SEVERITY_COLOURS = {"INFO": "#7c9fc9", "WARN": "#e0a02b", "CRITICAL": "#d1453b"}
DOMAIN_COLOURS = {
    "device": "#8d6cc4",
    "connectivity": "#3b7dd8",
    "account": "#e0a02b",
    "application": "#2f9e8f",
    "platform": "#d1453b",
}
# Adjacent colours differ in lightness too, so that neighbours in a stack are told apart without seeing hue.
_CATEGORY_COLOURS = (
    "#3b7dd8", "#8fc1f0", "#2f9e8f", "#a5d9a0", "#e0a02b", "#f3d48a", "#8d6cc4", "#cdb8ea", "#d1453b", "#f0a79f",
    "#8b949e",
)  # fmt: skip
_NEUTRAL = "#8b949e"
_LONGEST_LABEL = 34


def plain(text: Any) -> str:
    """A text from a record as a label of a chart: shown as it is, shortened, never read as markup."""
    words = str(text)
    shortened = words if len(words) <= _LONGEST_LABEL else words[: _LONGEST_LABEL - 1] + "…"
    return html.escape(shortened, quote=False)


def charts(facts: Facts) -> dict[str, str]:
    """The figures as JSON by name; a figure without data is left out."""
    figures = {
        "severities": _stacked(facts.severities, list(SEVERITY_COLOURS), SEVERITY_COLOURS),
        "categories": _stacked(facts.categories, _by_size(facts.categories), {}),
        "reasons": _reasons(facts.reasons),
        "usage": _usage(facts.usage_over_time),
        "countries": _countries(facts.countries),
    }
    return {name: figure.to_json() for name, figure in figures.items() if figure is not None}


def _by_size(rows: Sequence[Row]) -> list[str]:
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row["name"]] = sizes.get(row["name"], 0) + row["events"]
    return sorted(sizes, key=lambda name: (-sizes[name], str(name)))


def _stacked(rows: Sequence[Row], names: Sequence[str], colours: dict[str, str]) -> go.Figure | None:
    """Bars over time, one colour per name; names that are not listed are stacked last."""
    if not rows:
        return None
    unlisted = sorted({str(row["name"]) for row in rows} - set(names))
    bars = []
    for index, name in enumerate([*names, *unlisted]):
        own = [row for row in rows if str(row["name"]) == name]
        if own:
            colour = colours.get(name, _CATEGORY_COLOURS[index % len(_CATEGORY_COLOURS)])
            label = plain(name.replace("_", " "))
            bars.append(
                go.Bar(
                    x=[row["time"].strftime("%Y-%m-%d %H:%M") for row in own],
                    y=[row["events"] for row in own],
                    name=label,
                    marker={"color": colour, "line": {"width": 0}},
                    hovertemplate=f"%{{x|%d %b %H:%M}}<br>{label}: %{{y:,}}<extra></extra>",
                )
            )
    return go.Figure(bars, _layout(barmode="stack", bargap=0.12, showlegend=True))


def _reasons(rows: Sequence[Row]) -> go.Figure | None:
    """Rejections by reason, the most frequent on top, coloured by domain."""
    if not rows:
        return None
    shown = rows[:12]
    order = [_words(row["reason"]) for row in reversed(shown)]
    bars = []
    for domain in dict.fromkeys(row["domain"] for row in shown):
        own = [row for row in shown if row["domain"] == domain]
        bars.append(
            go.Bar(
                y=[_words(row["reason"]) for row in own],
                x=[row["events"] for row in own],
                orientation="h",
                name=plain(domain or "no domain"),
                marker={"color": DOMAIN_COLOURS.get(domain, _NEUTRAL)},
                customdata=[[row["devices"]] for row in own],
                hovertemplate="%{y}<br>%{x:,} rejections, %{customdata[0]:,} devices<extra></extra>",
            )
        )
    figure = go.Figure(bars, _layout(barmode="stack", bargap=0.3, showlegend=True, height=120 + 30 * len(order)))
    figure.update_yaxes(categoryorder="array", categoryarray=order, showgrid=False, automargin=True)
    figure.update_xaxes(showgrid=True)
    return figure


def _usage(rows: Sequence[Row]) -> go.Figure | None:
    if not rows:
        return None
    times = [row["time"].strftime("%Y-%m-%d %H:%M") for row in rows]
    bars = [
        go.Bar(
            x=times,
            # Heights of bars: the exact sums stand in the tables.
            y=[float(row[column] or 0) for row in rows],
            name=label,
            marker={"color": colour},
            hovertemplate=f"%{{x|%d %b %H:%M}}<br>{label}: %{{y:,.3f}} MB<extra></extra>",
        )
        for column, label, colour in (("received", "received", "#3b7dd8"), ("sent", "sent", "#8fc1f0"))
    ]
    figure = go.Figure(bars, _layout(barmode="stack", bargap=0.12, showlegend=True))
    figure.update_yaxes(tickformat=",", ticksuffix=" MB")
    return figure


def _countries(rows: Sequence[Row]) -> go.Figure | None:
    if not rows:
        return None
    labels = [plain(row["name"]) for row in reversed(rows)]
    bar = go.Bar(
        y=labels,
        x=[float(row["volume"]) for row in reversed(rows)],
        orientation="h",
        marker={"color": "#2f9e8f"},
        hovertemplate="%{y}: %{x:,.3f} MB<extra></extra>",
    )
    figure = go.Figure([bar], _layout(bargap=0.3, showlegend=False, height=110 + 28 * len(labels)))
    figure.update_yaxes(showgrid=False, automargin=True)
    figure.update_xaxes(showgrid=True, tickformat=",", ticksuffix=" MB")
    return figure


def _words(reason: str | None) -> str:
    return plain((reason or "no reason").replace("_", " "))


def _layout(**values: Any) -> go.Layout:
    """Transparent and without a colour of its own for text and grid: the page sets these by its theme."""
    base: dict[str, Any] = {
        "template": "none",
        "height": 300,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "traceorder": "normal"},
        "xaxis": {"automargin": True, "showgrid": False, "zeroline": False, "fixedrange": True},
        "yaxis": {"automargin": True, "zeroline": False, "rangemode": "tozero", "fixedrange": True},
    }
    return go.Layout({**base, **values})
