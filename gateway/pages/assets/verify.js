// A clip is sent to be checked, and what was found is said in the page's language.
const words = JSON.parse(document.getElementById("verdict-words").dataset.words);
const say = (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const byId = (id) => document.getElementById(id);
const drop = byId("drop");

drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) check(event.dataTransfer.files[0]);
});
byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) check(event.target.files[0]);
});

async function check(file) {
  byId("verdict").hidden = false;
  byId("summary").textContent = say("checking");
  byId("findings").replaceChildren();
  byId("notes").replaceChildren();
  byId("raw").textContent = "";
  byId("player").src = URL.createObjectURL(file);
  let verdict;
  try {
    const answer = await fetch("/v1/verify", {
      method: "POST", body: file, headers: { "content-type": "application/octet-stream" },
    });
    verdict = await answer.json();
    if (!answer.ok) {
      byId("summary").textContent = say("not_checked", { detail: verdict.detail });
      for (const reason of verdict.reasons || []) note(reason.remedy);
      return;
    }
  } catch {
    byId("summary").textContent = say("unreachable");
    return;
  }
  show(verdict);
}

function show(verdict) {
  byId("summary").textContent = verdict.summary;
  byId("summary").lang = byId("notes").lang = "en";
  const signed = verdict.signed_at ? say("signed_at", { signer: verdict.signer, when: when(verdict.signed_at) })
    : say("signed", { signer: verdict.signer });
  finding(verdict.manifest_trusted, verdict.manifest_trusted ? signed : say("unsigned"));
  finding(verdict.asset_bound, say(verdict.asset_bound ? "bound" : "unbound"));
  finding(verdict.recovered_via !== "none", say(verdict.recovered_via));
  if (verdict.released) {
    const marked = verdict.recovered_via === "watermark" ? ".marked" : "";
    if (marked) finding("maybe", say("rest"));
    finding(verdict.consent_then, say(`then${marked}`));
    const now = verdict.consent_now;
    const state = { standing: true, nobody_shown: true, withdrawn: false, erased: false }[now] ?? "maybe";
    finding(state, say(now === "standing" ? `standing${marked}` : now, { at: at(verdict) }));
  }
  for (const text of [...verdict.contradictions, ...verdict.notes]) note(text);
  byId("raw").textContent = JSON.stringify(verdict, null, 2);
}

function finding(state, text) {
  const item = document.createElement("li");
  item.className = state === "maybe" ? "maybe" : state ? "yes" : "no";
  const mark = document.createElement("span");
  mark.className = "mark";
  mark.textContent = state === "maybe" ? "!" : state ? "✓" : "✕";
  const words = document.createElement("span");
  words.textContent = text;
  item.append(mark, words);
  byId("findings").append(item);
}

function note(text) {
  const item = document.createElement("li");
  item.textContent = text;
  byId("notes").append(item);
}

const when = (iso) => new Date(iso).toLocaleString(document.documentElement.lang, { dateStyle: "long", timeStyle: "short" });
const at = (verdict) => (verdict.consent_changed_at ? say("at", { when: when(verdict.consent_changed_at) }) : "");
