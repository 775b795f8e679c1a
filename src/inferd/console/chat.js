// A conversation with a language model, over the OpenAI API, word by word.

import { el, events, problem, seconds } from "./dom.js?v=";

export function chatView(card) {
  let messages = [];
  let running = null;
  const list = el("div", { className: "messages", role: "log", "aria-live": "polite", "aria-label": "Conversation" });
  const input = el("textarea", { id: "chat-input", rows: 2, placeholder: "Say something", "aria-label": "Message" });
  const most = el("input", { id: "chat-most", type: "number", min: 1, value: "256" });
  const heat = el("input", { id: "chat-heat", type: "number", min: 0, max: 2, step: 0.1, placeholder: "the model's own" });
  const send = el("button", { type: "submit", className: "primary" }, "Send");
  const again = el("button", { type: "button", className: "quiet", onclick: clear }, "New chat");
  const form = el("form", { className: "ask", onsubmit: submit }, input, el("div", { className: "tools" }, send, again));
  const options = el("details", { className: "options" }, el("summary", {}, "Options"),
    el("div", { className: "pairs" }, el("label", { htmlFor: "chat-most" }, "Most tokens"), most,
      el("label", { htmlFor: "chat-heat" }, "Temperature"), heat));
  input.addEventListener("keydown", (key) => {
    if (key.key === "Enter" && !key.shiftKey && !key.isComposing) {
      key.preventDefault();
      form.requestSubmit();
    }
  });

  function clear() {
    running?.abort();
    messages = [];
    list.replaceChildren();
    input.focus();
  }

  function bubble(role, text) {
    const content = el("p", {}, text);
    const note = el("span", { className: "hint" });
    list.append(el("article", { className: `message ${role}` }, el("h3", {}, role), content, note));
    content.scrollIntoView({ block: "nearest" });
    return { content, note };
  }

  function submit(event) {
    event.preventDefault();
    if (running) return running.abort();
    const text = input.value.trim();
    if (!text) return input.focus();
    messages.push({ role: "user", content: text });
    bubble("user", text);
    input.value = "";
    return answer();
  }

  async function answer() {
    running = new AbortController();
    send.textContent = "Stop";
    const { content, note } = bubble("assistant", "");
    const began = performance.now();
    let text = "", first = 0, failure = "", usage = null;
    try {
      const body = { model: card.name, messages, stream: true, stream_options: { include_usage: true } };
      if (most.value) body.max_tokens = Number(most.value);
      if (heat.value) body.temperature = Number(heat.value);
      const reply = await fetch("v1/chat/completions", {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify(body), signal: running.signal,
      });
      if (!reply.ok) throw new Error(await problem(reply));
      for await (const { data } of events(reply)) {
        if (data === "[DONE]") break;
        const piece = JSON.parse(data);
        if (piece.error) throw new Error(piece.error.message);
        usage = piece.usage ?? usage;
        const more = piece.choices?.[0]?.delta?.content ?? "";
        if (more) {
          first ||= performance.now() - began;
          text += more;
          content.textContent = text;
          content.scrollIntoView({ block: "nearest" });
        }
      }
    } catch (error) {
      failure = error.name === "AbortError" ? "stopped" : error.message;
    }
    running = null;
    send.textContent = "Send";
    messages.push({ role: "assistant", content: text });
    const took = performance.now() - began;
    const rate = usage?.completion_tokens ? ` · ${usage.completion_tokens} tokens · ${Math.round((usage.completion_tokens / took) * 1000)}/s` : "";
    note.textContent = failure || `first word after ${seconds(first)} · ${seconds(took)}${rate}`;
    note.classList.toggle("problem", Boolean(failure) && failure !== "stopped");
    if (failure && !text) messages.splice(-2);
  }

  return el("div", { className: "chat" }, list, form, options);
}
