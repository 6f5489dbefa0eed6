// How the page of an explanation looks: light and dark, on screens of any width, on paper.
#pragma once

#include <string_view>

namespace lockstep {

inline constexpr std::string_view kExplainStyle = R"css(
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#17202b;--soft:#5b6877;--line:#e1e5ea;--code:#f1f3f6;
--accent:#2456d6;--good:#b9dcca;--bad:#f2b45c;--first:#d92d3a;--live:#8fb4ee;--live2:#bdd3f6;--pad:#d4d9e0;--none:#f3c9cc;
--g0:#3b4756;--g1:#7a5af5;--g2:#c2378f;--g3:#0f8f97;--g4:#d07a1a;--g5:#8795a5;
--seen:#dfe9ff;--seen-ink:#1d469f;--rerun:#e7f3df;--rerun-ink:#2f6415;--unknown:#eceff3;--unknown-ink:#5b6877}
@media(prefers-color-scheme:dark){:root{--page:#0e1318;--card:#161d25;--ink:#e8edf2;--soft:#93a1b0;--line:#27313c;--code:#10161c;
--accent:#7ea6ff;--good:#2b5a47;--bad:#b67a22;--first:#ff5a64;--live:#3a69b5;--live2:#28487c;--pad:#3a444f;--none:#6d3236;
--g0:#c3ccd6;--g1:#a58dff;--g2:#f073bd;--g3:#3fc4cc;--g4:#f0a04b;--g5:#6b7988;
--seen:#1c2f57;--seen-ink:#a9c4ff;--rerun:#20371a;--rerun-ink:#afdb98;--unknown:#232c36;--unknown-ink:#93a1b0}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}
.brand{color:var(--accent);font-weight:650;letter-spacing:.02em;font-size:13px}
h1{font-size:26px;line-height:1.25;margin:6px 0 2px;overflow-wrap:anywhere}
.sub{color:var(--soft);margin:0 0 26px}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 24px;margin:0 0 16px}
h2{font-size:17px;margin:0 0 10px}h3{font-size:13px;color:var(--soft);font-weight:600;margin:16px 0 6px}
.verdict{border-left:5px solid var(--first)}.verdict.fine{border-left-color:#2f9e6e}
.verdict ul{list-style:none;margin:0;padding:0}.verdict li{padding:7px 0;border-top:1px solid var(--line)}
.verdict li:first-child{border-top:0;font-size:17px;font-weight:600}
.q{display:flex;gap:12px;align-items:baseline}.q h2{flex:1;margin:0;font-size:15px;color:var(--soft);font-weight:600}
.n{color:var(--soft);font-variant-numeric:tabular-nums;min-width:1.6em}
.a{font-size:16px;margin:6px 0 4px 0}
.chip{display:inline-block;font-size:12px;line-height:1;padding:5px 9px;border-radius:999px;white-space:nowrap;font-weight:600}
.seen{background:var(--seen);color:var(--seen-ink)}.rerun{background:var(--rerun);color:var(--rerun-ink)}
.unknown{background:var(--unknown);color:var(--unknown-ink)}
.note{color:var(--soft);margin:0 0 6px}
.ev{margin:6px 0 0;padding-left:18px;color:var(--soft)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 18px 5px 0;white-space:nowrap;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}.r{text-align:right}tr:last-child td{border-bottom:0}
pre{background:var(--code);border:1px solid var(--line);border-radius:8px;padding:12px 14px;overflow-x:auto;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:12px 0 0}
.strips{display:flex;flex-wrap:wrap;gap:4px 32px}.strips h3{max-width:190px}figure{margin:0;min-width:0;max-width:100%}
svg text{font:11px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--soft)}
.good{fill:var(--good)}.badc{fill:var(--bad)}.firstc{fill:var(--first)}.live{fill:var(--live)}.live2{fill:var(--live2)}
.padc{fill:var(--pad)}.none{fill:var(--none)}.ring{fill:none;stroke:var(--first);stroke-width:2}
.recvc{fill:var(--accent)}.recvd{stroke:var(--accent)}figcaption{font-size:12px;font-weight:600;max-width:190px;margin:2px 0 10px}
.kind-softmax{fill:#7a5af5}.kind-gated_delta{fill:#12a0a8}.kind-other{fill:var(--line)}
.g0{fill:var(--g0);stroke:var(--g0)}.g1{fill:var(--g1);stroke:var(--g1)}.g2{fill:var(--g2);stroke:var(--g2)}
.g3{fill:var(--g3);stroke:var(--g3)}.g4{fill:var(--g4);stroke:var(--g4)}.g5{fill:var(--g5);stroke:var(--g5)}
path.g0,path.g1,path.g2,path.g3,path.g4,path.g5{stroke-width:2}.lane,.step{stroke:var(--line);stroke-width:1.5}
.x{stroke:var(--first);stroke-width:2;stroke-linecap:round}
.legend{display:flex;flex-wrap:wrap;gap:6px 18px;color:var(--soft);font-size:13px;margin:8px 0 0}
.legend span::before{content:"";display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;
vertical-align:-1px;background:var(--c)}
footer{color:var(--soft);font-size:13px;margin-top:22px}
@media(max-width:640px){main{padding:22px 12px}section{padding:16px 14px}h1{font-size:21px}.q{flex-wrap:wrap}}
@media print{body{background:#fff}section{break-inside:avoid}}
)css";

}  // namespace lockstep
