// Histogram of revokes, caps held and rates over time.

const LINES = ["#4e79a7", "#e07b1a", "#2a9d8f", "#c8506b", "#8557c9", "#8a7a2c", "#3fa34d", "#6b7280"];
const DASHES = ["", "8 3", "2 3", "10 3 2 3", "5 5", "14 4", "1 4", "12 2 2 2 2 2"];
const number = (n) => n.toLocaleString("en", { maximumFractionDigits: n < 10 ? 2 : 0 });

function histogram() {
  const { counts, count } = D.revokes.all, box = $("histogram");
  const percentiles = table(count ? "Revokes answered" : "", [
    ["Client", (row) => row.name],
    ["Count", (row) => number(row.count), "num"], ["Least", (row) => duration(row.least_us), "num"],
    ["Median", (row) => duration(row.median_us), "num"], ["90 %", (row) => duration(row.p90_us), "num"],
    ["99 %", (row) => duration(row.p99_us), "num"], ["Most", (row) => duration(row.most_us), "num"],
  ], count ? [{ ...D.revokes.all, name: "all" },
    ...D.revokes.of_clients.map((row) => ({ ...row, name: clientWith(row.client) })).sort((a, b) => b.most_us - a.most_us).slice(0, 50)] : [],
  "No revoke was answered in this capture.");
  const otherwise = Object.entries(D.revokes.overtaken).map(([how, n]) => `${n} by ${OVERTAKEN[how] || how}`);
  $("percentiles").replaceChildren(percentiles, node("p", { class: "hint" }, "From when the MDS asked to when the client's"
    + " answer passed where the capture was made; percentiles within 3\u00a0%."
    + (otherwise.length ? ` Ended without an answer: ${otherwise.join(", ")}.` : "")));
  if (!count) { box.replaceChildren(); return; }
  // Three bars to a power of ten: 1, 2, 5.
  const edges = [1];
  while (edges[edges.length - 1] <= D.revokes.all.most_us) edges.push(edges[edges.length - 1] * [2, 2.5, 2][(edges.length - 1) % 3]);
  const bars = edges.map(() => 0);
  for (const [low, n] of counts) {
    let i = 0;
    while (i + 1 < edges.length && edges[i + 1] <= low) i++;
    bars[i] += n;
  }
  const begin = Math.max(bars.findIndex((n) => n) - 1, 0), rows = bars.slice(begin, edges.length - 1);
  const wide = 600, high = 230, base = high - 36, each = (wide - 50) / rows.length, most = Math.max(...rows);
  const svg = drawn("svg", { width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label":
    `Histogram of ${count} revokes: median ${duration(D.revokes.all.median_us)}, longest ${duration(D.revokes.all.most_us)}` });
  rows.forEach((n, i) => {
    const tall = n ? Math.max((n / most) * (base - 34), 2) : 0, x = 40 + i * each;
    svg.append(drawn("rect", { x: x + 1, y: base - tall, width: Math.max(each - 2, 1), height: tall, fill: "var(--shared)" },
      drawn("title", {}, `${n} revokes from ${duration(edges[begin + i])} to ${duration(edges[begin + i + 1])}`)));
    if (n && String(n).length * 7 < each) svg.append(drawn("text", { x: x + each / 2, y: base - tall - 4, "text-anchor": "middle", "font-size": 11 }, String(n)));
    const every = Math.ceil(60 / each);
    if (i % every === 0) {
      svg.append(drawn("line", { x1: x, x2: x, y1: base, y2: base + 4, class: "grid" }),
        drawn("text", { x, y: base + 17, "text-anchor": "middle", class: "muted" }, duration(edges[begin + i])));
    }
  });
  svg.append(drawn("line", { x1: 36, x2: wide - 8, y1: base, y2: base, class: "grid" }));
  const xOf = (us) => {
    let i = begin;
    while (i + 2 < edges.length && edges[i + 1] <= us) i++;
    const share = Math.log(Math.max(us, edges[i]) / edges[i]) / Math.log(edges[i + 1] / edges[i]);
    return 40 + (i - begin + Math.min(share, 1)) * each;
  };
  for (const [name, us, y] of [["50 %", D.revokes.all.median_us, 8], ["99 %", D.revokes.all.p99_us, 20]]) {
    const x = xOf(us), end = x > wide - 60;
    svg.append(drawn("line", { x1: x, x2: x, y1: y, y2: base, stroke: "var(--text)", "stroke-dasharray": "3 3" }),
      drawn("text", { x: end ? x - 4 : x + 4, y: y + 4, "text-anchor": end ? "end" : "start", "font-size": 11 }, name));
  }
  box.replaceChildren(svg, node("p", { class: "hint" }, "Count of revokes by how long they took; each bar reaches to where the next begins."));
}
const OVERTAKEN = { export: "export of the cap", session: "the end of the session", forgotten: "too many caps to follow" };

const rates = {
  draw() {
    const { width_us: step, clients } = D.series, of = $("rates-of").value;
    const wide = Math.max(Math.min($("rates").clientWidth - 10, 1660), 400), left = 60, right = 190;
    const x = (time) => left + ((time - view.from) / (view.to - view.from)) * (wide - left - right);
    const first = Math.max(Math.floor(view.from / step) - 1, 0), last = Math.ceil(view.to / step);
    const chosen = of === "all" ? clients : clients.filter((client) => String(client.client) === of);
    $("held").replaceChildren(this.held(chosen, { wide, left, right, x, step, first, last }));
    $("counts").replaceChildren(...COUNTED.map(([what, title]) => this.counts(chosen, what, title, { wide, left, right, x, step, first, last })));
  },

  frame(wide, high, label, { left, right, x }) {
    const svg = drawn("svg", { width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label });
    const { found, places } = ticks(view.from, view.to, Math.max((wide - left - right) / 150, 2));
    for (const at of found) {
      svg.append(drawn("line", { x1: x(at), x2: x(at), y1: 4, y2: high - 18, class: "grid" }),
        drawn("text", { x: x(at), y: high - 5, class: "muted", "text-anchor": "middle" }, moment(at, places)));
    }
    svg.append(drawn("line", { x1: left, x2: wide - right, y1: high - 18, y2: high - 18, class: "grid" }));
    return svg;
  },

  held(chosen, how) {
    const high = 190, { wide, left, right, x, step, first, last } = how;
    const busy = chosen.filter((client) => client.client || client.held.some((n) => n)).map((client) => [Math.max(...client.held.slice(first, last + 1), 0), client])
      .sort((a, b) => b[0] - a[0]).slice(0, LINES.length);
    const most = Math.max(1, ...busy.map(([n]) => n)), y = (n) => 10 + (1 - n / most) * (high - 36);
    const svg = this.frame(wide, high, `Caps held: ${busy.map(([n, client]) => `${clientName(client.client)} at most ${n}`).join(", ")}`, how);
    svg.append(drawn("text", { x: left - 6, y: 14, "text-anchor": "end" }, number(most)),
      drawn("text", { x: left - 6, y: high - 20, "text-anchor": "end" }, "0"),
      drawn("text", { x: 2, y: high / 2, class: "muted" }, "caps"));
    const clip = `clip${Math.random().toString(36).slice(2)}`;
    svg.append(drawn("clipPath", { id: clip }, drawn("rect", { x: left, y: 0, width: wide - left - right, height: high })));
    busy.forEach(([, client], i) => {
      let path = "", before = null;
      for (let bin = first; bin <= Math.min(last, client.held.length - 1); bin++) {
        const at = x(Math.min((bin + 1) * step, D.end_us)), h = y(client.held[bin]);
        path += before === null ? `M${x(bin * step).toFixed(1)} ${h.toFixed(1)}H${at.toFixed(1)}` : `V${h.toFixed(1)}H${at.toFixed(1)}`;
        before = h;
      }
      const low = 12 + i * 17, from = wide - right + 8;
      svg.append(drawn("path", { d: path || "M0 0", class: "line", stroke: LINES[i], "stroke-dasharray": DASHES[i], "clip-path": `url(#${clip})` }),
        drawn("line", { x1: from, x2: from + 34, y1: low, y2: low, class: "line", stroke: LINES[i], "stroke-dasharray": DASHES[i] }),
        drawn("text", { x: from + 39, y: low + 4, "font-size": 11 }, clientWith(client.client)));
    });
    if (chosen.length > busy.length) svg.append(drawn("text", { x: wide - right + 8, y: 16 + busy.length * 17, class: "muted" }, `and ${chosen.length - busy.length} with fewer`));
    return svg;
  },

  counts(chosen, what, title, how) {
    const high = 74, { wide, left, right, x, step, first, last } = how;
    const sums = [];
    for (let bin = first; bin <= last; bin++) sums.push(chosen.reduce((sum, client) => sum + ((client[what] || [])[bin] || 0), 0));
    const all = sums.reduce((a, b) => a + b, 0), most = Math.max(...sums), second = 1e6 / step;
    const svg = this.frame(wide, high, `${title}: ${all} in the time shown, at most ${number(most * second)} a second`, how);
    svg.append(drawn("text", { x: left - 6, y: 14, "text-anchor": "end" }, most ? `${number(most * second)}/s` : "0"),
      drawn("text", { x: wide - right + 8, y: 24, "font-weight": 600 }, title),
      drawn("text", { x: wide - right + 8, y: 40, class: "muted" }, `${number(all)} in this time`));
    const from = x(view.from), to = x(view.to);
    sums.forEach((n, i) => {
      if (!n) return;
      const x0 = Math.max(x((first + i) * step), from), x1 = Math.min(x((first + i + 1) * step), to), tall = Math.max((n / most) * (high - 28), 1.5);
      if (x1 > x0) svg.append(drawn("rect", { x: x0, y: high - 18 - tall, width: Math.max(x1 - x0 - 0.4, 1), height: tall,
        fill: what === "revoked" || what === "recalled" ? "var(--red)" : "var(--shared)" }));
    });
    return svg;
  },
};
const COUNTED = [["revoked", "revokes asked"], ["recalled", "recalls (RECALL_STATE)"], ["released", "caps released"],
  ["granted", "grants and imports"], ["requests", "requests"]];
