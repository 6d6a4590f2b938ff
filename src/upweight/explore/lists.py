"""The two long lists of a page, queries and training examples: AG Grid that asks the server for the rows in sight."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui

from upweight.explore.examples import SUGGESTED, VALUE
from upweight.explore.view import DECISION, FLAG, ID, NUMBER, Column, names_something

BLOCK = 100
"""Rows that are asked for at a time."""
WAIT = 120
"""Milliseconds after the last letter of a filter or a search."""
FILTERS = {NUMBER: "agNumberColumnFilter"}
SOURCE = """({
  getRows: asked => fetch("rows/%s/%s?" + new URLSearchParams({
    start: asked.startRow, stop: asked.endRow, sort: JSON.stringify(asked.sortModel),
    filters: JSON.stringify(asked.filterModel),
  })).then(answer => answer.ok ? answer.json() : Promise.reject(answer.status))
    .then(found => {
      asked.successCallback(found.rows, found.count);
      const api = getElement(%s).api;
      if (found.count) api.hideOverlay(); else api.showNoRowsOverlay();
    }, () => asked.failCallback())
})"""
NAMES = "p => p.value == null ? '' : String(p.value)"
"""Numbers that name something, with which nothing is reckoned."""
WHOLE = "p => p.value == null ? '' : p.value.toLocaleString('en', {maximumFractionDigits: 15})"
FIGURES = """p => {
  if (p.value == null) return '';
  const size = Math.abs(p.value), digits = size < 1 ? 3 : Math.max(3, Math.floor(Math.log10(size)) + 1);
  if (Number.isInteger(p.value)) return p.value.toLocaleString('en');
  return size < 1e-4 || size >= 1e9 ? p.value.toPrecision(3) : p.value.toLocaleString('en', {
    minimumSignificantDigits: digits, maximumSignificantDigits: digits });
}"""
WIDTHS = {ID: 96, DECISION: 120}


def grid(key: str, side: str, columns: Sequence[Column], chosen: Callable[[int], Any]) -> ui.aggrid:
    """A list whose rows, their order and filters are the server's; a click on a row calls ``chosen`` with its position.

    Parameters
    ----------
    key
        Of the page that asks for rows.
    side
        ``train`` or ``queries``.
    """
    made = ui.aggrid(
        {
            "columnDefs": [_column(each) for each in columns],
            "defaultColDef": {"sortable": True, "resizable": True, "floatingFilter": True, "minWidth": 60},
            "rowModelType": "infinite",
            "rowHeight": 34,
            "headerHeight": 38,
            "floatingFiltersHeight": 38,
            "cacheBlockSize": BLOCK,
            "maxBlocksInCache": 20,
            "blockLoadDebounceMillis": 30,
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "suppressColumnVirtualisation": False,
            ":getRowId": "p => String(p.data.at)",
            "overlayNoRowsTemplate": "none is like that",
        },
        auto_size_columns=False,
    ).classes(f"grid {side}")
    made.options[":datasource"] = SOURCE % (key, side, made.id)

    def clicked(event: Any) -> None:
        data = event.args.get("data") or {}
        if isinstance(data.get("at"), int):
            chosen(data["at"])

    made.on("cellClicked", clicked, ["data"])
    return made


def renew(made: ui.aggrid) -> None:
    """Ask for the rows that are in sight again, where they are."""
    made.run_grid_method("refreshInfiniteCache")


def restart(made: ui.aggrid) -> None:
    """Ask anew, from the top."""
    made.run_grid_method("purgeInfiniteCache")


def show(made: ui.aggrid, position: int, place: int | None) -> None:
    """Bring a row into sight and mark it; ``place`` is its number in the list as it is."""
    if place is None:
        return
    name = json.dumps(str(position))
    ui.run_javascript(
        f"(api => {{ if (!api) return; api.ensureIndexVisible({int(place)}); setTimeout(() => "
        f"api.getRowNode({name})?.setSelected(true, true), 60); }})(getElement({made.id})?.api)"
    )


def _column(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {
        "field": column.key,
        "colId": column.key,
        "headerName": column.name,
        "filterParams": {"debounceMs": WAIT},
        "filter": FILTERS.get(column.kind, "agTextColumnFilter"),
        "width": WIDTHS.get(column.name, 105 if column.kind == NUMBER else 100),
    }
    if column.kind == NUMBER and column.name != ID:
        written = WHOLE if column.name in (VALUE, SUGGESTED) else NAMES if names_something(column) else FIGURES
        found |= {":valueFormatter": written, "type": "rightAligned"}
    if column.kind == FLAG:
        found |= {":valueFormatter": f"p => p.value ? {json.dumps(column.name)} : ''", "cellDataType": False}
    return found
