// Who holds what of the chosen inode at the chosen moment, in words; and what the mouse is over.

function stateOf(lane, time) {
  const i = lane.at(time);
  if (i < 0 || (!lane.held[i] && !(lane.flags[i] & ASKED))) return null;
  const flags = lane.flags[i], lost = flags & BITS, asked = (flags & ASKED) !== 0;
  let begun = i, same = i;
  while (same > 0 && lane.held[same - 1] === lane.held[i]) same--;
  while (asked && begun > 0 && lane.flags[begun - 1] & ASKED) begun--;
  return {
    client: lane.client, held: lane.held[i], since: lane.times[same], merged: (flags & MERGED) !== 0,
    asked, lost, askedSince: lane.times[begun], lostSince: lost ? lane.since(i, lost) : lane.times[i],
    until: lane.times[i + 1], last: i === lane.count - 1,
  };
}

const detail = {
  draw() {
    const inode = view.inode, box = $("detail");
    if (!inode) { box.replaceChildren(node("p", { class: "muted" }, "The capture tells of no inode's caps.")); return; }
    const atEnd = view.cursor >= D.end_us;
    const held = inode.lanes.map((lane) => stateOf(lane, view.cursor)).filter(Boolean);
    held.sort((a, b) => b.asked - a.asked || strength(b.held) - strength(a.held));
    const silent = inode.lanes.length - held.length;
    const title = node("p", {}, node("b", {}, nameOf(inode)), `${inode.path ? ` ${inode.ino}` : ""}, at ${moment(view.cursor)}`,
      atEnd ? " (the end of the capture)" : "", ": ",
      held.length ? `${held.length} client${held.length > 1 ? "s hold" : " holds"} caps` : "nobody holds caps",
      silent ? `; ${silent} other${silent > 1 ? "s" : ""} did or will` : "", ".");
    const back = (row) => {
      if (!row.asked) return "–";
      return node("span", { class: "late" }, `${row.lost ? caps(row.lost) : "an answer"}, asked ${duration(view.cursor - row.askedSince)} ago`);
    };
    const rows = table("", [
      ["Client", (row) => clientWith(row.client)],
      ["Holds", (row) => node("span", { class: "mono" }, caps(row.held) + (row.merged ? " (several changes, merged)" : ""))],
      ["Since", (row) => `${moment(row.since)}, for ${duration(view.cursor - row.since)}`],
      ["Wanted back", back],
      ["Had these since", (row) => (row.asked ? moment(row.lostSince) : "")],
      ["Client last heard", (row) => moment(D.clients[row.client].heard_us)],
    ], held, "Nobody at this moment.");
    const buttons = node("p", { class: "bar" },
      node("button", { onclick: () => { $("sequence").scrollIntoView(); } }, "sequence diagram"),
      node("button", { onclick: () => step(-1) }, "previous change"),
      node("button", { onclick: () => step(1) }, "next change"),
      node("button", { onclick: nextRevoke, disabled: !inode.revokes }, "next revoke"),
      node("button", { onclick: () => { view.cursor = D.end_us; show(...WHOLE); } }, "the end"));
    box.replaceChildren(title, rows, buttons);
  },
};

// Moves the chosen moment to the next or previous change of the chosen inode.
function step(direction) {
  if (!view.inode) return;
  let best = null;
  for (const lane of view.inode.lanes) {
    for (let i = Math.max(lane.at(view.cursor) - 1, 0); i < lane.count; i++) {
      const time = lane.times[i];
      if (direction > 0 && time > view.cursor) { if (best === null || time < best) best = time; break; }
      if (direction < 0 && time < view.cursor && (best === null || time > best)) best = time;
      if (direction < 0 && time >= view.cursor) break;
    }
  }
  if (best !== null) moveCursor(best);
}

function moveCursor(time) {
  view.cursor = time;
  const width = view.to - view.from;
  if (time < view.from || time > view.to) show(time - width / 2, time + width / 2);
  else changed();
}

// Goes to the next revoke of the chosen inode after the chosen moment; after the last, to the first.
function nextRevoke() {
  if (!view.inode) return;
  const found = [];
  for (const lane of view.inode.lanes) {
    for (let i = 0; i < lane.count; i++) {
      if (lane.flags[i] & ASKED && !(i && lane.flags[i - 1] & ASKED)) {
        let end = i;
        while (end < lane.count && lane.flags[end] & ASKED) end++;
        found.push([lane.times[i], lane.times[end]]);
      }
    }
  }
  found.sort((a, b) => a[0] - b[0]);
  const next = found.find(([begin]) => begin > view.cursor) || found[0];
  if (!next) return;
  const margin = Math.max((next[1] - next[0]) * 0.6, 500);
  view.cursor = next[0];
  show(next[0] - margin, next[1] + margin);
  lanes.reveal();
}

// What the mouse is over

function under(event) {
  const box = $("lanes"), place = box.getBoundingClientRect();
  const x = event.clientX - place.left - box.clientLeft, y = event.clientY - place.top - box.clientTop;
  if (y < AXIS) return null;
  const top = y - AXIS + box.scrollTop, row = lanes.rowAt(top), inode = lanes.rows[row];
  if (!inode) return null;
  const number = Math.floor((top - lanes.tops[row] - HEAD) / ROW);
  return { inode, lane: number >= 0 ? inode.lanes[number] : undefined, time: x < lanes.left ? null : lanes.time(x) };
}

function tip(event) {
  const found = under(event), box = $("tip");
  if (!found || found.time === null || !found.lane) { box.hidden = true; return; }
  const state = stateOf(found.lane, found.time), lines = [
    node("b", {}, `${clientWith(found.lane.client)} at ${moment(found.time)}`), node("div", { class: "mono" }, nameOf(found.inode))];
  if (!state) lines.push(node("div", {}, "holds nothing"));
  else {
    lines.push(node("div", {}, `holds ${caps(state.held)} since ${moment(state.since)}`
      + (state.last ? ", to the end" : `, for ${duration(state.until - state.since)}`)));
    if (state.asked) lines.push(node("div", { class: "late" },
      `${state.lost ? caps(state.lost) : "an answer"} wanted back since ${moment(state.askedSince)}`));
    if (state.merged) lines.push(node("div", { class: "muted" }, "several changes shown as one"));
  }
  box.replaceChildren(...lines);
  box.hidden = false;
  const wide = box.offsetWidth, high = box.offsetHeight;
  box.style.left = `${Math.min(event.clientX + 14, window.innerWidth - wide - 8)}px`;
  box.style.top = `${event.clientY + 18 + high > window.innerHeight ? event.clientY - high - 8 : event.clientY + 18}px`;
}
