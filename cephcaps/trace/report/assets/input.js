// Mouse and keys.

function listenToLanes() {
  const box = $("lanes");
  let drag = null;
  box.addEventListener("scroll", () => {
    $("tip").hidden = true;
    redraw(lanes);
  });
  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) {
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        pan((event.deltaX || event.deltaY) / lanes.width);
      }
      return;
    }
    event.preventDefault();
    const x = event.clientX - box.getBoundingClientRect().left;
    zoom(Math.exp(Math.min(Math.max(event.deltaY, -200), 200) / 250), lanes.time(Math.max(x, lanes.left)));
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => {
    if (event.button || event.offsetX >= box.clientWidth) return;
    const x = event.clientX - box.getBoundingClientRect().left;
    drag = { x, from: view.from, to: view.to, time: lanes.time(x), moved: false, select: event.shiftKey };
  });
  window.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const x = event.clientX - box.getBoundingClientRect().left;
    if (Math.abs(x - drag.x) < 4 && !drag.moved) return;
    drag.moved = true;
    $("tip").hidden = true;
    if (drag.select) { drag.until = lanes.time(x); return; }
    const shift = ((drag.x - x) / (lanes.width - lanes.left)) * (drag.to - drag.from);
    show(drag.from + shift, drag.to + shift);
  });
  window.addEventListener("pointerup", (event) => {
    const ended = drag;
    drag = null;
    if (!ended) return;
    if (ended.moved && ended.select) show(Math.min(ended.time, ended.until), Math.max(ended.time, ended.until));
    if (ended.moved) return;
    const found = under(event);
    if (!found) return;
    view.inode = found.inode;
    if (found.time !== null) view.cursor = Math.min(Math.max(found.time, 0), D.end_us);
    changed();
  });
  box.addEventListener("pointermove", (event) => { if (!drag) tip(event); });
  box.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  box.addEventListener("dblclick", (event) => {
    const found = under(event);
    if (found && found.time !== null) zoom(0.25, found.time);
  });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    $("tip").hidden = true;
    act();
  });
}

function choose(direction) {
  if (!lanes.rows.length) return;
  const row = lanes.rows.indexOf(view.inode);
  view.inode = lanes.rows[Math.min(Math.max(row + direction, 0), lanes.rows.length - 1)];
  lanes.reveal();
}

const KEYS = {
  ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15),
  ArrowUp: () => choose(-1), ArrowDown: () => choose(1),
  PageUp: () => choose(-8), PageDown: () => choose(8),
  Home: () => choose(-1e9), End: () => choose(1e9),
  "+": () => zoom(0.5, inSight()), "=": () => zoom(0.5, inSight()), "-": () => zoom(2, inSight()), 0: () => show(...WHOLE),
  "[": () => step(-1), "]": () => step(1), r: nextRevoke, R: nextRevoke,
  Enter: () => { $("sequence").scrollIntoView(); $("diagram").focus({ preventScroll: true }); },
};
// Keys zoom around the chosen moment, if it is in sight.
const inSight = () => (view.cursor >= view.from && view.cursor <= view.to ? view.cursor : undefined);

function listenToOverview() {
  const canvas = $("overview");
  let start = null, shown = null;
  const time = (event) => {
    const place = canvas.getBoundingClientRect();
    return ((event.clientX - place.left) / place.width) * WHOLE[1];
  };
  canvas.addEventListener("pointerdown", (event) => {
    start = time(event);
    shown = start >= view.from && start <= view.to && view.to - view.from < WHOLE[1] * 0.98 ? [view.from, view.to] : null;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const now = time(event);
    if (shown) show(shown[0] + now - start, shown[1] + now - start);
    else if (Math.abs(now - start) > WHOLE[1] / 400) show(Math.min(start, now), Math.max(start, now));
  });
  canvas.addEventListener("pointerup", (event) => {
    const now = time(event);
    if (start !== null && Math.abs(now - start) < WHOLE[1] / 400) {
      const half = (view.to - view.from) / 2;
      show(now - half, now + half);
    }
    start = null;
  });
}
