// A field on a canvas: image, outlines of masks, pan by dragging, zoom by wheel, pinch and buttons.
export function decode(packed) {
  const raw = Uint8Array.from(atob(packed.points), (c) => c.charCodeAt(0));
  const view = new DataView(raw.buffer);
  const shapes = packed.unit_id.map(() => ({ path: new Path2D(), box: [1e9, 1e9, -1e9, -1e9] }));
  let at = 0;
  packed.lines.forEach((length, line) => {
    const { path, box } = shapes[packed.unit[line]];
    for (let i = 0; i < length; i++, at += 4) {
      const x = view.getUint16(at, true) / 2, y = view.getUint16(at + 2, true) / 2;
      if (i) path.lineTo(x, y); else path.moveTo(x, y);
      box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
    }
    path.closePath();
  });
  return shapes;
}

export class FieldCanvas {
  constructor(canvas, width, height, um) {
    Object.assign(this, { canvas, width, height, um, shapes: [], groups: [], selected: -1, masks: true });
    this.context = canvas.getContext("2d");
    this.onpick = () => {};
    this.onmove = () => {};
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(-e.deltaY * 0.0015), e.offsetX, e.offsetY); }, { passive: false });
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); this.pointers.set(e.pointerId, [e.offsetX, e.offsetY]); this.moved = 0; });
    canvas.addEventListener("pointermove", (e) => this.drag(e));
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, (e) => {
        this.pointers.delete(e.pointerId);
        if (name === "pointerup" && this.moved < 5 && !this.pointers.size) this.pick(e.offsetX, e.offsetY);
      });
    canvas.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[e.key];
      if (step) { this.x += step[0]; this.y += step[1]; } else if (e.key === "+") this.zoom(1.3); else if (e.key === "-") this.zoom(1 / 1.3); else return;
      e.preventDefault(); this.draw();
    });
    this.resize();
  }
  async picture(address) {
    const image = new Image();
    image.src = address;
    await image.decode();
    this.image = image;
    this.draw();
  }
  resize() {
    const ratio = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    const fitted = !this.scale || this.fitted;
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.ratio = ratio;
    if (fitted) this.fit(); else this.draw();
  }
  fit() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    this.scale = Math.min(w / this.width, h / this.height);
    this.x = (w - this.width * this.scale) / 2;
    this.y = (h - this.height * this.scale) / 2;
    this.fitted = true;
    this.draw();
  }
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const least = Math.min(this.canvas.clientWidth / this.width, this.canvas.clientHeight / this.height) / 2;
    const scale = Math.min(80, Math.max(least, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.draw();
  }
  center(x, y) {
    this.x = this.canvas.clientWidth / 2 - x * this.scale;
    this.y = this.canvas.clientHeight / 2 - y * this.scale;
    this.fitted = false;
    this.draw();
  }
  drag(e) {
    const before = this.pointers.get(e.pointerId);
    if (!before) return;
    const now = [e.offsetX, e.offsetY], others = [...this.pointers].filter(([id]) => id !== e.pointerId);
    if (others.length) {
      const [, other] = others[0], far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      this.moved = 99;
      this.zoom(far(now) / Math.max(1, far(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else {
      this.moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
      if (this.moved >= 5) { this.x += now[0] - before[0]; this.y += now[1] - before[1]; this.fitted = false; this.draw(); }
    }
    this.pointers.set(e.pointerId, now);
  }
  pick(px, py) {
    const x = (px - this.x) / this.scale, y = (py - this.y) / this.scale;
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    let best = -1, size = Infinity;
    this.shapes.forEach(({ path, box }, i) => {
      const slack = 3 / this.scale;
      if (x < box[0] - slack || x > box[2] + slack || y < box[1] - slack || y > box[3] + slack) return;
      const inside = this.context.isPointInPath(path, x, y);
      const area = (box[2] - box[0]) * (box[3] - box[1]) + (inside ? 0 : 1e6);
      if (area < size) { best = i; size = area; }
    });
    if (best >= 0) this.onpick(best);
  }
  group(groups) { // [{color, width, members}], drawn one after the other
    this.groups = groups.map(({ color, width, members }) => {
      const path = new Path2D();
      for (const i of members) path.addPath(this.shapes[i].path);
      return { color, width, path };
    });
    this.draw();
  }
  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.paint(); });
  }
  paint() {
    const c = this.context, r = this.ratio;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    c.setTransform(r * this.scale, 0, 0, r * this.scale, r * this.x, r * this.y);
    c.imageSmoothingEnabled = this.scale < 2;
    if (this.image) c.drawImage(this.image, 0, 0, this.width, this.height);
    if (this.masks) for (const g of this.groups) { c.strokeStyle = g.color; c.lineWidth = g.width / this.scale; c.stroke(g.path); }
    const chosen = this.shapes[this.selected];
    if (chosen) { c.strokeStyle = "#ffffff"; c.lineWidth = 4 / this.scale; c.stroke(chosen.path); c.strokeStyle = "#ec4899"; c.lineWidth = 2.2 / this.scale; c.stroke(chosen.path); }
    if (this.um) {
      const long = [10, 20, 50, 100, 200, 500].find((um) => (um / this.um) * this.scale > 60) || 500;
      const px = (long / this.um) * this.scale;
      c.setTransform(r, 0, 0, r, 0, 0);
      c.fillStyle = "#fff"; c.fillRect(12, this.canvas.clientHeight - 16, px, 3);
      c.font = "12px system-ui, sans-serif"; c.shadowColor = "#000"; c.shadowBlur = 3;
      c.fillText(`${long} µm`, 12, this.canvas.clientHeight - 22); c.shadowBlur = 0;
    }
    this.onmove(this);
  }
}
