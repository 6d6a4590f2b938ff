"""The matrix of a sketch, entry by entry from its definition."""

import torch

from problems import DOUBLE


def matrix_of(sketch, layout):
    """P ``[p, k]`` in float64: in each part a sign over √parts, at the sum of the places of the row and the column."""
    rows = []
    for name in layout.names:
        places = sketch.places[name]
        for i in range(places.rows.shape[1]):
            for j in range(places.columns.shape[2]):
                entry = torch.zeros(sketch.parts, sketch.length, dtype=DOUBLE)
                for part in range(sketch.parts):
                    other = part, int(places.group[i]), j
                    place = (int(places.rows[part, i]) + int(places.columns[other])) % sketch.length
                    minus = int(places.row_signs[part, i]) + int(places.column_signs[other]) == 1
                    entry[part, place] = -1.0 if minus else 1.0
                rows.append(entry.flatten() / sketch.parts**0.5)
    return torch.stack(rows)
