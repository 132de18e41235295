(() => {
  "use strict";
  const { kind: page, names, facets, rows, spellings } = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const list = at("list"), search = at("search"), sort = at("sort"), more = at("more"), form = document.querySelector(".filters");
  const CHUNK = 60;
  const last = names.length - 1;
  const picked = { kind: "all" };
  let found = [], shown = 0;

  // Text goes in as text: nothing of the data is ever read as HTML.
  const make = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };
  const unseen = (text) => make("span", "unseen", text);

  // --- what a row is ------------------------------------------------------------------------------------------------
  const after = (row) => row.sides[last] || row.sides[0];
  const ranking = page === "ranking", turned = page === "comparison";
  const before = (row) => (turned ? row.sides[0] : null);
  const judged = (row) => (ranking ? row.sides : [after(row)]); // whose errors a row is filtered and sorted by
  const total = (row, count) => judged(row).reduce((sum, side) => sum + count(side), 0);
  const missing = (row) => row.sides.filter((side) => side.missed > 0).length;
  const KINDS = {
    all: ["All rows", () => true],
    any: ["Any error", (row) => total(row, (side) => side.errors) > 0],
    missed: [ranking ? "Missed by any" : "Term missed", (row) => total(row, (side) => side.missed) > 0],
    unsaid: ["False insertion", (row) => total(row, (side) => side.unsaid.length) > 0],
    ...(ranking && {
      split: ["Heard by some only", (row) => missing(row) > 0 && missing(row) < names.length],
      every: ["Missed by all", (row) => missing(row) === names.length],
      ...Object.fromEntries(names.map((name, at) => [`by${at}`, [`Missed by ${name}`, (row) => row.sides[at].missed > 0]])),
    }),
    ...(turned && {
      mended: ["Newly heard", (row) => before(row).missed > after(row).missed],
      broken: ["Newly missed", (row) => before(row).missed < after(row).missed],
    }),
  };
  const rate = (side) => side.errors / Math.max(1, side.words);
  const snr = (row) => (row.noise === "clean" ? 1e9 : parseFloat(row.noise.replace("snr_", "")) || 0);
  const apart = (row) => Math.max(...row.sides.map(rate)) - Math.min(...row.sides.map(rate));
  const words = new Intl.Collator("en", { numeric: true });
  const SORTS = {
    worst: ["worst first", (a, b) => total(b, (side) => side.missed) - total(a, (side) => side.missed) || total(b, (side) => side.unsaid.length) - total(a, (side) => side.unsaid.length) || total(b, rate) - total(a, rate)],
    wer: ["WER", (a, b) => total(b, rate) - total(a, rate)],
    ...(ranking && { split: ["most apart", (a, b) => apart(b) - apart(a)] }),
    ...(turned && { change: ["largest change", (a, b) => Math.abs(rate(before(b)) - rate(after(b))) - Math.abs(rate(before(a)) - rate(after(a)))] }),
    term: ["term", (a, b) => words.compare(a.term, b.term)],
    noise: ["noisiest first", (a, b) => snr(a) - snr(b)],
    id: ["id", () => 0],
  };
  for (const row of rows) {
    row.text = [row.id, row.written, row.said, ...row.sides.map((side) => (side ? side.heard : ""))].join("\n").toLowerCase();
  }
  rows.sort((a, b) => words.compare(a.id, b.id));
  list.classList.toggle("ranked", ranking);

  // --- filters ------------------------------------------------------------------------------------------------------
  const selects = {};
  for (const [name, label] of Object.entries(facets)) {
    if (new Set(rows.map((row) => row[name])).size < 2) continue;
    const select = make("select");
    select.id = `facet-${name}`;
    const caption = make("label", "", label);
    caption.htmlFor = select.id;
    select.addEventListener("change", () => { picked[name] = select.value; refresh(); });
    at("facets").append(make("div", "field", caption, select));
    selects[name] = select;
  }
  const counts = {};
  for (const [kind, [label]] of Object.entries(KINDS)) {
    const radio = make("input");
    Object.assign(radio, { type: "radio", name: "kind", value: kind, checked: kind === "all" });
    radio.addEventListener("change", () => { picked.kind = kind; refresh(); });
    counts[kind] = make("span", "count");
    at("kinds").append(make("label", "", radio, `${label} `, counts[kind]));
  }
  for (const [name, [label]] of Object.entries(SORTS)) sort.append(new Option(label, name));

  // A row passes all filters but the one that is being counted.
  const passes = (row, except) => {
    if (except !== "kind" && !KINDS[picked.kind][1](row)) return false;
    for (const name of Object.keys(selects)) {
      if (name !== except && picked[name] && row[name] !== picked[name]) return false;
    }
    return !picked.text || row.text.includes(picked.text);
  };
  const fill = (name) => {
    const select = selects[name], number = new Map();
    for (const row of rows) {
      const known = number.get(row[name]) || 0;
      number.set(row[name], known + (passes(row, name) ? 1 : 0));
    }
    const options = [...number].filter(([value]) => value).sort(([a], [b]) => words.compare(a, b));
    select.replaceChildren(new Option("all", ""), ...options.map(([value, n]) => new Option(`${value} (${n})`, value)));
    select.value = picked[name] || "";
  };
  const refresh = () => {
    Object.keys(selects).forEach(fill);
    for (const kind of Object.keys(KINDS)) counts[kind].textContent = rows.filter((row) => passes(row, "kind") && KINDS[kind][1](row)).length;
    found = rows.filter((row) => passes(row));
    const order = SORTS[sort.value][1];
    found.sort((a, b) => order(a, b));
    at("status").textContent = `${found.length} of ${rows.length} rows`;
    list.replaceChildren();
    shown = 0;
    grow();
  };
  const clear = () => {
    for (const name of Object.keys(picked)) delete picked[name];
    picked.kind = "all";
    form.querySelector("input[value=all]").checked = true;
    search.value = "";
    refresh();
  };
  // A table of some rows may know a term by another spelling than the whole board does.
  const named = (name, value) => (name === "term" && Object.hasOwn(spellings, value) ? spellings[value] : value);
  const choose = (pairs) => {
    clear();
    for (const [name, value] of pairs) if (selects[name]) picked[name] = named(name, value);
    refresh();
    at("rows").scrollIntoView();
    at("rows").focus({ preventScroll: true });
  };

  // --- rows, drawn as they are needed -------------------------------------------------------------------------------
  const SAY = { s: "instead: ", d: "not heard: ", i: "not said: " };
  const NAMES = { hit: "term, heard: ", miss: "term, missed: ", unsaid: "term nobody said: ", confused: "term, heard as another term: " };
  const segment = ([operation, said, heard]) => {
    const parts = [];
    if (operation === "=") parts.push(said);
    if (operation === "s" || operation === "d") parts.push(make("del", "", unseen(operation === "d" ? SAY.d : "said: "), said));
    if (operation === "s") parts.push(" ");
    if (operation === "s" || operation === "i") parts.push(make("ins", "", unseen(operation === "i" ? SAY.i : SAY.s), heard));
    const single = (said + heard).includes(" ") ? "" : " one"; // the sign stays with its word
    const lone = operation === "d" || operation === "i" ? ` lone${single}` : "";
    return operation === "=" ? parts[0] : make("span", `edit${lone}`, ...parts);
  };
  const diff = (side, name) => {
    const line = make("div", "diff");
    if (name) line.append(make("span", "side-name", ...(ranking && side ? [heardSign(side), name] : [name])), " ");
    if (!side) return line.append("not transcribed"), line;
    const words = ranking ? make("span") : line; // a system's name stands in a column of its own
    let open = null; // the term whose words are being drawn: one frame around all of them
    side.diff.forEach((one, place) => {
      const mark = one[3], space = place ? " " : "";
      if (mark && open && open.mark === mark) { open.frame.append(" ", segment(one)); return; }
      open = mark ? { mark, frame: make("span", `term ${mark}`, unseen(NAMES[mark]), segment(one)) } : null;
      words.append(space, open ? open.frame : segment(one));
    });
    if (ranking) line.append(words);
    return line;
  };
  const heardSign = (side) => {
    const good = side.occurrences ? !side.missed : !side.errors;
    return make("span", `sign ${good ? "good" : "bad"}`, good ? "✓ " : "✕ ");
  };
  const outcome = (row) => {
    const now = after(row), then = before(row);
    const say = (good, text) => make("span", `outcome ${good ? "good" : "bad"}`, text);
    if (ranking && row.term) {
      const n = missing(row);
      return n ? say(false, n === names.length ? "✕ missed by all" : `✕ missed by ${n} of ${names.length}`) : say(true, "✓ heard by all");
    }
    if (ranking) return total(row, (side) => side.errors) ? say(false, "✕ words wrong") : say(true, "✓ no error");
    if (!row.term) return now.errors ? say(false, "✕ words wrong") : say(true, "✓ no error");
    if (then && then.missed > now.missed) return say(true, "✓ newly heard");
    if (then && then.missed < now.missed) return say(false, "✕ newly missed");
    return now.missed ? say(false, then ? "✕ still missed" : "✕ missed") : say(true, "✓ heard");
  };
  const player = (row) => {
    const box = make("div", "player");
    if (!row.audio) return box.append("no recording"), box;
    const audio = make("audio");
    Object.assign(audio, { controls: true, preload: "none", src: row.audio });
    audio.setAttribute("aria-label", `Recording of ${row.id}`);
    audio.addEventListener("error", () => box.replaceChildren(`recording not found: ${row.audio}`), { once: true });
    audio.addEventListener("play", () => {
      for (const other of list.querySelectorAll("audio")) if (other !== audio) other.pause();
    });
    box.append(audio);
    return box;
  };
  const written = (row) => {
    const details = make("details", "written"), terms = make("dl");
    details.append(make("summary", "", "As written"), terms);
    const add = (name, text) => terms.append(make("dt", "", name), make("dd", "", text));
    add("said", row.said);
    row.sides.forEach((side, place) => { if (side) add(names[place] ? `heard ${names[place]}` : "heard", side.heard || "(nothing)"); });
    add("id", row.id);
    return details;
  };
  const draw = (row, place) => {
    const unsaid = [...new Set(judged(row).flatMap((side) => side.unsaid))];
    const about = [row.category, row.noise, row.stratum, row.voice, row.context].filter(Boolean).join(" · ");
    const head = make("div", "row-head", make("span", "row-term", row.written || row.id), outcome(row));
    if (unsaid.length) head.append(make("span", "outcome bad", `! nobody said ${unsaid.join(", ")}`));
    head.append(make("span", "", about), make("span", "", `${judged(row).map((side) => side.errors).join(", ")} of ${after(row).words} words wrong`));
    const item = make("li", "row", head);
    const lines = row.sides.map((side, index) => diff(side, names[index]));
    item.append(make("div", "diffs", ...lines), player(row), written(row));
    item.tabIndex = place ? -1 : 0;
    item.dataset.id = row.id;
    item.setAttribute("aria-posinset", place + 1);
    item.setAttribute("aria-setsize", found.length);
    return item;
  };
  const grow = (by = CHUNK) => {
    const next = found.slice(shown, shown + by).map((row, index) => draw(row, shown + index));
    list.append(...next);
    shown += next.length;
    more.hidden = shown >= found.length;
    more.textContent = `Show more rows (${found.length - shown} left)`;
  };

  // --- keyboard -----------------------------------------------------------------------------------------------------
  const focusRow = (place) => {
    if (place >= shown && shown < found.length) grow();
    const target = list.children[Math.min(Math.max(place, 0), list.children.length - 1)];
    if (!target) return;
    for (const other of list.querySelectorAll('.row[tabindex="0"]')) other.tabIndex = -1;
    target.tabIndex = 0;
    target.focus();
    target.scrollIntoView({ block: "nearest" });
  };
  const play = (item) => {
    const audio = item.querySelector("audio");
    if (!audio) return;
    if (audio.paused) audio.play().catch(() => undefined); // a missing file says so itself
    else audio.pause();
  };
  const STEPS = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target, row = target.closest(".row"), typing = target.matches("input, select, textarea");
    if (event.key === "Escape" && form.contains(target)) { clear(); search.focus(); return; }
    if (typing) return;
    if (event.key === "/") { event.preventDefault(); search.focus(); search.select(); return; }
    const letter = event.key === "j" || event.key === "k", onRow = target === row;
    if (event.key in STEPS && row && (letter || onRow)) {
      event.preventDefault();
      focusRow([...list.children].indexOf(row) + STEPS[event.key]);
    } else if (letter) {
      event.preventDefault();
      focusRow(0);
    } else if (onRow && (event.key === "Home" || event.key === "End")) {
      event.preventDefault();
      if (event.key === "End") grow(found.length);
      focusRow(event.key === "Home" ? 0 : found.length - 1);
    } else if (onRow && event.key === " ") {
      event.preventDefault();
      play(row);
    } else if (onRow && event.key === "Enter") {
      const details = row.querySelector("details");
      details.open = !details.open;
    }
  });

  // --- the rest -----------------------------------------------------------------------------------------------------
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { picked.text = search.value.trim().toLowerCase(); refresh(); }, 90);
  });
  sort.addEventListener("change", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); clear(); });
  more.addEventListener("click", () => { const place = shown; grow(); focusRow(place); });
  new IntersectionObserver(([entry]) => { if (entry.isIntersecting && shown < found.length) grow(); }, { rootMargin: "600px" }).observe(more);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-facet]"), cell = event.target.closest(".cell");
    if (link) { event.preventDefault(); choose([[link.dataset.facet, link.dataset.value]]); }
    if (cell) choose([["term", cell.dataset.term], [cell.dataset.facet, cell.dataset.value]]);
  });
  const expand = () => {
    grow(found.length);
    for (const details of document.querySelectorAll("details:not(.written)")) details.open = true;
  };
  window.addEventListener("beforeprint", expand);
  matchMedia("print").addEventListener("change", (media) => { if (media.matches) expand(); });
  refresh();
})();
