"use strict";

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
  byId("summary").textContent = "Checking…";
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
      byId("summary").textContent = `This could not be checked: ${verdict.detail}.`;
      for (const reason of verdict.reasons || []) note(reason.remedy);
      return;
    }
  } catch {
    byId("summary").textContent = "The service could not be reached. Nothing is known about this clip.";
    return;
  }
  show(verdict);
}

function show(verdict) {
  byId("summary").textContent = verdict.summary;
  finding(verdict.manifest_trusted, verdict.manifest_trusted
    ? `Signed by ${verdict.signer}${verdict.signed_at ? `, ${when(verdict.signed_at)}` : ""}`
    : "No signature we trust");
  finding(verdict.asset_bound, verdict.asset_bound
    ? "Not altered since it was signed" : "The signature does not cover this file as it is");
  finding(verdict.recovered_via !== "none", {
    embedded: "Found in the ledger through its manifest",
    watermark: "Found in the ledger through the mark in its pixels",
    none: "Not found in the ledger",
  }[verdict.recovered_via]);
  if (verdict.released) {
    const marked = verdict.recovered_via === "watermark";
    if (marked) finding("maybe", "What else this file shows is not covered by the mark");
    finding(verdict.consent_then, marked
      ? "Everyone in the marked clip agreed when it was made" : "Everyone shown agreed when it was made");
    const now = {
      standing: [true, marked ? "Everyone in the marked clip still agrees" : "Everyone shown still agrees"],
      expired: ["maybe", `The grant has ended${at(verdict)}`],
      revoked: ["maybe", `Consent for new clips was withdrawn${at(verdict)}`],
      withdrawn: [false, `Consent was withdrawn${at(verdict)}: this should no longer be shown`],
      erased: [false, "Someone shown had their likeness erased"],
      nobody_shown: [true, "It shows nobody's enrolled likeness"],
      unknown: ["maybe", "What consent it has now cannot be told"],
    }[verdict.consent_now];
    finding(...now);
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

const when = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" });
const at = (verdict) => (verdict.consent_changed_at ? ` on ${when(verdict.consent_changed_at)}` : "");
