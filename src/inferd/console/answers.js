// What a model answered, result by result, as suits its form.

import { bytes, el } from "./dom.js?v=";

const BARS = 64; // numbers that are drawn

export function answerView(card, answer) {
  const lone = card.bare && card.outputs.length === 1;
  const results = card.outputs.map((result) => {
    const value = lone ? answer : answer?.[result.name];
    return el("section", { className: "result" },
      el("h3", {}, result.name, el("span", { className: "hint" }, ` ${sizeOf(value)}`)),
      view(result, value));
  });
  return el("div", { className: "answer" }, ...results);
}

function sizeOf(value) {
  const sizes = [];
  while (Array.isArray(value)) {
    sizes.push(value.length);
    value = value[0];
  }
  return sizes.length ? `[${sizes.join(", ")}]` : "";
}

function view(result, value) {
  if (result.form === "image" && typeof value === "string") return picture(value);
  if (result.form === "bytes" && typeof value === "string") return download(result.name, value);
  if (typeof value === "number" || typeof value === "boolean") return el("output", { className: "big" }, String(value));
  if (typeof value === "string") return value ? el("p", { className: "text" }, value) : el("p", { className: "hint" }, "an empty text");
  if (Array.isArray(value) && value.length > 1 && value.length <= BARS && value.every((v) => typeof v === "number")) return bars(value);
  return el("pre", { tabIndex: 0 }, shown(value));
}

function bars(values) {
  const most = Math.max(...values.map(Math.abs)) || 1;
  const best = values.indexOf(Math.max(...values));
  return el("ol", { className: "bars", start: 0 }, ...values.map((value, index) => {
    const bar = el("span", { className: value < 0 ? "bar below" : "bar" });
    bar.style.width = `${(Math.abs(value) / most) * 100}%`;
    return el("li", { className: index === best ? "best" : "" },
      el("span", { className: "index" }, String(index)), el("span", { className: "track" }, bar),
      el("span", { className: "number" }, short(value)));
  }));
}

function short(value) {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(5)));
}

const KINDS = { iVBOR: "image/png", "/9j/": "image/jpeg", R0lG: "image/gif", UklGR: "image/webp", Qk: "image/bmp" };

function picture(base64) {
  const kind = Object.entries(KINDS).find(([start]) => base64.startsWith(start))?.[1] ?? "image/png";
  return el("img", { className: "picture", src: `data:${kind};base64,${base64}`, alt: "The model's picture" });
}

function download(name, base64) {
  const content = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const href = URL.createObjectURL(new Blob([content]));
  return el("a", { className: "button", href, download: name }, `Save ${bytes(content.length)}`);
}

// JSON with short lists on one line, and no more of a long text than anybody reads.
export function shown(value) {
  const text = JSON.stringify(value, null, 2) ?? "";
  const joined = text.replace(/\[\s+([^[\]{}]{0,200}?)\s+\]/g, (_, inner) => `[${inner.replace(/\s*\n\s*/g, " ")}]`);
  return joined.length > 20000 ? `${joined.slice(0, 20000)}\n… ${bytes(joined.length)} in all` : joined;
}
