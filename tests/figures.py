"""What a figure says, read from the figure itself."""

import matplotlib.text
from matplotlib.backends.backend_agg import FigureCanvasAgg


def texts(figure):
    FigureCanvasAgg(figure).draw()  # only drawing settles the tick labels and finds text that cannot be set
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def statistic(figure, name):
    note = next(text for text in texts(figure) if text.startswith("n = "))
    values = dict(part.split(" = ") for part in note.split(" · ") if " = " in part)
    return float(values[name].replace("−", "-").replace(",", ""))
