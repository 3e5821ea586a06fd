// The messages about the chosen inode, between its clients and the ranks: drawn, or as a table.

const PAGE = 150, STEP = 30;

const sequence = {
  page: 0,
  key: "",
  shown: "",
  last: null,

  // All messages of an inode, and what happened meanwhile to the sessions of its clients.
  messages(inode) {
    if (this.last && this.last.inode === inode) return this.last.found;
    this.last = { inode, found: this.read(inode) };
    return this.last.found;
  },

  read(inode) {
    const found = [], flat = inode.events, clients = new Set();
    let time = 0;
    for (let i = 0; i < flat.length; i += 8) {
      time += flat[i];
      const [kind, client, way, bits, more, seq, waited] = flat.slice(i + 1, i + 8);
      if (inode.gap[1] && i / 8 === inode.gap[0]) found.push({ time, gap: inode.gap[1] });
      clients.add(client);
      found.push({ time, kind, client, daemon: way >> 1, up: way & 1, bits, more, seq, waited });
    }
    if (inode.gap[1] && flat.length / 8 <= inode.gap[0]) found.push({ time, gap: inode.gap[1] });
    const ends = found.filter((one) => !one.gap);
    if (!ends.length) return found;
    const first = ends[0].time, last = Math.max(ends[ends.length - 1].time, D.end_us);
    let marks = 0;
    for (let i = 0; i < D.marks.length && marks < 2000; i += 5) {
      const [at, kind, client, way, seq] = D.marks.slice(i, i + 5);
      if (at >= first && at <= last && clients.has(client)) {
        found.push({ time: at, kind, client, daemon: way >> 1, up: way & 1, bits: 0, more: 0, seq, waited: -1, mark: true });
        marks++;
      }
    }
    // The order of the trace holds among messages; those about sessions come in by their time.
    return marks ? found.map((one, i) => [one, i]).sort((a, b) => a[0].time - b[0].time || a[1] - b[1]).map(([one]) => one) : found;
  },

  said(one) {
    const name = D.kinds[one.kind], parts = [];
    if (name.startsWith("client_caps(")) {
      if (!name.includes("ack")) parts.push(caps(one.bits & BITS));
      if (one.more & BITS) parts.push(one.up || name.includes("ack") ? `dirty ${caps(one.more & BITS)}` : `−${caps(one.more & BITS)}`);
      parts.push(`seq ${one.seq}`);
    } else if (one.bits) parts.push(caps(one.bits & BITS));
    if (one.mark && one.seq) parts.push(`${name.includes("recall") ? "max_caps" : "seq"} ${one.seq}`);
    if (one.waited >= 0) parts.push(`after ${duration(one.waited)}`);
    return parts.join("  ");
  },
  revokes: (one) => !one.mark && !one.gap && !one.up && (D.kinds[one.kind] === "client_caps(revoke)"
    || (D.kinds[one.kind].startsWith("client_caps(") && (one.more & BITS) !== 0 && !D.kinds[one.kind].includes("ack"))),

  draw() {
    const inode = view.inode, box = $("diagram");
    if (!inode) { box.replaceChildren(); return; }
    const inView = $("in-view").checked;
    let all = this.messages(inode);
    if (inView) all = all.filter((one) => one.time >= view.from && one.time <= view.to);
    const pages = Math.max(Math.ceil(all.length / PAGE), 1), key = `${inode.ino} ${inView} ${view.cursor}`;
    const now = this.index(all, view.cursor), moved = key !== this.key;
    if (moved) {
      this.key = key;
      this.page = Math.max(Math.ceil((now + 1) / PAGE) - 1, 0);
      $("choose").value = nameOf(inode);
    }
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const state = [key, this.page, $("as-table").checked, $("clock").value, theme["--bg"], ...(inView ? [view.from, view.to] : [])].join();
    if (state === this.shown) return;
    this.shown = state;
    const shown = all.slice(this.page * PAGE, (this.page + 1) * PAGE);
    $("page").textContent = `${all.length} messages, page ${this.page + 1} of ${pages}`;
    $("earlier").disabled = this.page === 0;
    $("later").disabled = this.page === pages - 1;
    const before = this.page ? all[this.page * PAGE - 1].time : null;
    if (!shown.length) box.replaceChildren(node("p", { class: "muted" }, "No message about it in this time."));
    else if ($("as-table").checked) box.replaceChildren(this.table(shown));
    else box.replaceChildren(...this.diagram(inode, shown, before, all[now]));
    if (moved) box.scrollTop = Math.max((now - this.page * PAGE) * STEP - box.clientHeight / 2, 0);
  },

  index(all, time) {
    let last = 0;
    all.forEach((one, i) => { if (one.time <= time) last = i; });
    return last;
  },

  table(shown) {
    return table("", [
      ["Time", (one) => moment(one.time), "num"],
      ["From", (one) => (one.gap ? "" : one.up ? clientWith(one.client) : daemonName(one.daemon))],
      ["To", (one) => (one.gap ? "" : one.up ? daemonName(one.daemon) : clientWith(one.client))],
      ["Message", (one) => (one.gap ? `${one.gap} messages are not in this page` : D.kinds[one.kind]), "mono"],
      ["", (one) => (one.gap ? "" : node("span", { class: this.revokes(one) ? "late" : "" }, this.said(one))), "mono"],
    ], shown);
  },

  // `now` is the last message before the chosen moment.
  diagram(inode, shown, before, now) {
    const clients = [...new Set(shown.filter((one) => !one.gap).map((one) => one.client))];
    const daemons = [...new Set(shown.filter((one) => !one.gap).map((one) => one.daemon))];
    const left = 225, apart = Math.max(160, Math.min(430, 1050 / Math.max(clients.length + daemons.length - 1, 1)));
    const place = new Map();
    // Daemons in the middle of their clients, so that arrows are short.
    const half = Math.ceil(clients.length / 2);
    [...clients.slice(0, half).map((c) => `c${c}`), ...daemons.map((d) => `d${d}`), ...clients.slice(half).map((c) => `c${c}`)]
      .forEach((end, i) => place.set(end, left + 70 + i * apart));
    const width = left + 140 + Math.max(place.size - 1, 1) * apart, height = shown.length * STEP + 24;
    const names = drawn("svg", { width, height: 28, viewBox: `0 0 ${width} 28`, class: "names", "aria-hidden": "true" });
    const svg = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `Messages about ${nameOf(inode)}; the same as a table: the box above` });
    const arrow = (id, fill) => drawn("marker", { id, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 7, markerHeight: 7,
      orient: "auto" }, drawn("path", { d: "M0 0L10 5L0 10z", fill }));
    svg.append(drawn("defs", {}, arrow("arrow", theme["--text"]), arrow("arrow-red", theme["--red"])));
    for (const [end, x] of place) {
      const daemon = end[0] === "d", number = Number(end.slice(1));
      svg.append(drawn("line", { x1: x, x2: x, y1: 0, y2: height, class: "grid", "stroke-width": daemon ? 3 : 1 }));
      names.append(drawn("text", { x, y: 18, "text-anchor": "middle", "font-weight": 700 },
        daemon ? daemonName(number) : clientWith(number)));
    }
    shown.forEach((one, i) => {
      const y = (i + 0.7) * STEP, earlier = i ? shown[i - 1].time : before;
      if (one.gap) {
        svg.append(drawn("text", { x: left, y, class: "muted" }, `⋮  ${one.gap} messages are not in this page`));
        return;
      }
      if (one === now) svg.prepend(drawn("rect", { x: 0, y: i * STEP + 2, width, height: STEP, fill: theme["--pick"] }));
      svg.append(drawn("text", { x: 8, y: y + 4, "font-family": "ui-monospace, monospace" }, moment(one.time)));
      if (earlier !== null && one.time > earlier) {
        svg.append(drawn("text", { x: left - 8, y: y + 4, "text-anchor": "end", class: "muted" }, `+${duration(one.time - earlier)}`));
      }
      const ends = [place.get(`c${one.client}`), place.get(`d${one.daemon}`)], red = this.revokes(one);
      const [x1, x2] = one.up ? ends : ends.reverse();
      const inward = x2 > x1 ? -2 : 2;
      svg.append(drawn("line", { x1, x2: x2 + inward, y1: y, y2: y, stroke: red ? theme["--red"] : theme["--text"],
        "stroke-width": red ? 2.6 : 1.2, "stroke-dasharray": one.mark ? "2 4" : "none",
        "marker-end": `url(#${red ? "arrow-red" : "arrow"})` }));
      const label = D.kinds[one.kind].replace(/^client_/, ""), said = this.said(one);
      const text = drawn("text", { x: (x1 + x2) / 2, y: y - 5, "text-anchor": "middle", stroke: theme["--bg"],
        "stroke-width": 3, "paint-order": "stroke", class: one.mark ? "muted" : "" },
      drawn("tspan", { "font-weight": red ? 700 : 400 }, `${red ? "▲ " : ""}${label}`), said ? `  ${said}` : "");
      svg.append(text);
    });
    return [names, svg];
  },
};
