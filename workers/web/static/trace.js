// A stretch of a trace with the images on the monitor under it; buttons move and widen it.
import { get, say } from "/static/page.js";

export class Trace {
  constructor(place, address) {
    this.place = place;
    this.address = address;
    this.start = 0;
    this.span = 12;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "tracecanvas";
    this.under = document.createElement("div");
    this.under.className = "under";
    this.said = document.createElement("span");
    this.said.className = "muted small grow";
    const tools = document.createElement("div");
    tools.className = "row";
    tools.append(this.said);
    for (const [name, label, act] of [
      ["‹", "Earlier", () => (this.start -= this.span * 0.8)], ["›", "Later", () => (this.start += this.span * 0.8)],
      ["−", "Longer stretch", () => { this.start -= this.span; this.span *= 3; }], ["+", "Shorter stretch", () => { this.start += this.span / 3; this.span /= 3; }],
    ]) {
      const button = document.createElement("button");
      button.className = "quiet small";
      button.textContent = name;
      button.setAttribute("aria-label", label);
      button.addEventListener("click", () => { act(); this.load(); });
      tools.append(button);
    }
    place.replaceChildren(this.canvas, this.under, tools);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.load();
  }
  async load() {
    try {
      const begin = Math.max(0, this.start);
      this.found = await get(`${this.address}?start=${begin.toFixed(2)}&span=${Math.max(2, this.span).toFixed(2)}`);
      this.start = this.found.start_s;
      this.span = this.found.span_s;
      this.draw();
    } catch (error) { this.said.textContent = error.message; }
  }
  draw() {
    if (!this.found) return;
    const f = this.found, r = window.devicePixelRatio || 1, w = this.canvas.clientWidth, h = this.canvas.clientHeight;
    if (!w) return;
    this.canvas.width = w * r;
    this.canvas.height = h * r;
    const c = this.canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    c.scale(r, r);
    const x = (t) => ((t - f.start_s) / f.span_s) * w;
    c.fillStyle = ink("--soft");
    for (const [on, off] of f.images) c.fillRect(x(on), 0, Math.max(1, x(off) - x(on)), h);
    const line = (values, color, top, bottom, width, floor) => {
      const known = values.filter((v) => v !== null);
      if (!known.length) return;
      const low = Math.min(floor ?? Infinity, ...known), high = Math.max(...known, low + 1e-9);
      c.strokeStyle = color;
      c.lineWidth = width;
      c.beginPath();
      let down = false;
      values.forEach((v, i) => {
        if (v === null) { down = false; return; }
        const px = x(f.time[i]), py = bottom - ((v - low) / (high - low)) * (bottom - top);
        if (down) c.lineTo(px, py); else c.moveTo(px, py);
        down = true;
      });
      c.stroke();
    };
    line(f.fluorescence, ink("--muted"), 4, h * 0.58, 1);
    line(f.denoised, ink("--accent"), 4, h * 0.58, 1.5);
    line(f.activity, ink("--run"), h * 0.64, h - 4, 1.2, 0);
    c.fillStyle = ink("--muted");
    c.font = "11px system-ui, sans-serif";
    c.fillText("fluorescence, denoised", 4, 12);
    c.fillText(`activity (${f.unit})`, 4, h * 0.64 + 10);
    this.said.textContent = `${f.start_s.toFixed(0)} to ${(f.start_s + f.span_s).toFixed(0)} s of ${f.duration_s.toFixed(0)} s`;
    const each = f.images.length ? w / f.images.length : 0;
    this.under.replaceChildren(...(each < 16 ? [] : f.images).map(([on, off, name]) => {
      const image = document.createElement("img");
      image.src = `/images/${name}.png`;
      image.alt = "";
      image.loading = "lazy";
      image.title = `${on.toFixed(1)} to ${off.toFixed(1)} s`;
      image.style.left = `${Math.max(0, x(on))}px`;
      image.style.width = `${Math.max(12, Math.min(each - 1, 64))}px`;
      return image;
    }));
    this.under.hidden = each < 16;
  }
}
