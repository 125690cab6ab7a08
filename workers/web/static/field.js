// The field page: colors of the masks, which cell is chosen, and its panel.
import { FieldCanvas, decode } from "/static/canvas.js";
import { show } from "/static/cell.js";
import { get, say } from "/static/page.js";

const COLORS = { other: "#facc15", target: "#f43f5e", included: "#22d3ee", excluded: "#94a3b8" };
const place = document.getElementById("fieldpage");
if (place) start().catch((error) => say(error.message, true));

async function start() {
  const { base, scan, imaging } = place.dataset;
  const which = document.getElementById("which"), picture = document.getElementById("picture");
  const form = document.getElementById("unit"), panel = document.getElementById("cell");
  let canvas, units, order;

  function facts() { return which.selectedOptions ? { value: which.value, ...which.selectedOptions[0].dataset } : which.dataset; }
  function address() { return `fields/${scan}/${imaging}/${facts().value}`; }
  function colors() {
    const of = { other: [], target: [], included: [], excluded: [] };
    units.unit_id.forEach((_, i) => {
      const decided = units.decided[i];
      of[decided === true ? "included" : decided === false ? "excluded" : units.rank[i] >= 0 && units.rank[i] !== null ? "target" : "other"].push(i);
    });
    canvas.group(Object.keys(of).map((name) => ({ color: COLORS[name], width: name === "other" ? 1.1 : 1.9, members: of[name] })));
  }
  async function learn() {
    units = await get(`/api${base}/fields/${facts().value}`);
    order = units.unit_id.map((_, i) => i);
    const rank = (i) => (units.rank[i] === null ? 3e9 : units.rank[i] < 0 ? 2e9 - 1e6 * (units.oracle[i] ?? -1) : units.rank[i]);
    order.sort((a, b) => rank(a) - rank(b) || a - b);
  }
  async function choose(i, move) {
    canvas.selected = i;
    form.value = units.unit_id[i];
    if (move) canvas.center(units.x[i] + 0.5, units.y[i] + 0.5); else canvas.draw();
    history.replaceState(null, "", `#${units.unit_id[i]}`);
    await show(panel, base, units.unit_id[i], async () => { await learn(); colors(); });
  }
  function step(by) {
    const at = order.indexOf(canvas.selected);
    choose(order[at < 0 ? 0 : (at + by + order.length) % order.length], !canvas.fitted).catch(fail);
  }
  const fail = (error) => say(error.message, true);

  async function open() {
    const { width, height, um } = facts();
    canvas ??= new FieldCanvas(document.getElementById("field"), +width, +height, +um);
    Object.assign(canvas, { width: +width, height: +height, um: +um, selected: -1, shapes: [], groups: [] });
    canvas.fit();
    const drawn = canvas.picture(`/images/${address()}/${picture.value}.png`);
    const [packed] = await Promise.all([get(`/api/${address()}/outlines`), learn()]);
    canvas.shapes = decode(packed);
    colors();
    canvas.onpick = (i) => choose(i, false).catch(fail);
    await drawn;
    place.dataset.ready = "yes";
    const asked = units.unit_id.indexOf(Number(location.hash.slice(1)));
    if (asked >= 0) await choose(asked, false); else if (order.length) await choose(order[0], false);
  }
  window.fieldCanvas = () => ({ canvas, units }); // for whoever looks from the console
  which.addEventListener("change", () => open().catch(fail));
  picture.addEventListener("change", () => canvas.picture(`/images/${address()}/${picture.value}.png`).catch(fail));
  document.getElementById("masks").addEventListener("click", (e) => { canvas.masks = !canvas.masks; e.target.setAttribute("aria-pressed", canvas.masks); canvas.draw(); });
  document.getElementById("in").addEventListener("click", () => canvas.zoom(1.5));
  document.getElementById("out").addEventListener("click", () => canvas.zoom(1 / 1.5));
  document.getElementById("fit").addEventListener("click", () => canvas.fit());
  document.getElementById("before").addEventListener("click", () => step(-1));
  document.getElementById("after").addEventListener("click", () => step(1));
  document.getElementById("goto").addEventListener("submit", (e) => {
    e.preventDefault();
    const i = units.unit_id.indexOf(Number(form.value));
    if (i < 0) say(`no unit ${form.value} in this field`, true); else choose(i, true).catch(fail);
  });
  await open();
}
