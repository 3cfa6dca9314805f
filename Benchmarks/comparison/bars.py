"""The picture: for each row a bar per switch, as long as it is fast, and the kernel's as the measure of all."""

from html import escape

from report import GOAL, MISSED, MUST, number

WIDTH, LEFT, RIGHT, BAR, GAP, HEAD = 860, 190, 150, 12, 14, 78
SWITCHES = [("kernel", "kernel bridge + vxlan"), ("ovs", "Open vSwitch, userspace"), ("ovx", "ovx"), ("fast", "ovx, fast path")]

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
  .small { font-size: 10.5px; fill: #59636e } .axis { stroke: #59636e; stroke-dasharray: 3 3 } .grid { stroke: #d1d9e0 }
  .kernel { fill: #8c959f } .ovs { fill: #bf8700 } .ovx { fill: #0969da } .fast { fill: #54aeff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d } .axis { stroke: #9198a1 }
    .kernel { fill: #6e7681 } .ovs { fill: #d29922 } .ovx { fill: #4493f8 } .fast { fill: #a5d6ff }
  }
"""


def picture(figures, underlay, title, caption):
    rows = [row for row in figures.rows(underlay) if row.pictured]
    bars = [(row, [(kind, peer) for kind, peer in zip(("kernel", "ovs", "ovx", "fast"), ("kernel", "ovs", *row.ovx))
                   if figures.median(underlay, peer, row) is not None and (peer != "ovs" or not row.is_interop)])
            for row in rows]
    # A lower time is a longer bar: everything reads as "times as fast as the kernel".
    def speed(row, peer):
        ratio = figures.ratio(underlay, peer, "kernel", row)
        return ratio if ratio is None or row.higher else 1 / ratio
    speeds = [speed(row, peer) or 0 for row, kinds in bars for _, peer in kinds]
    longest = max([1.25, *speeds])
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = HEAD + sum(len(kinds) * BAR + GAP for _, kinds in bars) + 34
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
           f'role="img" aria-label="{escape(title)}">', f"<style>{STYLE}</style>",
           f'<text class="title" x="0" y="18">{escape(title)}</text>',
           f'<text class="small" x="0" y="36">{escape(caption)}</text>']
    x = 0
    for kind, label in SWITCHES:
        out.append(f'<rect class="{kind}" x="{x}" y="47" width="10" height="10" rx="2"/>'
                   f'<text class="small" x="{x + 15}" y="56">{escape(label)}</text>')
        x += 40 + 6 * len(label)
    step = next(s for s in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100) if longest / s <= 9)
    tick = step
    while tick <= longest:
        at = LEFT + tick * scale
        out.append(f'<line class="grid" x1="{at:.1f}" y1="{HEAD - 8}" x2="{at:.1f}" y2="{height - 28}"/>'
                   f'<text class="small" x="{at:.1f}" y="{height - 14}" text-anchor="middle">{tick:g}×</text>')
        tick += step
    at = LEFT + scale
    out.append(f'<line class="axis" x1="{at:.1f}" y1="{HEAD - 8}" x2="{at:.1f}" y2="{height - 28}"/>')
    y = HEAD
    for row, kinds in bars:
        middle = y + len(kinds) * BAR / 2 + 4
        out.append(f'<text x="{LEFT - 8}" y="{middle:.1f}" text-anchor="end">{escape(row.label)}</text>')
        for kind, peer in kinds:
            fast = speed(row, peer) or 0
            value = f"{number(figures.median(underlay, peer, row), row)} {row.unit}"
            if kind in ("ovx", "fast"):
                mark = figures.mark(figures.ratio(underlay, peer, "kernel", row), row, row.goals.get(underlay))
                value = f"{fast:.2f}× · {value} {mark}".rstrip()
            length = max(fast * scale, 1)
            out.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" rx="2"/>'
                       f'<text class="small" x="{LEFT + length + 5:.1f}" y="{y + BAR - 3}">{escape(value)}</text>')
            y += BAR
        y += GAP
    out.append(f'<text class="small" x="0" y="{height - 14}">{GOAL} goal  {MUST} must  {MISSED} less</text></svg>')
    return "\n".join(out) + "\n"
