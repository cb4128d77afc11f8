"""A page as Markdown and as one self-contained HTML file. All that is written is escaped."""

from __future__ import annotations

import base64
import html as escaping
import os
import re
from pathlib import Path

from llmpred.report.tables import NOTHING, Page, Picture, Section, Table

_MARKS = re.compile(r"([\\`*_{}\[\]|#~$])")

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ page.title }}</title>
<style>
:root { color-scheme: light; --ink: #111827; --soft: #4b5563; --line: #e5e7eb; --blue: #1d4ed8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 1.5rem 1rem 4rem; color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC",
  "PingFang SC", "Microsoft YaHei", sans-serif; overflow-wrap: anywhere; background: #fff; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
p { margin: .5rem 0; }
.advice { border-left: 4px solid var(--blue); background: #eff6ff; padding: .75rem 1rem;
  margin: 1.5rem 0; font-weight: 600; }
.warnings { border-left: 4px solid #d97706; background: #fffbeb; padding: .5rem 1rem .5rem 2rem;
  margin: 1rem 0; }
.warnings li { margin: .25rem 0; }
.notes { color: var(--soft); font-size: .875rem; }
table { border-collapse: collapse; width: 100%; margin: 1.25rem 0 .25rem; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; font-size: 1rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: normal; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { padding-left: 0; }
td:first-child { overflow-wrap: anywhere; min-width: 9rem; }
.wide { overflow-x: auto; }
figure { margin: 1.5rem 0; }
figure img { max-width: min(100%, 860px); height: auto; display: block; }
figcaption { color: var(--soft); font-size: .875rem; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr));
  gap: 1rem; }
.small figure { margin: 0; }
@media (max-width: 720px) {
  thead { display: none; }
  table, caption, tbody, tr, td { display: block; width: 100%; }
  tr { border: 1px solid var(--line); border-radius: .4rem; padding: .4rem .7rem;
    margin-bottom: .6rem; }
  td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .12rem 0;
    text-align: right; overflow-wrap: anywhere; }
  td::before { content: attr(data-label); color: var(--soft); text-align: left; flex: none;
    max-width: 55%; }
  td:first-child { display: block; text-align: left; font-weight: 600; }
  td:first-child::before { content: none; }
  .nothing { display: none; }
}
</style>
</head>
<body>
<h1>{{ page.title }}</h1>
{% for text in page.lead %}<p>{{ text }}</p>
{% endfor %}
{% for section in page.sections %}
<h2>{{ section.title }}</h2>
{% for text in section.lead %}<p>{{ text }}</p>
{% endfor %}
{% if section.warnings %}<ul class="warnings">
{% for text in section.warnings %}<li>{{ text }}</li>
{% endfor %}</ul>{% endif %}
{% for table in section.tables %}
<div class="wide"><table>
<caption>{{ table.title }}</caption>
<thead><tr>{% for column in table.columns %}
<th{% if column.kind != "text" %} class="number"{% endif %}>{{ column.name }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in table.written() %}<tr>{% for cell in row %}
{% set column = table.columns[loop.index0] %}
<td class="{{ "" if column.kind == "text" else "number" }}{{ " nothing" if cell == nothing }}"
  data-label="{{ column.name }}">{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}</tbody>
</table></div>
{% for note in table.notes %}<p class="notes">{{ note }}</p>
{% endfor %}{% endfor %}
{% for small in (false, true) %}
<div{% if small %} class="small"{% endif %}>
{% for picture in section.pictures if picture.small == small %}<figure>
<img src="{{ data_uri(picture) }}" alt="{{ picture.about }}">
<figcaption>{{ picture.about }}</figcaption>
</figure>
{% endfor %}</div>
{% endfor %}
{% if section.advice %}<p class="advice">{{ section.advice }}</p>
{% endif %}{% endfor %}
</body>
</html>
"""


def html(page: Page) -> str:
    """Return a page as HTML with its pictures inside; it loads nothing and runs nothing."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_TEMPLATE).render(page=page, data_uri=_data_uri, nothing=NOTHING)


def _data_uri(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.path.read_bytes()).decode()


def markdown(page: Page, folder: Path) -> str:
    """Return a page as Markdown.

    Args:
        page: the report.
        folder: where the file will lie; pictures are linked from there.
    """
    parts = [f"# {_plain(page.title)}", *map(_plain, page.lead)]
    for section in page.sections:
        parts += _section(section, folder)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, folder: Path) -> list[str]:
    parts = [f"## {_plain(section.title)}", *map(_plain, section.lead)]
    if section.warnings:
        parts.append("\n".join(f"- {_plain(text)}" for text in section.warnings))
    for table in section.tables:
        parts += [f"**{_plain(table.title)}**", _table(table), *map(_plain, table.notes)]
    for picture in section.pictures:
        place = Path(os.path.relpath(picture.path, folder)).as_posix()
        parts.append(f"![{_plain(picture.about)}](<{place}>)")
    if section.advice:
        parts.append(f"**{_plain(section.advice)}**")
    return parts


def _table(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rules = ["---" if column.kind == "text" else "---:" for column in table.columns]
    rows = [[_plain(cell) for cell in row] for row in table.written()]
    heads = [_plain(column.name) for column in table.columns]
    return "\n".join(map(line, [heads, rules, *rows]))


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line; HTML in it is not taken for such."""
    return _MARKS.sub(r"\\\1", escaping.escape(" ".join(text.split()), quote=False))
