// The panels of the home page: what the cache answers, and whether the origin is on.
"use strict";

const HISTORY = 8;
const POLL_MS = 2000;

const byId = (id) => document.getElementById(id);

// ---- Panel 1: the cache ----

byId("load").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  const select = byId("load-path");
  button.disabled = true;
  show(byId("load-result"), { tone: "", title: "Loading", text: "Waiting for the proxy." });
  try {
    const answer = await load(select.value);
    const verdict = judge(answer);
    show(byId("load-result"), verdict);
    showFacts(answer);
    remember(select.selectedOptions[0].text.replace(/^Article: /, ""), verdict, answer);
  } finally {
    button.disabled = false;
    button.focus({ preventScroll: true }); // it lost the focus when it was disabled
  }
});

// Loads a page past the browser's own cache. The explicit Cache-Control stands in for the `no-cache` that a browser
// adds to such a request, which would ask the proxy to go past its cache too.
async function load(path, signal) {
  const begun = performance.now();
  try {
    const response = await fetch(path, { cache: "no-store", headers: { "Cache-Control": "max-age=86400" }, signal });
    const text = await response.text();
    const rendered = new DOMParser().parseFromString(text, "text/html").getElementById("rendered");
    return {
      status: response.status,
      took: performance.now() - begun,
      cacheStatus: response.headers.get("Cache-Status"),
      age: response.headers.get("Age"),
      retryAfter: response.headers.get("Retry-After"),
      rendered: rendered ? rendered.textContent.slice(11) : null, // the time without the date
    };
  } catch (error) {
    return { status: 0, took: performance.now() - begun, error };
  }
}

// Says in words what the answer's Cache-Status (RFC 9211) means.
function judge(answer) {
  if (answer.status === 0) {
    return { tone: "bad", short: "No answer", title: "No answer", text: "The connection ended before an answer came. Is the daemon running?" };
  }
  if (answer.status >= 500) {
    return {
      tone: "bad", short: `${answer.status}`, title: `Answered ${answer.status}`,
      text: "The proxy holds no copy of this page and the origin did not answer.",
    };
  }
  if (!answer.cacheStatus) {
    return {
      tone: "plain", short: "Not by the proxy", title: "This answer has no Cache-Status",
      text: "It did not pass the proxy. Open the site at the proxy's address instead.",
    };
  }
  const status = cacheStatus(answer.cacheStatus);
  const stale = status.has("ttl") && Number(status.get("ttl")) < 0;
  if (status.has("hit") && stale) {
    const text = state.dataset.state === "off"
      ? "The origin is stopped, so the proxy gives the last good copy."
      : "The copy is past its ten seconds. You need not wait for a new one: the proxy fetches it meanwhile.";
    return { tone: "note", short: "Cache, stale", title: "From the cache, stale", text };
  }
  if (status.has("hit")) {
    return { tone: "good", short: "Cache, fresh", title: "From the cache, fresh", text: "The origin was not asked." };
  }
  if (status.get("fwd") === "stale" && status.get("fwd-status") === "304") {
    return {
      tone: "good", short: "Cache, confirmed", title: "From the cache, confirmed",
      text: "The copy was stale; the origin said 304 Not Modified, so it is fresh again and was not sent twice.",
    };
  }
  const held = answer.took > 1000 ? "The proxy held the request until the origin answered. " : "";
  const kept = status.has("stored") ? "The proxy has stored a copy." : "The proxy keeps no copy.";
  return { tone: "plain", short: "Origin", title: "From the origin", text: held + kept };
}

// The parameters of the entry nearest to the visitor, which is the last one.
function cacheStatus(header) {
  const parameters = header.split(",").pop().split(";").slice(1);
  return new Map(parameters.map((parameter) => {
    const [name, value] = parameter.trim().split("=");
    return [name, (value ?? "").replaceAll('"', "")];
  }));
}

function showFacts(answer) {
  const facts = {
    "cache-status": answer.cacheStatus ?? "not sent",
    age: answer.age ? seconds(Number(answer.age)) : "not sent",
    took: milliseconds(answer.took),
    rendered: answer.rendered ?? "not said",
  };
  for (const [name, value] of Object.entries(facts)) {
    document.querySelector(`[data-fact="${name}"]`).textContent = value;
  }
}

function remember(page, verdict, answer) {
  const history = byId("load-history");
  const rows = history.querySelector("tbody");
  const row = rows.insertRow(0);
  for (const text of [page, verdict.short, answer.age ? `${answer.age} s` : "\u2013", milliseconds(answer.took)]) {
    row.insertCell().textContent = text;
  }
  while (rows.rows.length > HISTORY) rows.deleteRow(-1);
  history.hidden = false;
}

// ---- Panel 2: the origin ----

const state = byId("origin-state");
const toggle = byId("origin-toggle");

toggle.addEventListener("click", async () => {
  toggle.disabled = true;
  const wanted = state.dataset.state === "on" ? "off" : "on";
  try {
    const response = await fetch(`/switch/${wanted}`, { method: "POST", headers: { "X-Demo": "1" } });
    showOrigin(response.ok ? (await response.json()).origin : "unknown");
  } catch {
    showOrigin("unknown");
  }
});

async function poll() {
  if (!document.hidden) {
    try {
      const response = await fetch("/switch", { cache: "no-store" });
      showOrigin(response.ok ? (await response.json()).origin : "unknown");
    } catch {
      showOrigin("unknown");
    }
  }
  setTimeout(poll, POLL_MS);
}

function showOrigin(origin) {
  const words = { on: "running", off: "stopped", unknown: "not known" };
  if (state.dataset.state !== origin || state.textContent !== words[origin]) {
    state.dataset.state = origin;
    state.textContent = words[origin];
    toggle.textContent = origin === "off" ? "Start the origin" : "Stop the origin";
  }
  toggle.disabled = origin === "unknown";
}

byId("again").addEventListener("click", (event) => ask(event.currentTarget, "/"));
byId("unseen").addEventListener("click", (event) => {
  ask(event.currentTarget, `/unseen/${Math.random().toString(36).slice(2, 10)}`);
});

// Loads a page and counts the seconds meanwhile.
async function ask(button, path) {
  const result = byId("ask-result");
  button.disabled = true;
  const begun = performance.now();
  const waiting = () => show(result, { tone: "note", title: "Waiting", text: `${path}, ${seconds((performance.now() - begun) / 1000)}` });
  result.setAttribute("aria-live", "off"); // a listener need not hear the seconds counted
  const ticking = setInterval(waiting, 250);
  const answer = await load(path);
  clearInterval(ticking);
  result.setAttribute("aria-live", "polite");
  const took = answer.took < 1000 ? milliseconds(answer.took) : seconds(answer.took / 1000);
  const verdict = judge(answer);
  const retry = answer.retryAfter ? ` It asks to be tried again in ${answer.retryAfter} s.` : "";
  show(result, { tone: verdict.tone, title: `${verdict.title}, after ${took}`, text: verdict.text + retry });
  button.disabled = false;
}

// ---- Both ----

function show(result, verdict) {
  const title = document.createElement("strong");
  title.textContent = verdict.title;
  const line = document.createElement("p");
  line.append(title, verdict.text);
  result.dataset.tone = verdict.tone;
  result.replaceChildren(line);
}

function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

function seconds(value) {
  return `${Number.isInteger(value) ? value : value.toFixed(1)} s`;
}

for (const span of document.querySelectorAll("[data-origin]")) span.textContent = location.origin;
poll();
