"use strict";
// Hovering, legends and zoom of the charts; sorting, filtering and growing of the tables; copying of commands.
const tip = document.body.appendChild(Object.assign(document.createElement("div"), { id: "tip", hidden: true }));
tip.setAttribute("role", "status");
const NS = "http://www.w3.org/2000/svg";

function place(el) { return el.getAttribute("transform").match(/-?[\d.]+/g).slice(0, 2).map(Number); }

function setUp(svg) {
  const [left, top, right, bottom] = svg.dataset.box.split(",").map(Number), flat = !!svg.dataset.flat;
  const scale = words => { const [low, high, kind] = words.split(","); return { low: +low, high: +high, kind }; };
  const [x, y] = [scale(flat ? svg.dataset.value : svg.dataset.at), scale(flat ? svg.dataset.at : svg.dataset.value)];
  const points = [...svg.querySelectorAll(".pt")].map(el => ({ el, at: place(el), now: place(el), parts:
    [...el.querySelectorAll("[data-i]")].map(part => ({ part, ends: part.dataset.i.split(",").map(Number), d: part.getAttribute("d") })) }));
  const lines = [...svg.querySelectorAll("polyline, polygon")].map(el => ({ el, points: el.getAttribute("points") }));
  const moved = [...svg.querySelectorAll(".move")].map(el => ({ el, d: el.getAttribute("d") }));
  const ticks = svg.querySelector(".ticks"), whole = ticks.innerHTML, names = [...svg.querySelectorAll(".ticks > g")];
  let near = null, view = [left, top, right, bottom];

  const unit = () => svg.viewBox.baseVal.width / svg.getBoundingClientRect().width;
  const inside = event => { const box = svg.getBoundingClientRect(); return [(event.clientX - box.left) * unit(), (event.clientY - box.top) * unit()]; };
  const seen = p => !p.el.parentNode.classList.contains("off") && p.el.dataset.t
    && p.now[0] >= left - 6 && p.now[0] <= right + 6 && p.now[1] >= top - 6 && p.now[1] <= bottom + 6;

  function show(point) {
    if (near) near.el.classList.remove("near");
    near = point; tip.hidden = !point;
    if (!point) return;
    point.el.classList.add("near"); tip.textContent = point.el.dataset.t;
    const box = svg.getBoundingClientRect(), px = box.left + point.now[0] / unit(), py = box.top + point.now[1] / unit();
    tip.style.left = Math.max(4, Math.min(px + 12, innerWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = (py + tip.offsetHeight + 18 > innerHeight ? py - tip.offsetHeight - 10 : py + 12) + "px";
  }
  function nearest([u, v]) {
    let best = null, least = 30;
    for (const p of points) { const d = Math.hypot(p.now[0] - u, p.now[1] - v); if (d < least && seen(p)) { best = p; least = d; } }
    return best;
  }
  function zoom(to) {
    view = to;
    const [a, b] = [(right - left) / (to[2] - to[0]), (bottom - top) / (to[3] - to[1])];
    const map = ([u, v]) => [left + (u - to[0]) * a, top + (v - to[1]) * b];
    const across = flat ? a : b, mapped = text => text.replace(/(-?[\d.]+)[ ,](-?[\d.]+)/g, (_, u, v) => map([+u, +v]).map(n => n.toFixed(1)).join(","));
    for (const p of points) {
      p.now = map(p.at); p.el.setAttribute("transform", `translate(${p.now})`);
      for (const { part, ends, d } of p.parts) {
        const [low, high] = ends.map(end => end * across);
        part.setAttribute("d", part.classList.contains("solid") ? d.replace(flat ? /H[^V]+V/ : /V[^H]+H/, flat ? `H${high}V` : `V${high}H`)
          : flat ? `M${low} -3v6m0 -3H${high}m0 -3v6` : `M-3 ${low}h6m-3 0V${high}m-3 0h6`);
      }
    }
    for (const { el, points } of lines) el.setAttribute("points", mapped(points));
    for (const { el, d } of moved) {
      const n = d.match(/-?[\d.]+/g).map(Number);
      const ends = d.includes("L") ? [[n[0], n[1]], [n[2], n[3]]] : d.includes("V") ? [[n[0], n[1]], [n[0], n[2]]] : [[n[0], n[1]], [n[2], n[1]]];
      el.setAttribute("d", "M" + ends.map(map).join("L"));
    }
    for (const name of svg.querySelectorAll(".name")) name.classList.toggle("off", a !== 1 || b !== 1);
    ticks.innerHTML = whole;
    if (a !== 1 || b !== 1) { retick("tx", x, left, right, to[0], to[2], a); retick("ty", y, bottom, top, to[3], to[1], b); }
    show(null);
  }
  function retick(kind, s, start, end, from, to) {
    // the ticks of the part of an axis that is seen; categories keep theirs
    const old = [...ticks.querySelectorAll("." + kind)], one = old[0]?.cloneNode(true);
    if (!one) return;
    const part = px => (px - start) / (end - start), log = s.kind === "log";
    const value = p => log ? s.low * (s.high / s.low) ** p : s.low + p * (s.high - s.low);
    const pixel = v => { const p = log ? Math.log(v / s.low) / Math.log(s.high / s.low) : (v - s.low) / (s.high - s.low);
      return start + (start + p * (end - start) - from) / (to - from) * (end - start); };
    const [low, high] = [value(part(from)), value(part(to))];
    const put = (tick, px) => tick.setAttribute("transform", kind === "tx" ? `translate(${px},${bottom})` : `translate(${left},${px})`);
    if (s.kind === "names") {
      for (const tick of old) { const px = start + (place(tick)[kind === "tx" ? 0 : 1] - from) / (to - from) * (end - start);
        if (px < Math.min(start, end) || px > Math.max(start, end)) tick.remove(); else put(tick, px); }
      return;
    }
    old.forEach(tick => tick.remove());
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough);
    for (let n = Math.ceil(low / step); n * step <= high; n++) {
      const tick = one.cloneNode(true); put(tick, pixel(n * step)); tick.querySelector("text").textContent = +(n * step).toPrecision(4); ticks.append(tick);
    }
  }
  let from = null, frame = null;
  svg.addEventListener("pointermove", event => {
    const [u, v] = inside(event);
    if (!from) { show(nearest([u, v])); return; }
    const box = [Math.min(u, from[0]), Math.min(v, from[1]), Math.abs(u - from[0]), Math.abs(v - from[1])];
    ["x", "y", "width", "height"].forEach((name, i) => frame.setAttribute(name, box[i]));
  });
  svg.addEventListener("pointerdown", event => {
    if (event.pointerType === "touch" || event.target.closest(".key")) return;
    from = inside(event); svg.setPointerCapture(event.pointerId); event.preventDefault(); svg.focus();
    frame = svg.appendChild(document.createElementNS(NS, "rect")); frame.setAttribute("class", "drag");
  });
  svg.addEventListener("pointerup", event => {
    if (!from) return;
    const to = inside(event), start = from; from = null; frame.remove();
    const back = ([u, v]) => [view[0] + (u - left) / (right - left) * (view[2] - view[0]), view[1] + (v - top) / (bottom - top) * (view[3] - view[1])];
    const hold = ([u, v]) => back([Math.max(left, Math.min(right, u)), Math.max(top, Math.min(bottom, v))]);
    const [[a, b], [c, d]] = [hold(start), hold(to)];
    if (Math.abs(to[0] - start[0]) > 8 && Math.abs(to[1] - start[1]) > 8) zoom([Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)]);
  });
  svg.addEventListener("pointerleave", () => { if (!from) show(null); });
  svg.addEventListener("dblclick", () => zoom([left, top, right, bottom]));
  svg.addEventListener("blur", () => show(null));
  svg.addEventListener("keydown", event => {
    if (event.target !== svg) return;
    const order = points.filter(seen).sort((p, q) => flat ? p.now[1] - q.now[1] || p.now[0] - q.now[0] : p.now[0] - q.now[0] || p.now[1] - q.now[1]);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && order.length) { const at = order.indexOf(near); show(order[at < 0 ? (step > 0 ? 0 : order.length - 1) : (at + step + order.length) % order.length]); }
    else if ((event.key === "+" || event.key === "-") && order.length) {
      const by = event.key === "+" ? .25 : -.5, [w, h] = [(view[2] - view[0]) * by, (view[3] - view[1]) * by];
      zoom([Math.max(left, view[0] + w), Math.max(top, view[1] + h), Math.min(right, view[2] - w), Math.min(bottom, view[3] - h)]);
    } else if (event.key === "0") zoom([left, top, right, bottom]);
    else if (event.key === "Escape") show(null);
    else return;
    event.preventDefault();
  });
  for (const key of svg.querySelectorAll(".key")) {
    const toggle = () => {
      const on = key.getAttribute("aria-pressed") !== "true"; key.setAttribute("aria-pressed", on);
      svg.querySelector(`.series[data-s="${key.dataset.s}"]`).classList.toggle("off", !on); show(null);
    };
    key.addEventListener("click", toggle);
    key.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); } });
  }
}
document.querySelectorAll("svg.chart").forEach(setUp);

const STEP = 60;
function grow(table) {
  // Rows are in the page as JSON, and become elements as they are scrolled to.
  const rows = JSON.parse(table.parentNode.querySelector("script").textContent), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const scroller = table.parentNode, count = scroller.previousElementSibling.querySelector("output"), filter = scroller.previousElementSibling.querySelector("input");
  const texts = heads.map(head => head.classList.contains("text"));
  let order = rows, shown = 0;
  const cell = (value, text) => {
    const td = document.createElement("td");
    if (text) td.className = "text";
    if (value && typeof value === "object") {
      if (value.href) td.append(Object.assign(document.createElement("a"), { href: value.href, textContent: value.text }));
      else td.append(copying(value.copy));
    } else if (typeof value === "number") td.textContent = Number.isInteger(value) ? value : +value.toPrecision(5);
    else td.textContent = value ?? "";
    return td;
  };
  const more = (by = STEP) => {
    for (const row of order.slice(shown, shown + by)) { const tr = body.insertRow(); row.forEach((value, i) => tr.append(cell(value, texts[i]))); }
    shown = Math.min(order.length, shown + by); count.textContent = `${order.length} of ${rows.length} rows`;
  };
  const anew = () => { body.replaceChildren(); shown = 0; more(); };
  const key = value => value && typeof value === "object" ? value.text ?? "" : value;
  scroller.addEventListener("scroll", () => { if (scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 200) more(); });
  heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort")); head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const less = (a, b) => a === b ? 0 : a === null ? 1 : b === null ? -1 : (up ? 1 : -1) * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    order = [...order].sort((r, s) => less(key(r[at]), key(s[at]))); anew();
  }));
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    order = rows.filter(row => { const all = row.map(value => String(key(value) ?? "")).join(" ").toLowerCase(); return wanted.every(word => all.includes(word)); });
    anew();
  });
  table.more = more; anew();
}
document.querySelectorAll("details.rows").forEach(details => details.addEventListener("toggle", () => {
  const table = details.querySelector("table"); if (details.open && !table.more) grow(table);
}));

function copying(text) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "copy", title: text });
  button.setAttribute("aria-label", "copy the command");
  button.addEventListener("click", () => {
    const done = () => { button.textContent = "copied"; setTimeout(() => button.textContent = "copy", 1500); };
    const byHand = () => { // a page opened from a file may have no clipboard
      const area = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text })); area.select();
      try { if (document.execCommand("copy")) done(); } finally { area.remove(); button.focus(); }
    };
    if (navigator.clipboard && isSecureContext) navigator.clipboard.writeText(text).then(done, byHand); else byHand();
  });
  return button;
}
document.querySelectorAll("pre.command").forEach(pre => pre.append(copying(pre.textContent)));
addEventListener("beforeprint", () => document.querySelectorAll("details.print").forEach(details => {
  const table = details.querySelector("table"); if (!table.more) grow(table);
  details.open = true;
}));
