// A clip is sent to be checked, and what was found is said in the page's language: first in one sentence, then who,
// when and whether people agreed, then how we know, then what programs and auditors read.
const given = document.getElementById("verdict-words").dataset;
const [words, said, checks] = [given.words, given.said, given.checks].map((text) => JSON.parse(text));
const byId = (id) => document.getElementById(id);
const drop = byId("drop");
const LOOKS = {
  intact: "done", recovered: "done", altered: "ward", consent_unknown: "ward", mark_without_match: "ward",
  consent_withdrawn: "stop", taken_down: "stop", contradiction: "stop",
};
const GOOD = new Set(["manifest.trusted", "manifest.undated", "bytes.bound", "via.embedded", "via.watermark",
  "via.fingerprint", "mark.picture", "mark.sound", "looks.alike", "looks.same"]);
const DOUBT = new Set(["manifest.unknown", "manifest.none", "bytes.unsigned", "via.none", "mark.unmatched",
  "clips.several", "manifest.development"]);
let asked = 0;

drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) check(event.dataTransfer.files[0]);
});
byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) check(event.target.files[0]);
  event.target.value = "";
});
byId("player").addEventListener("error", () => { byId("player").hidden = true; });

async function check(file) {
  const mine = ++asked;
  clear(words.checking);
  byId("player").hidden = false;
  byId("player").src = URL.createObjectURL(file);
  let status = 0, answer = null;
  try {
    const sent = await fetch("/v1/verify", {
      method: "POST", body: file, headers: { "content-type": "application/octet-stream" },
    });
    status = sent.status;
    answer = await sent.json();
  } catch {
    // What is too large is refused before all of it was sent.
  }
  if (mine !== asked) return;
  if (status === 200 && answer) show(answer);
  else if (status) clear(`${words.not_checked} ${words[`error.${status}`] || words["error.other"]}`);
  else clear(words.unreachable);
  byId("state").focus({ preventScroll: true });
  byId("state").scrollIntoView({ block: "center" });
}

function clear(sentence) {
  byId("verdict").hidden = false;
  byId("sentence").textContent = sentence;
  byId("state").className = "banner";
  for (const id of ["facts", "findings", "notes", "raw"]) byId(id).replaceChildren();
  for (const id of ["known", "how", "auditors"]) byId(id).hidden = true;
  byId("report").href = "/takedown";
}

function show(verdict) {
  clear(said[verdict.state] || verdict.sentence);
  byId("state").classList.add(LOOKS[verdict.state] || "plain");
  byId("how").hidden = byId("auditors").hidden = false;
  const about = (name) => verdict.reasons.filter((reason) => reason.about === name).map(tell).join(" ");
  if (verdict.released) {
    byId("known").hidden = false;
    if (verdict.signer) fact("maker", verdict.signer);
    fact("released", when(verdict.released_at));
    fact("people", String(verdict.people));
    if (verdict.people) fact("then", about("consent_then"));
    fact("now", about("consent_now"));
    if (verdict.taken_down_at) fact("down", about("taken_down_at"));
    byId("report").href = `/takedown?video=${encodeURIComponent(verdict.video_id)}`;
  }
  for (const reason of verdict.contradictions) finding("no", tell(reason));
  const how = ["manifest_trusted", "asset_bound", "recovered_via"];
  for (const reason of verdict.reasons.filter((one) => how.includes(one.about))) {
    finding(GOOD.has(reason.id) ? "yes" : DOUBT.has(reason.id) ? "maybe" : "no", tell(reason));
  }
  detail(`${words.state}: ${verdict.state}`);
  for (const reason of verdict.reasons.filter((one) => one.about === "released")) detail(tell(reason));
  if (verdict.log) detail(fill(words.log, verdict.log));
  if (verdict.video_id) detail(words.record, `/v1/clips/${encodeURIComponent(verdict.video_id)}`);
  if (verdict.manifest) detail(words.manifest, verdict.manifest);
  byId("raw").textContent = JSON.stringify(verdict, null, 2);
}

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));

function tell(reason) {
  const values = { ...reason.values, at: reason.values.at ? when(reason.values.at) : words.undated };
  if (values.checks) values.checks = values.checks.split(", ").map((one) => checks[one] || one).join(", ");
  return said[reason.id] ? fill(said[reason.id], values) : reason.sentence;
}

function fact(name, text) {
  const term = document.createElement("dt"), value = document.createElement("dd");
  term.textContent = words[`fact.${name}`];
  value.textContent = text;
  byId("facts").append(term, value);
}

function finding(kind, text) {
  const item = document.createElement("li"), mark = document.createElement("span"), told = document.createElement("span");
  item.className = kind;
  mark.className = "mark";
  mark.setAttribute("aria-hidden", "true");
  mark.textContent = { yes: "✓", no: "✕", maybe: "–" }[kind];
  told.textContent = text;
  item.append(mark, told);
  byId("findings").append(item);
}

function detail(text, address = null) {
  const item = document.createElement("li");
  const told = address ? document.createElement("a") : item;
  if (address) { told.href = address; item.append(told); }
  told.textContent = text;
  byId("notes").append(item);
}

function when(iso) {
  return new Date(iso).toLocaleString(document.documentElement.lang, { dateStyle: "long", timeStyle: "short" });
}
