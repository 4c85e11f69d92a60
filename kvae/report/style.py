"""How the page looks: light or dark as the reader's system is, on a phone as on a desk."""

STYLE = """
:root{--paper:#fbfbfa;--card:#fff;--ink:#1f2328;--soft:#5d6670;--faint:#d5d9de;--first:#2f6fb5;--second:#d9722b}
@media (prefers-color-scheme:dark){:root{--paper:#14171b;--card:#1c2026;--ink:#e4e7ea;--soft:#9aa4ae;--faint:#39414a;
--first:#6fa8e8;--second:#f0995a}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1060px;padding:28px 20px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{margin:0 0 12px;font-size:30px;line-height:1.2;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{margin:0 0 10px;font-size:19px;letter-spacing:-.005em}
dl{display:flex;flex-wrap:wrap;gap:4px 26px;margin:0 0 20px;font-size:13.5px}
dl div{display:flex;gap:7px;min-width:0}dt{color:var(--soft);white-space:nowrap}dd{margin:0;overflow-wrap:anywhere}
.headlines{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px}
.headlines div,section{background:var(--card);border:1px solid var(--faint);border-radius:10px}
.headlines div{padding:12px 14px;display:flex;flex-direction:column}
.headlines b{font-size:25px;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.headlines span{font-size:14px}.headlines small{color:var(--soft);font-size:12px}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:18px 2px;font-size:13.5px}
a{color:var(--first);text-decoration:none}a:hover,a:focus{text-decoration:underline}
section{padding:18px 20px;margin:0 0 16px;scroll-margin-top:12px}
.note,.left{margin:0 0 12px;color:var(--soft);font-size:13.5px;max-width:96ch}
.wide+.note{margin-top:12px}section>:last-child{margin-bottom:0}
.wide{overflow-x:auto;margin:0 0 12px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:5px 14px 5px 0;text-align:left;border-bottom:1px solid var(--faint);vertical-align:top}
th{font-weight:500;color:var(--soft);font-size:12.5px}tbody tr:last-child td{border-bottom:0}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(290px,100%),1fr));gap:18px 22px}
figure{margin:0;min-width:0}figcaption{font-size:13px;font-weight:550;margin:0 0 4px;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto}svg text{font-family:inherit!important}
.one{max-width:720px}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;margin:0 0 12px;font-size:13px}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
img{display:block;image-rendering:pixelated;max-width:100%;height:auto;border-radius:3px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(64px,1fr));gap:10px}
.tiles img{width:100%}
.tiles figcaption{margin:2px 0 0;font-weight:400;font-size:12px;color:var(--soft);text-align:center}
.grid img,.strip img{width:100%}
.strip{display:grid;grid-template-columns:88px minmax(0,1fr);gap:10px;align-items:center;margin:0 0 4px}
.strip b{font-weight:550;font-size:13.5px;text-align:right;overflow-wrap:anywhere;line-height:1.25}
.strip small{display:block;font-weight:400;font-size:11.5px;color:var(--soft)}
details{margin-top:10px;font-size:13.5px}summary{cursor:pointer;color:var(--soft)}details table{width:auto}
footer{color:var(--soft);font-size:12.5px;margin:20px 2px 0}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media (max-width:520px){body{padding:16px 10px}section{padding:14px 12px}h1{font-size:24px}
table{font-size:12.5px}th,td{padding-right:9px}th{font-size:11.5px}
.strip{grid-template-columns:54px minmax(0,1fr);gap:7px}.strip b{font-size:12px}.headlines b{font-size:21px}
.headlines{grid-template-columns:repeat(auto-fit,minmax(120px,1fr))}}
@media print{body{max-width:none}section{break-inside:avoid}nav{display:none}}
"""
