// The operator's desk. The key stays in this tab's sessionStorage; every picture is blurred until somebody chooses to look.
import { complain } from "./swap.js";

const byId = (id) => document.getElementById(id);
const words = JSON.parse(byId("operator").dataset.words);
const KEY = "countersign-operator";

async function ask(path, options = {}) {
  const headers = { authorization: `Bearer ${sessionStorage.getItem(KEY)}` };
  if (options.body) headers["content-type"] = "application/json";
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) { leave(); throw new Error(words.refused); }
  if (!answer.ok) throw new Error((await answer.json()).detail ?? words.unavailable);
  return answer;
}

function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A film or picture, blurred; fetched, with the key, only when it is to be seen. */
function media(path, kind) {
  const box = make("div", { className: "blur" });
  const look = make("button", { type: "button", className: "btn slim", textContent: words.look });
  const frame = make(kind, kind === "video" ? { controls: true, muted: true, playsInline: true } : { alt: "" });
  look.addEventListener("click", async () => {
    try {
      frame.src = URL.createObjectURL(await (await ask(path)).blob());
      box.classList.remove("blur");
      look.remove();
    } catch (error) { complain(error.message); }
  });
  box.append(frame, look);
  return box;
}

function facts(one, names) {
  const list = make("dl", { className: "facts" });
  for (const name of names) {
    if (one[name] === undefined || one[name] === null || one[name] === "") continue;
    list.append(make("dt", { textContent: words[`fact.${name}`] ?? name.replaceAll("_", " ") }), make("dd", { textContent: String(one[name]) }));
  }
  return list;
}

function decisions(choices, act) {
  const why = make("input", { type: "text", maxLength: 400, required: true });
  const label = make("label", { className: "field" }, make("span", { className: "label", textContent: words.why }), why);
  const pair = make("div", { className: "pair" });
  for (const [value, text] of choices) {
    const button = make("button", { type: "button", className: "btn plain", textContent: text });
    button.addEventListener("click", async () => {
      if (!why.reportValidity()) return;
      button.setAttribute("aria-busy", "true");
      try { await act(value, why.value); await load(); } catch (error) { complain(error.message); }
      button.removeAttribute("aria-busy");
    });
    pair.append(button);
  }
  return make("div", {}, label, pair);
}

const post = (path, body) => ask(path, { method: "POST", body: JSON.stringify(body) });

function takedown(one) {
  const card = make("article", { className: "card" }, make("h3", { textContent: one.form.shown }));
  const clock = make("p", { className: "clock", textContent: one.due_at ?? "" });
  if (one.due_at) clock.dataset.until = one.due_at;
  const { reason, relation, country, intimate } = one.form;
  card.append(clock, facts({ ...one, reason, relation, country, intimate }, ["notice_id", "waits_for", "video_id", "relation", "country", "intimate", "law", "reason"]));
  if (one.appeal) card.append(make("p", { textContent: one.appeal.text }));
  const choices = one.kind === "takedown" ? [["removed", words.removed], ["kept", words.kept]] : [["registered", words.registered], ["refused", words.refuse]];
  if (one.waits_for === "appeal" && one.kind === "takedown") choices.push(["restored", words.restored]);
  card.append(decisions(choices, (action, note) => post(`/v1/takedowns/${one.notice_id}/decision`, { action, note })));
  return card;
}

function capture(one) {
  const card = make("article", { className: "card" }, make("h3", { textContent: one.display_name }));
  card.append(media(one.film, "video"), facts({ ...one, turns: one.turns.map((turn) => words[`turn.${turn}`] ?? turn).join(", ") }, ["capture_id", "digits", "turns", "born_on", "sent_at", "sha256"]));
  // What a machine makes of it, the worst first: 1000 is as it should be.
  const findings = make("ul", { className: "findings" });
  for (const { score, sentence, doubted } of one.findings) {
    findings.append(make("li", { className: doubted ? "small stop" : "small", textContent: `${doubted ? "⚠ " : ""}${sentence} (${score})` }));
  }
  if (one.findings.length) card.append(make("p", { className: "small", textContent: words.findings }), findings);
  const command = `countersign enrolments accept ${one.capture_id} --key YOUR.key --born-on YYYY-MM-DD`;
  card.append(make("p", { className: "small", textContent: words.vouch }), make("pre", { textContent: command, tabIndex: 0, ariaLabel: words.vouch }));
  card.append(decisions([["refuse", words.refuse]], (_, reason) => post(`/v1/enrolments/${one.capture_id}/refuse`, { reason })));
  return card;
}

/** A clip that was held. Its pictures come blurred from the server; a sharp one, or the clip, is asked for, and recorded. */
function clip(one) {
  const card = make("article", { className: "card held" }, make("h3", { textContent: words["clip.by"].replace("{app}", one.app_name) }));
  card.append(make("p", { className: "small", textContent: one.policies.map((id) => words[`clip.${id}`] ?? id).join(" · ") }));
  const said = one.appeal ? words["clip.appeal"] : one.passed_by_me ? words["clip.mine"] : one.passed_by_others ? words["clip.second"] : "";
  if (said) card.append(make("p", { className: "pill wait", textContent: said }));
  const quote = (who, text) => card.append(make("p", { className: "quote" }, make("span", { className: "small", textContent: words[who] }), " ", text));
  if (one.appeal) quote("clip.says.app", one.appeal);
  for (const note of one.notes) quote("clip.says.reviewer", note);
  const frames = make("div", { className: "frames" });
  one.pictures.forEach((picture, n) => frames.append(frame(picture, n, one.pictures.length)));
  card.append(frames, film(one.clip));
  const told = { prompt: one.prompt, agreed: one.people_who_agreed, until: new Date(one.until).toLocaleString(document.documentElement.lang), id: one.video_id };
  const list = make("dl", { className: "facts" });
  for (const [name, value] of Object.entries(told)) list.append(make("dt", { textContent: words[`clip.fact.${name}`] }), make("dd", { textContent: String(value) }));
  card.append(list);
  if (one.refused_by_me) return card;
  const choices = one.passed_by_me ? [["refuse", words["clip.refuse"]]] : [["pass", words["clip.pass"]], ["refuse", words["clip.refuse"]]];
  card.append(decisions(choices, (decision, note) => post(`/v1/reviews/${one.video_id}`, { decision, note })));
  return card;
}

const source = async (path) => URL.createObjectURL(await (await ask(path)).blob());

function frame(picture, n, count) {
  const name = words["clip.picture"].replace("{n}", n + 1).replace("{count}", count);
  const image = make("img", { alt: `${name}, ${words["clip.hidden"]}`, width: 320 });
  const button = make("button", { type: "button", className: "btn slim plain", textContent: words.look, ariaLabel: `${words.look}: ${name}` });
  button.setAttribute("aria-pressed", "false");
  const show = async (sharp) => {
    try {
      const before = image.src;
      image.src = await source(sharp ? picture.sharp : picture.blurred);
      if (before) URL.revokeObjectURL(before);
      image.alt = sharp ? name : `${name}, ${words["clip.hidden"]}`;
      button.textContent = sharp ? words["clip.hide"] : words.look;
      button.ariaLabel = `${button.textContent}: ${name}`;
      button.setAttribute("aria-pressed", String(sharp));
    } catch (error) { complain(error.message); }
  };
  button.addEventListener("click", () => show(button.getAttribute("aria-pressed") === "false"));
  show(false);
  return make("figure", {}, image, button);
}

/** The clip is not even asked for before somebody wants to see it; then it is small, silent, and stands still. */
function film(path) {
  const place = make("p", {});
  const button = make("button", { type: "button", className: "quiet", textContent: words["clip.play"] });
  button.addEventListener("click", async () => {
    try {
      const player = make("video", { src: await source(path), controls: true, muted: true, playsInline: true, ariaLabel: words["clip.film"] });
      place.replaceWith(player);
      player.focus();
    } catch (error) { complain(error.message); }
  });
  place.append(button);
  return place;
}

function review(one) {
  const { relation, max_uses, with_adults } = one.guardianship;
  const card = make("article", { className: "card" }, make("h3", { textContent: `${one.guardian.name} → ${one.ward.name}` }));
  card.append(facts({ ...one, relation, max_uses, with_adults }, ["review_id", "asked_at", "ward_born_on", "relation", "max_uses", "with_adults"]));
  card.append(decisions([["accept", words.accept], ["refuse", words.refuse]], (decision, note) => post(`/v1/reviews/${one.review_id}`, { decision, note })));
  return card;
}

const QUEUES = [
  ["clips", "/v1/reviews", (found) => (found.clips ?? []).map(clip)],
  ["reviews", "/v1/reviews", (found) => found.reviews.map(review)],
  ["takedowns", "/v1/takedowns/queue", (found) => found.notices.map(takedown)],
  ["captures", "/v1/enrolments", (found) => found.enrolments.map(capture)],
];

async function load() {
  complain("");
  for (const [id, path, cards] of QUEUES) {
    const place = byId(id);
    try {
      const shown = cards(await (await ask(path)).json());
      place.replaceChildren(...(shown.length ? shown : [make("p", { className: "empty", textContent: words.none })]));
    } catch (error) {
      place.replaceChildren(make("p", { className: "empty", textContent: error.message }));
    }
  }
}

function enter() {
  byId("operator-in").hidden = true;
  byId("operator").hidden = false;
  load();
}

function leave() {
  sessionStorage.removeItem(KEY);
  byId("operator-in").hidden = false;
  byId("operator").hidden = true;
}

byId("operator-in").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value.trim());
  byId("key").value = "";
  enter();
});
byId("grey").addEventListener("change", (event) => byId("operator").classList.toggle("grey", event.target.checked));
byId("operator-out").addEventListener("click", leave);
if (sessionStorage.getItem(KEY)) enter();
