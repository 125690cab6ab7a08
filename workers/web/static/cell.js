// The panel of one cell: what is known of it, its trace, its stimuli, and what may be decided.
import { get, mayChange, say, send } from "/static/page.js";
import { Trace } from "/static/trace.js";

export function node(tag, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "text", "g", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  made.append(...children.filter((c) => c !== null && c !== undefined).map((c) => (typeof c === "number" ? String(c) : c)));
  return made;
}

export function text(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  return typeof value === "number" && !Number.isInteger(value) ? value.toFixed(digits) : String(value);
}

const NAMES = { oracle: "oracle", single_trial: "single trials", single_trial_frozen: "… behavior frozen", to_average: "to the average", fraction_oracle: "fraction oracle", feve: "FEVE", cc_norm: "CC norm", validation: "validation" };
let asked = 0;

export async function show(panel, base, unit, changed) {
  const turn = ++asked;
  const found = await get(`/api${base}/cells/${unit}`);
  if (turn !== asked) return; // another one was clicked meanwhile
  const again = async () => { await changed(); await show(panel, base, unit, changed); };
  const trace = node("div", { class: "trace" });
  const parts = [
    node("h2", {}, found.unit, " ", badge(found)),
    reason(found), mayChange ? actions(base, found, again) : null,
    node("h3", {}, "Stimuli: predicted and measured"), stimuli(found),
    node("h3", {}, "Trace, activity and images on the monitor"), trace,
    node("h3", {}, "How well it is known"), models(found),
    node("h3", {}, "Where it is"), facts(found),
    ...(found.decisions.length || found.labels.length ? [node("h3", {}, "By hand"), hand(found)] : []),
  ];
  panel.replaceChildren(...parts.filter((part) => part !== null));
  panel.dataset.unit = unit;
  new Trace(trace, `/api${base}/cells/${unit}/trace`);
}

function badge({ target, decisions }) {
  const decided = decisions.length ? decisions[0].included : null;
  if (decided === true) return node("span", { class: "tag included" }, "included by hand");
  if (decided === false) return node("span", { class: "tag excluded" }, "excluded by hand");
  if (!target) return node("span", { class: "tag" }, "not judged yet");
  return target.kept ? node("span", { class: "tag target" }, `target ${target.rank + 1}`) : node("span", { class: "tag" }, "no target");
}

function reason({ target, responses }) {
  if (target) return node("p", { class: "muted" }, target.reason);
  return node("p", { class: "muted" }, responses ? "Targets are not selected yet." : "Not in the loop's data set.");
}

function actions(base, found, again) {
  const who = node("input", { name: "who", placeholder: "your name", required: true, maxlength: 32, value: localStorage.getItem("who") || "", "aria-label": "Your name" });
  const why = node("input", { name: "why", placeholder: "reason", maxlength: 255, "aria-label": "Reason" });
  const post = async (address, content, done) => {
    localStorage.setItem("who", who.value);
    try { await send(address, content); say(done); await again(); } catch (error) { say(error.message, true); }
  };
  const decide = (include, done) => () => post(`/api${base}/cells/${found.unit_id}/decide`, { include, why: why.value, who: who.value }, done);
  const label = (is_soma) => () => post(`/api${base}/cells/${found.unit_id}/label`, { is_soma, who: who.value }, is_soma ? "labeled as a soma" : "labeled as no soma");
  const decided = found.decisions.length ? found.decisions[0].included : null;
  return node("div", { class: "actions" },
    node("div", { class: "row" }, who, why),
    node("div", { class: "row" },
      node("button", { class: "quiet", "data-do": "include", "aria-pressed": String(decided === true), onclick: decide(true, "Always a target from the next plan on") }, "Include"),
      node("button", { class: "quiet", "data-do": "exclude", "aria-pressed": String(decided === false), onclick: decide(false, "No target from the next plan on") }, "Exclude"),
      decided === null ? null : node("button", { class: "quiet", "data-do": "rule", onclick: decide(null, "The rule decides again") }, "Let the rule decide"),
      node("span", { class: "grow" }),
      node("button", { class: "quiet", "data-do": "soma", onclick: label(true) }, "Soma"),
      node("button", { class: "quiet", "data-do": "no-soma", onclick: label(false) }, "No soma")));
}

function stimuli({ stimuli }) {
  if (!stimuli.length) return node("p", { class: "muted small" }, "No images were made for this cell.");
  const values = stimuli.flatMap((s) => [s.predicted ?? 0, ...s.measured.map((m) => (m.mean ?? 0) + (m.sem ?? 0))]);
  const most = Math.max(...values, 1e-9);
  return node("div", { class: "stimuli" }, ...stimuli.map((s) =>
    node("figure", { class: s.planned ? "planned" : "" },
      node("img", { src: s.image, alt: `${s.name} of this cell`, loading: "lazy", width: 128 }),
      node("figcaption", {}, node("strong", {}, s.name), s.planned ? null : node("span", { class: "muted", title: s.reason }, s.ok ? " not in the plan" : ` ${s.reason}`)),
      bars(s, most))));
}

function bars(s, most) {
  const rows = [["predicted", s.predicted, null, false], ...s.measured.map((m) => [m.scan, m.mean, m.sem, true])];
  const svg = node("svg", { class: "bars", viewBox: `0 0 128 ${rows.length * 14}`, width: 128, height: rows.length * 14, role: "img" });
  rows.forEach(([name, value, sem, measured], i) => {
    const long = (v) => Math.max(0, (76 * (v ?? 0)) / most), y = i * 14 + 3;
    svg.append(node("rect", { x: 0, y, width: 76, height: 8, class: "track" }), node("rect", { x: 0, y, width: long(value), height: 8, fill: s.color, opacity: measured ? 1 : 0.45 }));
    if (sem) svg.append(node("line", { x1: long(value - sem), x2: long(value + sem), y1: y + 4, y2: y + 4, class: "sem" }));
    svg.append(node("text", { x: 82, y: y + 8 }, text(value)));
    svg.append(node("title", {}, rows.map(([n, v, e]) => `${n} ${text(v, 3)}${e ? ` ± ${text(e, 3)}` : ""}`).join("\n")));
  });
  return svg;
}

function models({ models, target }) {
  if (!models.length) return node("p", { class: "muted small" }, "No ensemble is evaluated yet.");
  const shown = Object.keys(NAMES).filter((name) => models.some((m) => m[name] !== null));
  return node("div", { class: "scroll" }, node("table", {},
    node("thead", {}, node("tr", {}, node("th", {}, "correlation"), ...models.map((m) => node("th", { class: "n" }, m.kind.toUpperCase())))),
    node("tbody", {}, ...shown.map((name) => node("tr", {}, node("td", {}, NAMES[name]), ...models.map((m) => node("td", { class: "n" }, text(m[name]))))),
      target && target.score !== null ? node("tr", {}, node("td", {}, "score of the selection"), node("td", { class: "n" }, text(target.score))) : "")));
}

function facts({ place, field, days }) {
  const rows = [
    ["center (px)", `${text(place.x_px, 1)}, ${text(place.y_px, 1)}`],
    ["center (µm)", place.x_um === null ? "–" : `${text(place.x_um, 1)}, ${text(place.y_um, 1)}`],
    ["depth (µm)", text(place.z_um, 0)], ["field", field], ["area (px)", place.area_px],
    ["SNR", text(place.snr, 1)], ["soma probability", text(place.soma)], ["decay (s)", text(place.decay_s)],
    ...days.map((d) => [`found again in ${d.scan}`, `unit ${d.unit_id}`]),
  ];
  return node("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, value)]));
}

function hand({ decisions, labels }) {
  const word = { true: "included", false: "excluded", null: "left to the rule" };
  return node("ul", { class: "plain small" },
    ...decisions.map((d) => node("li", {}, node("strong", {}, word[String(d.included)]), ` by ${d.who}, ${d.when}: ${d.why}`)),
    ...labels.map((l) => node("li", {}, node("strong", {}, l.is_soma ? "soma" : "no soma"), ` says ${l.labeler}`)));
}
