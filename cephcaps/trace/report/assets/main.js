// Begins: fills the page in, and draws anew what has changed, once a frame.

const dirty = new Set();
function redraw(...parts) {
  if (!dirty.size) requestAnimationFrame(() => {
    const due = [...dirty];
    dirty.clear();
    for (const part of due) part.draw();
  });
  parts.forEach((part) => dirty.add(part));
}

// The stretch of time and the inode are in the address, so that a link leads to them.
const address = {
  draw() {
    const parts = [`from=${Math.round(view.from)}`, `to=${Math.round(view.to)}`, `at=${Math.round(view.cursor)}`];
    if (view.inode) parts.push(`ino=${view.inode.ino}`);
    try { history.replaceState(null, "", `#${parts.join("&")}`); } catch { /* a browser may forbid it for files */ }
  },
  read() {
    const told = new URLSearchParams(location.hash.slice(1));
    const number = (key, none) => (told.has(key) && Number.isFinite(Number(told.get(key))) ? Number(told.get(key)) : none);
    view.inode = byIno.get(told.get("ino")) || view.inode;
    view.cursor = Math.min(Math.max(number("at", D.end_us), 0), D.end_us);
    if (told.has("from")) show(number("from", 0), number("to", WHOLE[1]));
    return told.has("ino");
  },
};

function legend() {
  const swatch = (fill, height) => {
    const canvas = node("canvas", {}), pen = sized(canvas, 26, BAR);
    pen.fillStyle = fill;
    pen.fillRect(0, BAR - height, 26, height);
    return canvas;
  };
  $("legend").replaceChildren(
    node("span", {}, swatch(theme.hatch, BAR), node("b", {}, "revoke outstanding")),
    ...[...STRENGTHS].reverse().map(({ name, color, height }) => node("span", {}, swatch(theme[color], height), name)));
}

function words() {
  heading();
  verdict();
  tables();
  redraw(lanes, overview, detail, sequence, rates);
}

function begin() {
  readTheme();
  legend();
  histogram();
  $("rates-of").replaceChildren(node("option", { value: "all" }, "all"),
    ...D.series.clients.filter((one) => one.client || one.held.some((n) => n)).map((one) => node("option", { value: one.client }, clientWith(one.client))));
  $("inodes").replaceChildren(...inodes.slice(0, 200).map((inode) => node("option", { value: nameOf(inode) })));
  view.listeners.push(() => redraw(lanes, overview, detail, sequence, rates, address));
  listenToLanes();
  listenToOverview();
  for (const [id, act] of [["zoom-in", () => zoom(0.5)], ["zoom-out", () => zoom(2)], ["pan-left", () => pan(-0.25)],
    ["pan-right", () => pan(0.25)], ["zoom-all", () => show(...WHOLE)]]) $(id).addEventListener("click", act);
  for (const id of ["only", "order"]) $(id).addEventListener("change", () => lanes.choose());
  $("find").addEventListener("input", () => lanes.choose());
  $("clock").addEventListener("change", words);
  $("rates-of").addEventListener("change", () => redraw(rates));
  for (const id of ["in-view", "as-table"]) $(id).addEventListener("change", () => redraw(sequence));
  for (const [id, by] of [["earlier", -1], ["later", 1]]) $(id).addEventListener("click", () => {
    sequence.page += by;
    redraw(sequence);
    $("diagram").scrollTop = 0;
  });
  $("choose").addEventListener("change", () => {
    const text = $("choose").value.trim();
    const found = byIno.get(text) || inodes.find((inode) => inode.path === text) || inodes.find((inode) => text && inode.path.includes(text));
    if (found) { view.inode = found; changed(); } else if (view.inode) $("choose").value = nameOf(view.inode);
  });
  window.addEventListener("resize", () => redraw(lanes, overview, rates));
  new ResizeObserver(() => redraw(lanes)).observe($("lanes"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => { readTheme(); legend(); words(); });
  const asked = location.hash.includes("=");
  lanes.choose();
  if (asked) { address.read(); lanes.reveal(); }
  words();
  requestAnimationFrame(() => requestAnimationFrame(() => {
    document.documentElement.dataset.readyMs = Math.round(performance.now());
  }));
}

window.addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });
begin();
