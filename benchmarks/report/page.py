"""Write the report: one HTML file without scripts and external resources, for screens, phones and paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synergy.benchmarks.report.charts import require_packages
from synergy.benchmarks.report.collect import ReportData, ReportOptions, collect
from synergy.benchmarks.report.context import margin, milliseconds, page_context, sci, shape, without_folders
from synergy.runtime.errors import MediaError
from synergy.runtime.files import write_file
from synergy.runtime.text import counted, printable

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATE = "report.html.j2"
STYLE = Path(__file__).parent.parent / "assets" / "report.css"
CHARTS = ("accuracy_chart", "latency_chart", "size_chart")


def write_report(folder: Path, out: Path, options: ReportOptions, progress: Callable[[float, str], None]) -> ReportData:
    """Measure the bundle and write the page, whole or not at all.

    Raises as `collect`, MediaError if `out` is a folder, FileWriteError if the page cannot be written,
    ModuleNotFoundError without Jinja2 or Matplotlib.
    """
    if out.is_dir():
        raise MediaError(f"{out} is a folder: name a file, for example {out / 'report.html'}")
    require_packages("jinja2", "matplotlib")
    data = collect(folder, options, progress)
    write_file(out, render(data).encode())
    return data


def render(data: ReportData) -> str:
    """The page as HTML. Text is escaped and loses the folders in it; style sheet and charts are markup already."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"counted": counted, "margin": margin, "milliseconds": milliseconds, "sci": sci, "shape": shape}
    environment.filters.update(filters, breakable=_breakable)
    context = page_context(data)
    markup = {name: Markup(context[name]) for name in CHARTS if context.get(name)}
    return environment.get_template(TEMPLATE).render({**context, **markup, "style": Markup(STYLE.read_text())})


def _shown(value: Any) -> Any:
    """Text without folders and control characters; markup and numbers as they are."""
    return printable(without_folders(value), keep="\n") if type(value) is str else value


def _breakable(text: str) -> Markup:
    """A file name that may be broken after its dots."""
    from markupsafe import Markup

    return Markup(".<wbr>").join(text.split("."))
