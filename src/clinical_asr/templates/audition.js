"use strict";
/* The desk in a page: one term at a time, its clip, and the verdict. All values are set as text, never as markup. */
const $ = (id) => document.getElementById(id);
const SAYS = { unheard: "not heard yet", changed: "hear it again", good: "good", fix: "to be mended", drop: "dropped" };
const SIGNS = { unheard: "", changed: "↻", good: "✓", fix: "✎", drop: "✕" };
const SOURCES = { g2p: "the speech engine's own rules", override: "given by a person", "merriam-webster": "Merriam-Webster" };
const PLAY = "M8 5v14l11-7z", STOP = "M6 6h12v12H6z";
const slashed = (ipa) => ipa ? `/${ipa}/` : "as the service reads it";
const settled = (card) => card.standing === "good" || card.standing === "drop";

let cards = [], at = -1, by = sessionStorage.getItem("by") || "", left = 0, then = "", open = true;
const buffers = new Map(), heard = new Set(), tried = new Map();
const card = () => cards[at];

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
const tell = (text) => { $("told").textContent = text; };

/* --- what the server knows ------------------------------------------------------------------------------------------ */

async function refresh() {
  if (!open) return;
  try {
    const before = card(), state = await (await ask("state")).json();
    ({ cards, left, then } = state);
    at = before ? Math.max(0, cards.findIndex((one) => one.term === before.term)) : at;
    drawList();
    if (before && card() && (before.clip !== card().clip || before.standing !== card().standing)) await show(at, false);
  } catch (error) {
    if (error.status) fail(error); else close();
  }
}
function close(why = "The audition has been closed. All verdicts are kept; to go on, type the same command again.") {
  open = false;
  $("gone").textContent = why;
  speaker.stop();
  $("gone").hidden = false;
  for (const button of document.querySelectorAll(".card button, .card input, #finish")) button.disabled = true;
}
function fail(error) {
  if (!error.status && error instanceof TypeError) return close();
  $("heard").textContent = error.message;
  $("heard").className = "heard wrong";
}

/* --- drawing -------------------------------------------------------------------------------------------------------- */

let drawn = "";
function drawList() {
  const now = JSON.stringify([cards, at, left, then]);
  if (now === drawn) return; // nothing new: what has the keyboard keeps it
  drawn = now;
  const done = cards.filter(settled).length;
  $("progress-full").style.width = `${cards.length ? 100 * done / cards.length : 0}%`;
  $("progress").setAttribute("aria-valuenow", done);
  $("progress").setAttribute("aria-valuemax", cards.length);
  $("count").textContent = `${done} of ${cards.length} judged`;
  $("terms").replaceChildren(...cards.map((one, index) => {
    const button = make("button", { type: "button", className: `entry ${one.standing}` },
      make("span", { className: "sign", ariaHidden: "true", textContent: SIGNS[one.standing] }),
      make("span", { className: "name", textContent: one.term }),
      make("span", { className: "unseen", textContent: `, ${SAYS[one.standing]}` }));
    if (index === at) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => show(index));
    return make("li", {}, button);
  }));
  $("sheet").tBodies[0].replaceChildren(...cards.map((one) => make("tr", {}, ...[
    one.term, one.category, slashed(one.shown), SAYS[one.standing], one.by, one.notes,
  ].map((text) => make("td", { textContent: text })))));
  drawDone(done);
}
function drawDone(done) {
  const over = cards.length > 0 && left === 0, fresh = over && $("done").hidden;
  $("done").hidden = !over;
  const dropped = cards.filter((one) => one.standing === "drop").length;
  $("done-text").textContent = `${done - dropped} good, ${dropped} dropped. None is left.`;
  $("then").textContent = then;
  if (fresh) { $("done").focus(); tell("Every term has its verdict."); window.scrollTo(0, 0); }
}
function sentenceOf(one) {
  const start = one.sentence.toLowerCase().indexOf(one.term.toLowerCase());
  if (start < 0) return [one.sentence];
  const end = start + one.term.length;
  return [one.sentence.slice(0, start), make("mark", { textContent: one.sentence.slice(start, end) }), one.sentence.slice(end)];
}

/* Show a term; with focus, the keyboard is on it and an open IPA field is closed. */
async function show(index, focus = true) {
  if (!cards.length) return;
  const moved = index !== at;
  at = Math.min(Math.max(index, 0), cards.length - 1);
  const one = card();
  if (moved || focus) speaker.stop();
  $("card").hidden = false;
  $("place").textContent = `${at + 1} of ${cards.length} · ${one.category}`;
  $("standing").textContent = SAYS[one.standing];
  $("standing").className = `chip ${one.standing}`;
  $("term").textContent = one.term;
  $("ipa").textContent = slashed(one.shown);
  $("source").textContent = SOURCES[one.source] || one.source;
  $("sentence").replaceChildren(...sentenceOf(one));
  $("suspect").hidden = !one.suspect;
  $("suspect").textContent = one.suspect ? `Listen with care: the clip ${one.suspect}.` : "";
  if (moved) $("notes").value = one.notes;
  if (moved || focus) otherwise(false);
  drawHeard();
  drawList();
  if (focus) { $("card").focus({ preventScroll: true }); $("terms").children[at].scrollIntoView({ block: "nearest" }); }
  await drawWave(one);
}
function drawHeard() {
  const one = card(), yes = heard.has(one.clip);
  $("good").setAttribute("aria-disabled", String(!yes));
  $("heard").className = yes ? "heard yes" : "heard";
  $("heard").textContent = yes ? "Played to the end."
    : one.standing === "changed" ? "It is pronounced otherwise now: play it to the end, then judge it again."
      : one.standing === "good" ? `Heard and found good${one.by ? ` by ${one.by}` : ""}. Play it again to judge it again.`
        : "Play it to the end first: good vouches for what you heard.";
}
async function drawWave(one) {
  $("time").textContent = `${one.seconds.toFixed(1)} s`;
  $("so-far-box").setAttribute("width", 0);
  try {
    const path = envelope(samplesOf(await bufferOf(one)));
    if (card() !== one && card().clip !== one.clip) return;
    for (const id of ["wave-all", "wave-played"]) $(id).setAttribute("d", path);
  } catch (error) { fail(error); }
}

/* --- listening ------------------------------------------------------------------------------------------------------ */

async function bufferOf(one) {
  if (!buffers.has(one.clip)) {
    if (buffers.size > 60) buffers.delete(buffers.keys().next().value);
    buffers.set(one.clip, await (await ask(`clip/${encodeURIComponent(one.clip)}`)).arrayBuffer());
  }
  return buffers.get(one.clip);
}
let sounding = "";
async function play() {
  const one = card();
  if (!one || !open) return;
  if (sounding === one.clip) return speaker.stop();
  try {
    const buffer = await bufferOf(one);
    playing(one.clip);
    const whole = await speaker.play(buffer, (now) => {
      $("so-far-box").setAttribute("width", 600 * now / one.seconds);
      $("time").textContent = `${Math.min(now, one.seconds).toFixed(1)} / ${one.seconds.toFixed(1)} s`;
    });
    if (whole) { await ask("heard", { clip: one.clip }); heard.add(one.clip); }
    if (card().clip === one.clip) {
      $("so-far-box").setAttribute("width", whole ? 600 : 0);
      drawHeard();
    }
  } catch (error) { fail(error); } finally { if (sounding === one.clip) playing(""); }
}
function playing(clip) {
  sounding = clip;
  $("play-sign").setAttribute("d", clip ? STOP : PLAY);
  $("play-name").textContent = clip ? "Stop the clip" : "Play the clip";
}
/* The term alone, as it is or with another IPA. */
async function say(ipa = "") {
  const one = card(), key = `${one.clip} ${ipa}`;
  if (!tried.has(key)) {
    if (tried.size > 60) tried.clear();
    tried.set(key, await (await ask("say", { term: one.term, ipa })).arrayBuffer());
  }
  await speaker.play(tried.get(key));
}

/* --- verdicts ------------------------------------------------------------------------------------------------------- */

let busy = false;
async function judge(verdict, ipa = "") {
  const one = card();
  if (!one || !open || busy) return;
  if (verdict === "good" && !heard.has(one.clip)) {
    $("heard").className = "heard wrong";
    return tell($("heard").textContent);
  }
  busy = true;
  speaker.stop();
  try {
    const now = await (await ask("verdict", { term: one.term, clip: one.clip, verdict, by, ipa, notes: $("notes").value })).json();
    tell(`${now.term}: ${SAYS[now.standing]}`);
    await refresh();
  } catch (error) {
    if (verdict === "fix") wrong(error); else fail(error);
    if (error.status === 409) await refresh();
    return;
  } finally { busy = false; } // before the next clip is fetched: a key pressed meanwhile counts
  if (verdict === "fix") await showAndPlay(at); else await next();
}
async function next() {
  if (left === 0) return $("done").focus();
  const order = [...cards.keys()].map((step) => (at + 1 + step) % cards.length);
  const index = order.find((candidate) => !settled(cards[candidate]));
  if (index !== undefined) await showAndPlay(index, $("auto").checked);
}
async function showAndPlay(index, aloud = true) {
  await show(index);
  if (aloud && index === at) play(); // unless somebody has gone on
}

/* --- another pronunciation ------------------------------------------------------------------------------------------ */

/* With the letters a to h free to hear what is suggested; field: the keyboard is in one's own IPA instead. */
async function otherwise(opened, field = false) {
  $("otherwise").hidden = !opened;
  $("fix").setAttribute("aria-expanded", String(opened));
  wrong(null);
  if (!opened) return;
  const one = card();
  $("own-ipa").value = one.shown;
  $("suggestions").replaceChildren(suggestion(0, "", one.shown, "as it is now"));
  if (field) $("own-ipa").select(); else $("suggestions").querySelector("button").focus();
  try {
    const others = await (await ask("suggestions", { term: one.term })).json();
    if (card().term !== one.term) return;
    $("suggestions").append(...others.slice(0, 7).map((other, index) => suggestion(index + 1, other.ipa, other.ipa, other.why)));
  } catch (error) { wrong(error); }
}
function suggestion(index, ipa, shown, why) {
  const letter = "abcdefgh"[index], hear = make("button", { type: "button", className: "hear" },
    make("kbd", { textContent: letter }), ` Hear`, make("span", { className: "unseen", textContent: ` ${shown}` }));
  hear.dataset.hear = letter;
  hear.addEventListener("click", () => say(ipa).catch(wrong));
  const row = make("li", {}, hear, make("span", { className: "other", lang: "und-fonipa", textContent: slashed(shown) }),
    make("span", { className: "soft why", textContent: why }));
  if (ipa) {
    const take = make("button", { type: "button", className: "plain", ariaLabel: `Use ${shown}` },
      "Use this ", make("kbd", { textContent: letter.toUpperCase() }));
    take.dataset.use = letter.toUpperCase();
    take.addEventListener("click", () => judge("fix", ipa));
    row.append(take);
  }
  return row;
}
function wrong(error) {
  if (error && !error.status && error instanceof TypeError) return close();
  $("own-error").textContent = error ? error.message : "";
  $("own-ipa").setAttribute("aria-invalid", String(Boolean(error)));
}
function insert(letter) {
  const field = $("own-ipa");
  field.setRangeText(letter, field.selectionStart, field.selectionEnd, "end");
  field.focus();
}
const hearOwn = () => { wrong(null); say($("own-ipa").value).catch(wrong); };

/* --- keys ----------------------------------------------------------------------------------------------------------- */

const KEYS = {
  " ": play, Enter: play, w: () => say().catch(fail), 1: () => judge("good"), 2: () => otherwise(true), 3: () => judge("drop"),
  j: () => show(at + 1), ArrowDown: () => show(at + 1), ArrowRight: () => show(at + 1),
  k: () => show(at - 1), ArrowUp: () => show(at - 1), ArrowLeft: () => show(at - 1),
  n: () => $("notes").focus(), i: () => otherwise(true, true), "?": () => $("help").showModal(),
};
function onKey(event) {
  if (document.querySelector("dialog[open]") || !open) return;
  const where = event.target;
  if (event.key === "Escape") { speaker.stop(); return $("card").focus(); }
  if (where === $("own-ipa") && event.key === "Enter" && event.ctrlKey) { event.preventDefault(); return judge("fix", where.value); }
  if (where === $("notes") && event.key === "Enter") return $("card").focus();
  if (event.ctrlKey || event.altKey || event.metaKey || where.matches("input") || !$("single").checked) return;
  if (where.matches("button, a, summary") && (event.key === " " || event.key === "Enter")) return;
  const key = CSS.escape(event.key), offered = document.querySelector(`[data-hear="${key}"], [data-use="${key}"]`);
  if (offered && !$("otherwise").hidden) { event.preventDefault(); return offered.click(); }
  const act = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
  if (act) { event.preventDefault(); act(); }
}

/* --- start ---------------------------------------------------------------------------------------------------------- */

function named(name) {
  by = name;
  sessionStorage.setItem("by", by);
  $("listener").textContent = by;
  if (card()) $("card").focus();
}
function wire() {
  document.addEventListener("keydown", onKey);
  $("play").addEventListener("click", play);
  $("word").addEventListener("click", () => say().catch(fail));
  $("good").addEventListener("click", () => judge("good"));
  $("fix").addEventListener("click", () => otherwise($("otherwise").hidden));
  $("drop").addEventListener("click", () => judge("drop"));
  $("own").addEventListener("submit", (event) => { event.preventDefault(); hearOwn(); });
  $("own-save").addEventListener("click", () => judge("fix", $("own-ipa").value));
  for (const letter of document.querySelectorAll("[data-letter]")) letter.addEventListener("click", () => insert(letter.dataset.letter));
  $("help-open").addEventListener("click", () => $("help").showModal());
  $("rename").addEventListener("click", () => { $("name-field").value = by; $("name").showModal(); });
  $("name").addEventListener("cancel", (event) => { if (!by) event.preventDefault(); });
  $("name-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("name-field").value.trim();
    if (name) { $("name").close(); named(name); }
  });
  $("copy").addEventListener("click", () => navigator.clipboard.writeText(then).then(() => { $("copy").textContent = "Copied"; }));
  $("finish").addEventListener("click", async () => { try { await ask("finish", {}); } catch { /* it is gone already */ } close("Finished. You may close this page and go on in the terminal."); });
}
async function start() {
  wire();
  if (!by && !document.body.dataset.ask) by = document.body.dataset.by;
  await refresh();
  const first = cards.findIndex((one) => !settled(one));
  if (cards.length) await show(Math.max(first, 0));
  if (by) named(by); else $("name").showModal();
  setInterval(() => { if (!document.hidden && !busy) refresh(); }, 3000);
}
start();
