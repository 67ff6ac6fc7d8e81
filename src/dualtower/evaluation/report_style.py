"""The report's style sheet: nothing from elsewhere, light or dark as the reader has it."""

STYLE = """
:root { --page: #f6f7f9; --card: #ffffff; --text: #1f2328; --quiet: #667078; --line: #e3e6ea; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0d1117; --card: #161b22; --text: #e6edf3; --quiet: #929ba5; --line: #30363d; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { margin: 0 0 .3rem; font-size: 1.7rem; line-height: 1.25; }
h2 { margin: 0 0 .8rem; font-size: 1.1rem; }
p { margin: .4rem 0 .8rem; color: var(--quiet); }
section { margin-top: 1.2rem; padding: 1.2rem 1.4rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .5rem; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
th.words, td.words { text-align: left; }
th { color: var(--quiet); font-size: .85rem; font-weight: 600; }
td { border-top: 1px solid var(--line); }
tbody:first-child tr:first-child td { border-top: 0; }
small { display: block; color: var(--quiet); font-size: .75rem; }
img { display: block; width: 100%; height: auto; }
"""
