// Lanes: for each inode, one row a client; and the strip above them that shows the whole capture.

const HEAD = 20, ROW = 19, GAP = 7, AXIS = 22, BAR = 15;

const theme = {};
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["bg", "panel", "text", "muted", "line", "pin", "shared", "read", "write", "excl", "red", "pick", "link"]) {
    theme[`--${name}`] = style.getPropertyValue(`--${name}`).trim();
  }
  theme.hatch = hatch(theme["--red"], theme["--bg"]);
}

// Red with stripes, so that an outstanding revoke is told by its pattern too.
function hatch(color, stripe) {
  const tile = node("canvas", { width: 8, height: 8 }), pen = tile.getContext("2d");
  pen.fillStyle = color;
  pen.fillRect(0, 0, 8, 8);
  pen.strokeStyle = stripe;
  pen.lineWidth = 1.6;
  pen.beginPath();
  for (const start of [-8, 0, 8]) { pen.moveTo(start, 8); pen.lineTo(start + 8, 0); }
  pen.stroke();
  return pen.createPattern(tile, "repeat");
}

function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const wide = Math.round(width * ratio), high = Math.round(height * ratio);
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.textBaseline = "middle";
  return pen;
}

// Round times, about `count` of them between `from` and `to`: round on the clock, if that is what is shown.
function ticks(from, to, count) {
  const rough = (to - from) / count, power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  if (rough > 1e6) {
    step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400].map((n) => n * 1e6)
      .find((n) => n >= rough) || step;
  }
  const mode = $("clock").value, zone = mode === "local" ? new Date(D.start_us / 1000).getTimezoneOffset() * 6e7 || 0 : 0;
  const base = mode === "since" ? 0 : (D.start_us - zone) % step, found = [];
  for (let at = Math.ceil((from + base) / step) * step - base; at <= to; at += step) found.push(at);
  return { found, places: step >= 1e6 ? 0 : Math.min(6, Math.ceil(6 - Math.log10(step))) };
}

function elided(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let low = 0, high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    const cut = `${text.slice(0, Math.ceil(middle / 3))}…${text.slice(text.length - Math.floor((middle * 2) / 3))}`;
    if (pen.measureText(cut).width <= width) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, Math.ceil(low / 3))}…${low > 1 ? text.slice(text.length - Math.floor((low * 2) / 3)) : ""}`;
}

const lanes = {
  rows: inodes,
  tops: new Float64Array(1),
  left: 190,
  stretches: 0,

  choose() {
    const find = $("find").value.trim().toLowerCase(), only = $("only").value, order = $("order").value;
    const finds = (inode) => !find || inode.path.toLowerCase().includes(find) || inode.ino.includes(find)
      || inode.lanes.some((lane) => clientWith(lane.client).toLowerCase().includes(find));
    const wanted = {
      all: () => true,
      unanswered: (inode) => inode.unanswered > 0,
      revokes: (inode) => inode.revokes > 0,
      shared: (inode) => inode.lanes.length > 1,
    }[only];
    const orders = {
      trouble: (a, b) => a.number - b.number,
      longest: (a, b) => b.longest_us - a.longest_us,
      revokes: (a, b) => b.revokes - a.revokes,
      messages: (a, b) => b.messages - a.messages,
      path: (a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0),
    };
    this.rows = inodes.filter((inode) => inode.lanes.length && wanted(inode) && finds(inode)).sort(orders[order]);
    this.tops = new Float64Array(this.rows.length + 1);
    this.rows.forEach((inode, i) => { this.tops[i + 1] = this.tops[i] + HEAD + inode.lanes.length * ROW + GAP; });
    const height = this.tops[this.rows.length] + AXIS;
    $("tall").style.height = `${height}px`;
    $("lanes").style.height = `${Math.min(Math.max(height + 4, 90), 460)}px`;
    $("shown").textContent = `${this.rows.length} of ${inodes.length} inodes`;
    if (!this.rows.includes(view.inode) && this.rows.length) view.inode = this.rows[0];
    $("lanes").scrollTop = 0;
    changed();
  },

  // Index of the inode at a height in the list.
  rowAt(top) {
    let low = 0, high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= top) low = middle + 1;
      else high = middle;
    }
    return low;
  },

  get width() { return Math.max($("lanes").clientWidth, 300); },
  x(time) { return this.left + ((time - view.from) / (view.to - view.from)) * (this.width - this.left); },
  time(x) { return view.from + ((x - this.left) / (this.width - this.left)) * (view.to - view.from); },

  draw() {
    const box = $("lanes"), width = this.width, height = box.clientHeight;
    this.left = Math.min(Math.max(width * 0.16, 110), 240);
    const pen = sized($("canvas"), width, height), scrolled = box.scrollTop;
    this.stretches = 0;
    let drawn = 0;
    for (let i = this.rowAt(scrolled); i < this.rows.length && this.tops[i] < scrolled + height; i++) {
      this.inode(pen, this.rows[i], this.tops[i] - scrolled + AXIS, width);
      drawn += this.rows[i].lanes.length;
    }
    if (!this.rows.length) {
      pen.fillStyle = theme["--muted"];
      pen.font = "14px system-ui, sans-serif";
      pen.fillText("No inode is like that.", 12, 50);
    }
    this.axis(pen, width, height);
    box.dataset.lanesDrawn = drawn;
    box.dataset.stretchesDrawn = this.stretches;
    $("canvas").parentElement.setAttribute("aria-label",
      `Lanes of ${this.rows.length} inodes, ${moment(view.from)} to ${moment(view.to)}; chosen: `
      + (view.inode ? nameOf(view.inode) : "none"));
  },

  inode(pen, inode, top, width) {
    if (inode === view.inode) {
      pen.fillStyle = theme["--pick"];
      pen.fillRect(0, top - 2, width, HEAD + inode.lanes.length * ROW + 4);
    }
    pen.font = "600 13px system-ui, 'DejaVu Sans', sans-serif";
    pen.fillStyle = theme["--text"];
    const told = inode.unanswered ? `▲ ${inode.unanswered} unanswered, longest ${duration(inode.longest_us)}`
      : inode.revokes ? `${inode.revokes} revoke${inode.revokes > 1 ? "s" : ""}, longest ${duration(inode.longest_us)}` : "no revokes";
    const room = width - 30 - pen.measureText(told).width;
    const number = inode.path ? `  ${inode.ino}` : "";
    pen.fillText(elided(pen, nameOf(inode) + number, room), 8, top + HEAD / 2);
    pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
    pen.fillStyle = inode.unanswered ? theme["--red"] : theme["--muted"];
    pen.textAlign = "right";
    pen.fillText(told, width - 8, top + HEAD / 2);
    pen.textAlign = "left";
    inode.lanes.forEach((lane, i) => {
      const y = top + HEAD + i * ROW;
      pen.fillStyle = theme["--text"];
      pen.fillText(elided(pen, clientWith(lane.client), this.left - 22), 16, y + ROW / 2);
      pen.fillStyle = theme["--line"];
      pen.fillRect(this.left, y + ROW - 2, width - this.left, 1);
      this.lane(pen, lane, y + 1, width);
    });
  },

  // One client's row. Stretches narrower than a pixel are drawn together: the strongest of them, red if any is.
  lane(pen, lane, y, width) {
    const { times, held, flags, count } = lane;
    const per = (width - this.left) / (view.to - view.from);
    let pixel = -1, strongest = -1, asked = false;
    const bar = (x, w, s, red) => {
      const h = red ? BAR : STRENGTHS[s].height;
      pen.fillStyle = red ? theme.hatch : theme[STRENGTHS[s].color];
      pen.fillRect(x, y + BAR - h, w, h);
      this.stretches++;
    };
    const flush = () => {
      if (pixel >= 0 && strongest >= 0) bar(pixel, 1, strongest, asked);
      pixel = strongest = -1;
      asked = false;
    };
    for (let i = Math.max(lane.at(view.from), 0); i < count && times[i] < view.to; i++) {
      if (!held[i] && !(flags[i] & ASKED)) continue;
      const x0 = Math.max(this.left, this.left + (times[i] - view.from) * per);
      const x1 = Math.min(width, this.left + (times[i + 1] - view.from) * per);
      const s = strength(held[i]), red = (flags[i] & ASKED) !== 0;
      if (x1 - x0 < 1.2) {
        const at = Math.floor(x0);
        if (at !== pixel) { flush(); pixel = at; }
        strongest = Math.max(strongest, s);
        asked = asked || red;
        continue;
      }
      flush();
      bar(x0, Math.max(x1 - x0 - 0.5, 1), s, red);
      this.text(pen, held[i], flags[i], x0, x1, y);
    }
    flush();
  },

  text(pen, held, flags, x0, x1, y) {
    if (x1 - x0 < 30) return;
    pen.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
    const lost = flags & BITS;
    const all = flags & ASKED ? `${caps(held)} wanted back: ${lost ? caps(lost) : "all gone"}` : caps(held);
    const fits = [all, flags & ASKED ? `▲${caps(lost)}` : all].find((text) => pen.measureText(text).width + 6 <= x1 - x0);
    if (fits === undefined) return;
    const wide = pen.measureText(fits).width;
    pen.globalAlpha = 0.82;
    pen.fillStyle = theme["--bg"];
    pen.fillRect(x0 + 2, y + 1, wide + 5, BAR - 2);
    pen.globalAlpha = 1;
    pen.fillStyle = theme["--text"];
    pen.fillText(fits, x0 + 4, y + BAR / 2 + 0.5);
    pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
  },

  axis(pen, width, height) {
    pen.fillStyle = theme["--bg"];
    pen.fillRect(0, 0, width, AXIS - 2);
    pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
    const { found, places } = ticks(view.from, view.to, Math.max((width - this.left) / 130, 2));
    for (const at of found) {
      const x = Math.round(this.x(at)) + 0.5, label = moment(at, places);
      pen.globalAlpha = 0.5;
      pen.fillStyle = theme["--line"];
      pen.fillRect(x, AXIS - 4, 1, height);
      pen.globalAlpha = 1;
      pen.fillStyle = theme["--muted"];
      if (x + pen.measureText(label).width + 6 < width) pen.fillText(label, x + 3, 9);
    }
    pen.fillStyle = theme["--muted"];
    pen.fillText(elided(pen, `${duration(view.to - view.from)} shown`, this.left - 14), 8, 9);
    const x = this.x(view.cursor);
    if (x >= this.left - 1 && x <= width + 1) {
      pen.fillStyle = theme["--link"];
      pen.fillRect(Math.min(Math.max(x - 0.75, this.left), width - 1.5), AXIS - 8, 1.5, height);
      pen.beginPath();
      pen.moveTo(x - 6, AXIS - 10); pen.lineTo(x + 6, AXIS - 10); pen.lineTo(x, AXIS - 2);
      pen.fill();
    }
  },

  // Scrolls to the chosen inode.
  reveal() {
    if (view.inode && !this.rows.includes(view.inode)) {
      $("find").value = "";
      $("only").value = "all";
      const chosen = view.inode;
      this.choose();
      view.inode = chosen;
    }
    const row = this.rows.indexOf(view.inode), box = $("lanes");
    if (row < 0) return;
    const top = this.tops[row], bottom = this.tops[row + 1] + AXIS;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = Math.min(bottom - box.clientHeight, top);
    changed();
  },
};

const overview = {
  draw() {
    const canvas = $("overview"), width = Math.max(canvas.parentElement.clientWidth, 300), height = 46;
    const pen = sized(canvas, width, height);
    const { width_us: step, clients } = D.series;
    const bins = Math.floor(D.end_us / step) + 1;
    const sums = { requests: new Float64Array(bins), revoked: new Float64Array(bins) };
    for (const client of clients) {
      for (const what of Object.keys(sums)) (client[what] || []).forEach((n, i) => { sums[what][i] += n; });
    }
    const x = (time) => (time / WHOLE[1]) * width;
    for (const [what, fill, base] of [["requests", theme["--muted"], height], ["revoked", theme.hatch, height / 2]]) {
      const most = Math.max(1, ...sums[what]);
      pen.fillStyle = fill;
      sums[what].forEach((n, i) => {
        if (!n) return;
        const tall = 2 + (n / most) * (height / 2 - 6);
        pen.fillRect(x(i * step), base - tall, Math.max(x((i + 1) * step) - x(i * step), 1.5), tall);
      });
    }
    pen.fillStyle = theme["--red"];
    for (const asked of D.unanswered) pen.fillRect(x(asked.at_us), height / 2 - 2, width - x(asked.at_us), 3);
    pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    pen.fillStyle = theme["--text"];
    pen.fillText("revokes", 4, 8);
    pen.fillText("requests", 4, height / 2 + 7);
    pen.strokeStyle = theme["--link"];
    pen.lineWidth = 2;
    const x0 = x(view.from), x1 = Math.max(x(view.to), x0 + 3);
    pen.strokeRect(x0 + 1, 1, x1 - x0 - 2, height - 2);
    pen.globalAlpha = 0.35;
    pen.fillStyle = theme["--bg"];
    pen.fillRect(0, 0, x0, height);
    pen.fillRect(x1, 0, width - x1, height);
    pen.globalAlpha = 1;
  },
};
