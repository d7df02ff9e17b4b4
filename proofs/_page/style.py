"""Holds the style of the page, light and dark, for small and for large screens."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfcf9; --card: #fff; --ink: #1d2129; --soft: #5b6270; --line: #e3e0d8;
  --good: #1a7f4b; --bad: #c0262d; --link: #1f5fa8; --code: #f5f3ee;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1b1e24; --ink: #e6e4df; --soft: #a0a6b2; --line: #2e323b;
    --good: #57c78d; --bad: #ff7b7b; --link: #85b6f2; --code: #15171c;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.6 "Charter", "Iowan Old Style", "Source Serif 4", Georgia, "DejaVu Serif", serif;
}
h1, h2, h3, h4, nav, .key, .rule, .name, .source, .context, summary, footer, .verdict {
  font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans",
    sans-serif;
}
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 1rem; }
h2 { font-size: 1.4rem; margin: 3.5rem 0 1rem; padding-bottom: .4rem;
  border-bottom: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 0 0 .25rem; line-height: 1.35; overflow-wrap: anywhere; }
h4 { font-size: .72rem; text-transform: uppercase; letter-spacing: .08em; margin: 0 0 .25rem;
  color: var(--soft); }
p { margin: 0 0 .75rem; }
a { color: var(--link); text-underline-offset: .15em; }
.lead { font-size: 1.12rem; max-width: 44rem; }
.key, .source, .name, footer { color: var(--soft); font-size: .82rem; }
.key { max-width: 44rem; }
.verdict { font-weight: 600; }
.verdict b { display: inline-block; margin-right: .3em; }
.holds, .mark.holds { color: var(--good); }
.fails, .mark.fails, .reason { color: var(--bad); }
nav ol { margin: 1.5rem 0 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap;
  gap: .4rem .6rem; font-size: .88rem; }
nav li { border: 1px solid var(--line); border-radius: 1rem; padding: .15rem .75rem;
  background: var(--card); }
nav a { text-decoration: none; }
nav small { color: var(--soft); }
article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1.1rem 1.25rem .9rem; margin: 0 0 1.1rem; scroll-margin-top: 1rem; min-width: 0; }
.conclusion { font-size: 1.05rem; font-style: italic; color: var(--soft); overflow-wrap: anywhere; }
.context { display: grid; gap: .75rem 2rem; font-size: .86rem; margin: 0 0 .75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); }
.context ul { margin: 0; padding: 0; list-style: none; }
.context li { overflow-x: auto; overflow-y: hidden; padding: .15rem 0; }
sub, sup { line-height: 0; font-size: .75em; }
.context .inline { display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
.steps { list-style: none; margin: 0 0 .75rem; padding: 0; }
.steps li { display: grid; grid-template-columns: 1.4rem minmax(0, 3fr) minmax(0, 2fr);
  gap: 0 .75rem; align-items: center; border-top: 1px solid var(--line); padding: .35rem 0; }
.sign { color: var(--soft); text-align: center; font-size: 1.15rem; }
.formula { overflow-x: auto; overflow-y: hidden; padding: .35rem 0; min-width: 0; }
.formula:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
math { font-family: "STIX Two Math", "Latin Modern Math", "Cambria Math", "Libertinus Math",
  "DejaVu Math TeX Gyre", math; font-size: 1.12em; }
.formula math { display: block math; width: max-content; margin: 0; text-align: left; }
.rule { display: grid; grid-template-columns: 1.2rem minmax(0, 1fr); font-size: .86rem;
  line-height: 1.45; color: var(--soft); overflow-wrap: anywhere; }
.rule .place { grid-column: 2; font-style: italic; opacity: .85; }
.place::before { content: "in the seed: "; font-style: normal; }
.context math, .slack math { display: inline math; }
.slack { display: block; overflow-x: auto; overflow-y: hidden; }
.mark { font-weight: 700; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: .4rem;
  padding: .75rem .9rem; margin: .4rem 0; overflow-x: auto; font-size: .78rem; line-height: 1.45; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .92em; overflow-wrap: anywhere; }
pre code { overflow-wrap: normal; font-size: 1em; }
summary { font-size: .82rem; color: var(--soft); cursor: pointer; }
details { margin: 0 0 .6rem; }
.name, .source { margin: 0; display: inline-block; margin-right: 1.2rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
@media (max-width: 44rem) {
  body { padding: 1.25rem .8rem 3rem; }
  article { padding: .9rem .85rem .75rem; }
  h1 { font-size: 1.6rem; }
  .steps li { grid-template-columns: 1.2rem minmax(0, 1fr); gap: 0 .4rem; }
  .rule { grid-column: 2; }
}
@media print { article { break-inside: avoid; } nav { display: none; } }
"""
