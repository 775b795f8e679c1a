// The page: which models there are, and one of them to try.

import { answerView, shown } from "./answers.js?v=";
import { chatView } from "./chat.js?v=";
import { bytes, el, events, problem, seconds } from "./dom.js?v=";
import { fieldOf } from "./forms.js?v=";

const LOOK_MS = 5000;
const list = document.getElementById("models");
const main = document.getElementById("main");
const search = document.getElementById("search");
const health = document.getElementById("health");
let models = []; // {name, card, state, reason}
let seen = ""; // what the list was made from
let open = ""; // what the panel was made from

// -- the list -------------------------------------------------------------------------------------

async function look() {
  try {
    const index = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    const [cards, states] = await Promise.all([fetch("models"), fetch("v2/repository/index", index)]);
    const found = new Map((await cards.json()).models.map((card) => [card.name, { name: card.name, card, state: "READY" }]));
    for (const status of await states.json()) {
      if (!found.has(status.name)) found.set(status.name, { ...status, state: status.state ?? "NOT LOADED" });
      else if (status.state !== "READY" && status.reason) found.get(status.name).reason = `version ${status.version}: ${status.reason}`;
    }
    models = [...found.values()].sort((a, b) => a.name.localeCompare(b.name));
    const down = models.filter((model) => !model.card).length;
    tell(down ? "partly" : "ready", down ? `${models.length - down} of ${models.length} ready` : `${models.length} ready`);
  } catch {
    tell("down", "the server does not answer");
  }
  draw();
}

function tell(state, text) {
  health.className = `health ${state}`;
  if (health.textContent !== text) health.textContent = text;
}

function draw() {
  const wanted = search.value.trim().toLowerCase();
  const now = JSON.stringify([models, wanted, chosen()]);
  if (now !== seen) {
    seen = now;
    const found = models.filter((model) => model.name.toLowerCase().includes(wanted));
    list.replaceChildren(...found.map(entry));
    if (!found.length) list.append(el("li", { className: "empty" }, wanted ? "No model has that name" : "No models"));
  }
  show();
}

function entry(model) {
  const chip = model.card ? kindOf(model.card) : model.state.toLowerCase();
  return el("li", {}, el("a", {
    href: `#/${encodeURIComponent(model.name)}`, className: model.card ? "" : "unready",
    "aria-current": model.name === chosen() ? "page" : null,
  }, el("span", { className: "name" }, model.name), el("span", { className: "chip" }, chip)));
}

function kindOf(card) {
  if (card.kind === "generate") return "chat";
  if (card.streams) return "stream";
  return card.inputs.some((argument) => argument.form === "image") ? "image" : "predict";
}

// -- the panel ------------------------------------------------------------------------------------

const chosen = () => decodeURIComponent(location.hash.replace(/^#\/?/, "")).replace(/^main$/, "");

function show() {
  const name = chosen();
  const model = models.find((candidate) => candidate.name === name);
  const now = JSON.stringify([name, model?.card, model?.state, model?.reason]);
  document.body.classList.toggle("chosen", Boolean(name));
  document.title = name ? `${name} · inferd` : "inferd";
  if (now === open) return;
  open = now;
  if (!name) main.replaceChildren(welcome());
  else if (!model) main.replaceChildren(el("p", { className: "empty" }, models.length ? `There is no model '${name}'.` : "Loading…"));
  else main.replaceChildren(panel(model));
}

function welcome() {
  return el("div", { className: "empty" }, el("h1", {}, "Choose a model"),
    el("p", {}, "Each can be tried here from what it says of itself. The same calls work from anywhere: ", el("code", {}, "POST /models/{name}"), "."));
}

function panel(model) {
  const { card } = model;
  const facts = card ? [`version ${card.version}`, card.platform, card.max_batch_size > 1 ? `up to ${card.max_batch_size} at once` : "", card.max_model_len ? `${card.max_model_len} tokens` : ""] : [model.state.toLowerCase()];
  const head = el("header", { className: "model-head" },
    el("a", { className: "back", href: "#/" }, "‹ All models"),
    el("h1", {}, model.name),
    el("p", { className: "hint" }, facts.filter(Boolean).join(" · ")),
    card?.description ? el("p", {}, card.description) : null,
    model.reason ? el("p", { className: "banner", role: "alert" }, model.reason) : null);
  if (!card) {
    if (!model.reason) head.append(el("p", { className: "banner" }, "This model is not loaded."));
    return el("div", {}, head);
  }
  return el("div", {}, head, card.kind === "generate" ? chatView(card) : tryView(card));
}

function tryView(card) {
  const fields = new Map(card.inputs.map((argument) => [argument.name, fieldOf(argument)]));
  const run = el("button", { type: "submit", className: "primary" }, "Run");
  const said = el("div", { className: "said", "aria-live": "polite" }, el("p", { className: "hint" }, "Run the model, and what it says is here."));
  const path = `models/${encodeURIComponent(card.name)}`;
  const command = el("pre", { tabIndex: 0 });
  const copied = el("details", { className: "options", ontoggle: () => { command.textContent = curl(); } }, el("summary", {}, "The same with curl"), command);
  let running = null;

  function read() {
    const body = {};
    let first = null;
    for (const [name, field] of fields) {
      field.mark();
      try {
        const value = field.value();
        if (value !== undefined) body[name] = value;
      } catch (error) {
        field.mark(error.message);
        first ??= field;
      }
    }
    first?.element.querySelector("input,textarea,select").focus();
    return first ? null : body;
  }

  function curl() {
    const body = JSON.stringify(read() ?? {});
    const short = body.length > 2000 ? `${body.slice(0, 200)}…` : body;
    return `curl ${card.streams ? "-N " : ""}${new URL(path, location.href.split("#")[0])} \\\n  -H 'Content-Type: application/json' \\\n  -d '${short.replaceAll("'", "'\\''")}'`;
  }

  async function submit(event) {
    event.preventDefault();
    if (running) return running.abort();
    const body = read();
    if (!body) return undefined;
    running = new AbortController();
    run.textContent = "Stop";
    said.replaceChildren(el("p", { className: "hint working" }, "Working…"));
    const began = performance.now();
    try {
      const answer = await fetch(path, {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify(body), signal: running.signal,
      });
      if (!answer.ok) fail(await problem(answer), answer.status);
      else if ((answer.headers.get("content-type") ?? "").startsWith("text/event-stream")) await stream(answer, began);
      else whole(await answer.text(), began);
    } catch (error) {
      if (error.name === "AbortError") said.append(el("p", { className: "hint" }, "stopped"));
      else fail(error.message, 0);
    }
    said.querySelector(".working")?.remove();
    running = null;
    run.textContent = "Run";
    return undefined;
  }

  function whole(text, began) {
    const took = performance.now() - began;
    const answer = JSON.parse(text);
    said.replaceChildren(
      el("p", { className: "took" }, `answered in ${seconds(took)} · ${bytes(text.length)}`),
      answerView(card, answer),
      el("details", { className: "options" }, el("summary", {}, "JSON"), el("pre", { tabIndex: 0 }, shown(answer))));
  }

  async function stream(answer, began) {
    const took = el("p", { className: "took" });
    const flow = el("p", { className: "text flow" });
    const pieces = el("div", {}, flow);
    let count = 0;
    said.replaceChildren(took, pieces);
    for await (const { event, data } of events(answer)) {
      if (event === "done") break;
      const value = JSON.parse(data);
      if (event === "error") return fail(value.error, 0, true);
      count += 1;
      if (typeof value === "string") flow.append(value);
      else pieces.append(answerView(card, value));
      took.textContent = `${count} so far · ${seconds(performance.now() - began)}`;
    }
    took.textContent = `${count} results in ${seconds(performance.now() - began)}`;
    return undefined;
  }

  function fail(message, status, keep = false) {
    const argument = /^argument '([^'[\].]+)/.exec(message)?.[1];
    fields.get(argument)?.mark(message);
    const shownAs = el("div", { className: "banner", role: "alert" }, status ? el("strong", {}, `${status} `) : "", message);
    if (keep) said.append(shownAs);
    else said.replaceChildren(shownAs);
  }

  const form = el("form", { className: "try", noValidate: true, onsubmit: submit },
    el("h2", {}, "Arguments"),
    ...(fields.size ? [...fields.values()].map((field) => field.element) : [el("p", { className: "hint" }, "none")]),
    el("div", { className: "tools" }, run, el("span", { className: "hint keys" }, "Ctrl+Enter")), copied);
  form.addEventListener("keydown", (key) => {
    if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) form.requestSubmit();
  });
  form.addEventListener("paste", (paste) => {
    if (!paste.clipboardData?.files.length) return;
    const target = [...fields.values()].find((field) => field.paste);
    target?.paste(paste.clipboardData);
  });
  return el("div", { className: "work" }, form,
    el("section", { className: "answers" }, el("h2", {}, card.streams ? "Results" : "Answer"), said));
}

// -- looks ----------------------------------------------------------------------------------------

document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.startsWith("dark");
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});
const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;

search.addEventListener("input", draw);
addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  draw();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
setInterval(() => { if (!document.hidden) look(); }, LOOK_MS);
look();
