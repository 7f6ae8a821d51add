"""The style sheet of the report page: light or dark, following the reader's system."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2430;--soft:#5b6676;--line:#dfe4ea;--card:#f6f8fa;
--a:#1f6feb;--b:#8250df;--c:#cf5b00;--d:#1a7f5a;--e:#b0256f;--f:#5b6676;--bad:#b3261e;--good:#1a7f37}
@media (prefers-color-scheme:dark){:root{--paper:#11161d;--ink:#e4e9f0;--soft:#98a4b3;--line:#2b3440;
--card:#19202a;--a:#6cb0ff;--b:#c39bff;--c:#ffa657;--d:#56d4a0;--e:#ff8ac0;--f:#98a4b3;--bad:#ff8a80;
--good:#6fdd8b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:2rem 1.25rem 3rem;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}
h1{margin:0;font-size:1.7rem;text-transform:capitalize}
h2{margin:0;font-size:1.05rem}
header p,section p,footer p{margin:.15rem 0;color:var(--soft)}
header p.fine,header p.wrong{margin-top:.7rem;font-weight:600}
header p.fine,th.fine{color:var(--good)}
header p.wrong,th.wrong{color:var(--bad)}
th.other{color:var(--c)}
section{margin-top:2rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem}
.figures div{padding:.8rem 1rem;border-radius:.6rem;background:var(--card)}
.figures strong{display:block;font-size:1.3rem;font-weight:650;white-space:nowrap}
.figures span{color:var(--soft);font-size:.85rem}
.narrow{display:none}
table{width:100%;margin-top:.5rem;border-collapse:collapse}
th,td{padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);text-align:right;font-weight:400}
th:first-child,th.said,td.said{text-align:left}
td.said,th.said{padding-left:.6rem}
tbody th{font-weight:600}
thead th{color:var(--soft);font-size:.85rem}
svg{display:block;width:100%;height:auto;margin-top:.4rem}
svg .grid{stroke:var(--line);stroke-width:1}
svg text{fill:var(--soft);font-size:12px}
svg .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.a{stroke:var(--a)}.line.b{stroke:var(--b)}.line.c{stroke:var(--c)}
.line.d{stroke:var(--d)}.line.e{stroke:var(--e)}.line.f{stroke:var(--f)}
p span{display:inline-flex;align-items:center;margin-left:.9rem}
p span::before{content:"";width:.9rem;height:3px;margin-right:.35rem;border-radius:2px;background:currentColor}
p span.a{color:var(--a)}p span.b{color:var(--b)}p span.c{color:var(--c)}
p span.d{color:var(--d)}p span.e{color:var(--e)}p span.f{color:var(--f)}
dl{display:flex;flex-wrap:wrap;gap:.2rem 1.5rem;margin:0 0 .6rem}
dl div{display:flex;gap:.4rem}
dt{color:var(--soft)}
dd{margin:0}
@media (max-width:48rem){
.wide{display:none}.narrow{display:block}
table,tbody,tr,th,td{display:block}
thead{display:none}
tbody tr{padding:.5rem 0;border-bottom:1px solid var(--line)}
tbody th,tbody td{padding:.1rem 0;border:0;overflow-wrap:anywhere}
tbody td{display:flex;justify-content:space-between;gap:1rem;text-align:right}
tbody td::before{content:attr(data-label);color:var(--soft);white-space:nowrap}
tbody td.said{padding-left:0;text-align:right}
tbody td:empty{display:none}
}
footer{margin-top:2.5rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.85rem}
"""
