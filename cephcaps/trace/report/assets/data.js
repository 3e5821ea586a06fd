// The data of the page, and the words it is told in. Whatever came out of the capture is shown as text: nothing in this
// page makes HTML of a string.
const D = JSON.parse(document.getElementById("data").textContent);
const ASKED = 1 << 16, MERGED = 1 << 17, BITS = 0xffff;
const $ = (id) => document.getElementById(id);

function node(tag, how, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(how || {})) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function drawn(tag, how, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(how || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Caps: bits, and what holding them lets a client do to others. Ceph: src/include/ceph_fs.h, CEPH_CAP_*.
const EXCLUSIVE = 0x22a8, WRITE = 0x1000, READ = 0x8c00, SHARED = 0x154;
const STRENGTHS = [
  { name: "pin only", color: "--pin", height: 3 },
  { name: "shared: may rely on what it knows", color: "--shared", height: 6 },
  { name: "Fr Fc: reads or caches data", color: "--read", height: 9 },
  { name: "Fw: writes", color: "--write", height: 12 },
  { name: "x or Fb: alone, or buffers", color: "--excl", height: 15 },
];

function strength(held) {
  return held & EXCLUSIVE ? 4 : held & (WRITE | 0x4000) ? 3 : held & READ ? 2 : held & SHARED ? 1 : 0;
}

const capStrings = new Map();
function caps(bits) {
  let text = capStrings.get(bits);
  if (text !== undefined) return text;
  text = bits & 1 ? "p" : "";
  for (const [letter, shift, width] of [["A", 2, 2], ["L", 4, 2], ["X", 6, 2], ["F", 8, 8]]) {
    const group = (bits >> shift) & ((1 << width) - 1);
    if (group) text += letter + [..."sxcrwbal"].filter((_, i) => (group >> i) & 1).join("");
  }
  capStrings.set(bits, text = text || "-");
  return text;
}

// Clients, daemons and inodes

const clientName = (number) => D.clients[number].name;
const daemonName = (number) => D.daemons[number];
function clientWith(number) {
  const host = D.clients[number].hostname;
  return host ? `${clientName(number)} (${host})` : clientName(number);
}

class Lane {
  constructor(client, flat) {
    const count = flat.length / 3;
    this.client = client;
    this.count = count;
    this.times = new Float64Array(count + 1);
    this.held = new Uint32Array(count);
    this.flags = new Uint32Array(count);
    let time = 0;
    for (let i = 0; i < count; i++) {
      this.times[i] = time += flat[3 * i];
      this.held[i] = flat[3 * i + 1];
      this.flags[i] = flat[3 * i + 2];
    }
    this.times[count] = Math.max(D.end_us, time);
  }
  // The stretch in which `time` lies; -1 before the first.
  at(time) {
    let low = 0, high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= time) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
  // Since when all of `bits` have been held, as seen from stretch `i`.
  since(i, bits) {
    while (i > 0 && (this.held[i - 1] & bits) === bits) i--;
    return this.times[i];
  }
}

const inodes = D.inodes.map((told, number) => ({
  ...told,
  number,
  lanes: told.lanes.map(([client, flat]) => new Lane(client, flat)),
  messages: told.events.length / 8,
}));
const byIno = new Map(inodes.map((inode) => [inode.ino, inode]));
const nameOf = (told) => told.path || told.ino;

// Times

function duration(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${+(us / 1e3).toPrecision(us < 1e5 ? 3 : 4)} ms`;
  if (us < 12e7) return `${+(us / 1e6).toFixed(us < 1e7 ? 2 : 1)} s`;
  const seconds = Math.round(us / 1e6), minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const two = (number) => String(number).padStart(2, "0");
function clockTime(us, places) {
  const all = D.start_us + us, date = new Date(Math.floor(all / 1000));
  if (Number.isNaN(date.getTime())) return sinceStart(us, places);
  const utc = $("clock").value === "utc";
  const parts = utc ? [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()]
    : [date.getHours(), date.getMinutes(), date.getSeconds()];
  const fraction = String(Math.floor(all % 1e6)).padStart(6, "0").slice(0, places);
  return parts.map(two).join(":") + (places ? `.${fraction}` : "");
}
const sinceStart = (us, places) => `+${(us / 1e6).toFixed(places)} s`;
const moment = (us, places = 6) => ($("clock").value === "since" ? sinceStart : clockTime)(us, places);

function day() {
  const date = new Date(D.start_us / 1000), utc = $("clock").value === "utc";
  if (Number.isNaN(date.getTime())) return "";
  return utc ? date.toISOString().slice(0, 10)
    : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

// Tables: columns of [title, cell of a row, how]; a cell is text or a node.

function table(caption, columns, rows, none) {
  if (!rows.length) return node("p", { class: "muted" }, none || "None.");
  const head = node("tr", {}, ...columns.map(([title, , how]) => node("th", { scope: "col", class: how || "" }, title)));
  const body = rows.map((row) => node("tr", {}, ...columns.map(([, cell, how]) => node("td", { class: how || "" }, cell(row)))));
  return node("table", {}, caption ? node("caption", {}, caption) : null, node("thead", {}, head), node("tbody", {}, ...body));
}

// The stretch of time shown, which all parts of the page share.

const view = { from: 0, to: Math.max(D.end_us, 1000), cursor: D.end_us, inode: inodes[0] || null, listeners: [] };
const WHOLE = [0, view.to], NARROWEST = 20;

function changed() { for (const listener of view.listeners) listener(); }

function show(from, to) {
  const width = Math.min(Math.max(to - from, NARROWEST), WHOLE[1]);
  from = Math.min(Math.max(from, 0), WHOLE[1] - width);
  view.from = from;
  view.to = from + width;
  changed();
}

function zoom(factor, around) {
  const at = around === undefined ? (view.from + view.to) / 2 : around;
  show(at - (at - view.from) * factor, at + (view.to - at) * factor);
}
const pan = (share) => show(view.from + share * (view.to - view.from), view.to + share * (view.to - view.from));

// Shows an inode, and the time around a moment of it, everywhere.
function goTo(ino, at, took) {
  const inode = byIno.get(ino);
  if (inode) view.inode = inode;
  if (at !== undefined) {
    view.cursor = Math.min(at + (took || 0), D.end_us);
    const margin = Math.max((took || 0) * 0.6, 500);
    show(at - margin, at + (took || 0) + margin);
  } else changed();
  lanes.reveal();
  $("who").scrollIntoView();
  $("lanes").focus({ preventScroll: true });
}
const goButton = (ino, at, took) =>
  byIno.has(ino) ? node("button", { onclick: () => goTo(ino, at, took), title: "Show it in its lane" }, "show") : "";
