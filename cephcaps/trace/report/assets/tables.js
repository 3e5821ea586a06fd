// The verdict, and all that is told in tables.

function heading() {
  const { messages, bytes, malformed, problems } = D.summary;
  $("file").textContent = D.file;
  const clients = D.clients.slice(1).length, daemons = D.daemons.length - 1;
  $("span").textContent = `${day()} ${moment(0)} to ${moment(D.end_us)} (${duration(D.end_us)}); ${number(messages)} messages,`
    + ` ${number(bytes)} bytes; ${clients} clients, ${daemons} MDS daemons`
    + (malformed ? `; ${malformed} messages malformed` : "")
    + (problems.length ? `; not read: ${problems.map((one) => `${one.count} ${one.problem}`).join(", ")}` : "");
}

function verdict() {
  const found = [], box = $("verdict");
  const { unanswered, unanswered_count: late } = D;
  if (late) {
    const items = unanswered.slice(0, 8).map((asked) => node("li", {},
      node("strong", {}, clientWith(asked.client)),
      ...(asked.caps === "-" ? [" owes an answer about "] : [" keeps ", node("strong", { class: "mono" }, asked.caps), " of "]),
      node("strong", {}, nameOf(asked)), `, wanted back by ${daemonName(asked.daemon)} since `,
      node("strong", {}, moment(asked.at_us)), ": for ", node("strong", {}, duration(asked.age_us)), `, seq ${asked.seq}`,
      ...(asked.waiting.length ? [`; ${asked.waiting.map((one) => `${clientName(one.client)} waits with ${one.what}`).join(", ")}`] : []),
      `. It was last heard at ${moment(D.clients[asked.client].heard_us)}${D.clients[asked.client].heard_us <= asked.at_us
        ? ", before that: it may be gone or evicted, which a capture does not tell" : ""}. `, goButton(asked.ino, asked.at_us, asked.age_us)));
    found.push(node("div", { class: "verdict bad" },
      node("h2", {}, late === 1 ? "A revoke is unanswered at the end" : `${number(late)} revokes are unanswered at the end`),
      node("ol", {}, ...items), late > items.length ? node("p", {}, node("a", { href: "#waiting" }, `and ${number(late - items.length)} more`)) : null));
  }
  const slow = D.revokes.slowest[0];
  if (!late) {
    found.push(node("div", { class: "verdict good" }, node("h2", {}, "Every revoke was answered"),
      slow ? node("p", {}, `${number(D.revokes.all.count)} revokes; the longest took ${duration(slow.took_us)}: ${clientWith(slow.client)}, `,
        node("span", { class: "mono" }, slow.caps), " of ", node("strong", {}, nameOf(slow)), ` at ${moment(slow.at_us)}. `,
        goButton(slow.ino, slow.at_us, slow.took_us)) : node("p", {}, "No MDS asked for caps back.")));
  }
  const stuck = D.waiting.filter((one) => one.age_us > 1e6);
  if (stuck.length) {
    found.push(node("div", { class: "verdict bad" }, node("h2", {}, `${stuck.length} requests or flushes have waited for more than a second`),
      node("p", {}, `The oldest: ${clientWith(stuck[0].client)} waits for ${stuck[0].what} ${nameOf(stuck[0])} since ${moment(stuck[0].at_us)}. `,
        node("a", { href: "#waiting" }, "All"))));
  }
  if (D.findings && D.findings.length) {
    const rules = new Map();
    for (const one of D.findings) rules.set(one.rule, (rules.get(one.rule) || 0) + 1);
    found.push(node("div", { class: "verdict bad" }, node("h2", {}, D.findings.length === 1 ? "Lint: a finding" : `Lint: ${D.findings.length} findings`),
      node("p", {}, [...rules].map(([rule, n]) => `${rule} (${n})`).join(", "), ". ", node("a", { href: "#lint" }, "All"))));
  }
  box.replaceChildren(...found);
}

function tables() {
  const client = ["Client", (row) => clientWith(row.client)], rank = ["Rank", (row) => daemonName(row.daemon)];
  const inode = ["Inode", nameOf, "path"], at = ["At", (row) => moment(row.at_us), "num"], caps = ["Caps", (row) => row.caps, "mono"];
  const age = ["For", (row) => node("span", { class: "late" }, duration(row.age_us)), "num"];
  $("slowest-inodes").replaceChildren(table("", [
    inode, ["Clients", (row) => row.clients, "num"], ["Revokes", (row) => number(row.revokes), "num"],
    ["Unanswered", (row) => (row.unanswered ? node("span", { class: "late" }, row.unanswered) : "0"), "num"],
    ["Longest", (row) => duration(row.longest_us), "num"], ["All together", (row) => duration(row.waited_us), "num"],
    ["", (row) => goButton(row.ino)],
  ], D.slowest_inodes, "No inode had a revoke."));
  $("slowest-revokes").replaceChildren(table("", [
    ["Took", (row) => duration(row.took_us), "num"], client, rank, inode, ["Wanted back", (row) => row.caps, "mono"],
    at, ["seq", (row) => row.seq, "num"], ["Answered by", (row) => ({ caps: "cap message", request: "release in a request", caprelease: "cap release" })[row.answered_by]],
    ["", (row) => goButton(row.ino, row.at_us, row.took_us)],
  ], D.revokes.slowest, "No revoke was answered."));
  $("took").replaceChildren(table("", [
    ["What", (row) => row.what], ["Count", (row) => number(row.count), "num"], ["Median", (row) => duration(row.median_us), "num"],
    ["90 %", (row) => duration(row.p90_us), "num"], ["99 %", (row) => duration(row.p99_us), "num"], ["Most", (row) => duration(row.most_us), "num"],
  ], [...D.took].sort((a, b) => b.most_us - a.most_us)));
  $("unanswered-revokes").replaceChildren(table("", [age, client, rank, inode, ["Wanted back", (row) => row.caps, "mono"], at,
    ["seq", (row) => row.seq, "num"], ["", (row) => goButton(row.ino, row.at_us, row.age_us)]], D.unanswered));
  $("unanswered-requests").replaceChildren(table("", [age, client, rank, ["What", (row) => row.what], inode, caps, at,
    ["tid", (row) => row.tid, "num"], ["", (row) => goButton(row.ino, row.at_us, row.age_us)]], D.waiting));
  if (D.findings) {
    $("lint").hidden = $("to-lint").hidden = false;
    $("findings").replaceChildren(table("", [["Rule", (row) => row.rule, "mono"], ["Client", (row) => row.client], inode, at,
      ["What", (row) => row.what, "path"], ["", (row) => goButton(row.ino, row.at_us, 0)]], D.findings, "Lint found nothing."));
  }
  $("clients").replaceChildren(table("", [["Client", (row) => row.name], ["Host", (row) => row.hostname || "–"],
    ["Entity", (row) => row.entity_id || "–"], ["Root", (row) => row.root || "–", "path"],
    ["Software", (row) => row.kernel_version || row.ceph_version || "–", "path"], ["Last heard", (row) => moment(row.heard_us), "num"]],
  D.clients.slice(1, 500)));
  const marks = [];
  for (let i = 0; i < D.marks.length; i += 5) marks.push(D.marks.slice(i, i + 5));
  $("marks").replaceChildren(table("", [["At", (row) => moment(row[0]), "num"], ["Client", (row) => clientWith(row[2])],
    ["", (row) => (row[3] & 1 ? "→" : "←")], ["Rank", (row) => daemonName(row[3] >> 1)], ["Message", (row) => D.kinds[row[1]], "mono"],
    ["seq, or max_caps", (row) => row[4] || "", "num"]], marks.slice(0, 1000)),
  ...(marks.length > 1000 ? [node("p", { class: "muted" }, `and ${marks.length - 1000} more`)] : []));
  messages();
}

function messages() {
  const count = (title, key) => [title, (row) => number(row[key]), "num"];
  $("types").replaceChildren(table("By type", [["Type", (row) => row.type, "mono"], count("To daemons", "to_daemon"), count("To clients", "to_client"),
    count("Bytes", "bytes"), count("Sent again", "resent"), count("Malformed", "malformed")], D.summary.types));
  $("pairs").replaceChildren(table("By client and daemon", [["Client", (row) => row.client], ["Daemon", (row) => row.daemon],
    count("To daemon", "to_daemon"), count("To client", "to_client"), count("Bytes", "bytes")], D.summary.pairs.slice(0, 500)));
  $("problems").replaceChildren(table("What could not be read", [["Problem", (row) => row.problem], count("Count", "count"), count("Bytes", "bytes")],
    D.summary.problems, "Nothing was unreadable."));
  const { merged_us: merged, dropped_inodes: dropped, most_events: most, marks_left_out: marks } = D.limits;
  const left = [];
  if (merged) left.push(`Changes of caps within ${duration(merged)} of each other are shown as one where there were more than two.`);
  if (dropped) left.push(`${number(dropped)} inodes, those with the fewest revokes, clients and messages, are not in the lanes; revoke times and counts include them.`);
  if (most) left.push(`The sequence diagram has at most ${number(most)} messages of an inode, the first and the last; of inodes with few revokes perhaps none.`);
  if (marks) left.push(`${number(marks)} messages about sessions at the end are not listed.`);
  $("limits").replaceChildren(...(left.length ? left : ["Nothing: all inodes, changes and messages about them are here."]).map((text) => node("li", {}, text)));
}
