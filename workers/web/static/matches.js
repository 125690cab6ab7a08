// Both fields of a match: a pair has one color, a click shows the partner.
import { FieldCanvas, decode } from "/static/canvas.js";
import { get, say } from "/static/page.js";

const PALETTE = ["#f43f5e", "#22d3ee", "#a3e635", "#f59e0b", "#c084fc", "#34d399", "#fb7185", "#60a5fa", "#facc15", "#f472b6"];
for (const place of document.querySelectorAll(".matches")) show(place).catch((error) => say(error.message, true));

async function show(place) {
  const found = await get(place.dataset.source);
  const said = place.querySelector(".said");
  if (!found.places.length) { said.textContent = "No field was found again."; return; }
  const [sourceField, targetField] = found.places[0];
  const sides = await Promise.all(
    [[found.source, sourceField], [found.target, targetField]].map(async ([side, number], i) => {
      const field = side.fields.find((f) => f.field === number);
      const canvas = new FieldCanvas(place.querySelectorAll("canvas")[i], field.width_px, field.height_px, field.um_per_px);
      const base = `fields/${side.scan}/${side.imaging_hash}/${number}`;
      const drawn = canvas.picture(`/images/${base}/mean.png`);
      const packed = await get(`/api/${base}/outlines`);
      canvas.shapes = decode(packed);
      await drawn;
      return { canvas, ids: packed.unit_id };
    }),
  );
  const pairs = found.pairs.map(([source, target, probability, distance]) => ({ rows: [sides[0].ids.indexOf(source), sides[1].ids.indexOf(target)], source, target, probability, distance })).filter((p) => p.rows[0] >= 0 && p.rows[1] >= 0);
  sides.forEach(({ canvas, ids }, i) => {
    const matched = new Set(pairs.map((p) => p.rows[i]));
    const groups = [{ color: "#94a3b8", width: 1, members: ids.map((_, row) => row).filter((row) => !matched.has(row)) }];
    PALETTE.forEach((color, n) => groups.push({ color, width: 1.8, members: pairs.filter((_, k) => k % PALETTE.length === n).map((p) => p.rows[i]) }));
    canvas.group(groups);
    canvas.onpick = (row) => {
      const pair = pairs.find((p) => p.rows[i] === row);
      sides.forEach((side, k) => { side.canvas.selected = pair ? pair.rows[k] : k === i ? row : -1; side.canvas.draw(); });
      said.textContent = pair
        ? `unit ${pair.source} of day 1 is unit ${pair.target} of day 2 with probability ${pair.probability}${pair.distance === null ? "" : `, ${pair.distance} µm away`}`
        : `unit ${ids[row]} of day ${i + 1} was not found on the other day`;
    };
  });
  place.dataset.ready = "yes";
}
