// Partial updates: a form with data-swap is sent in the background, and only the named regions of the answer are shown.
// Without this module every form here works as a plain post. Also: copying, printing, saving, and local times.
const words = document.getElementById("words").dataset;
const live = document.getElementById("live");

export const announce = (text) => { live.textContent = ""; requestAnimationFrame(() => { live.textContent = text; }); };

export function complain(text) {
  const alert = document.getElementById("alert");
  alert.textContent = text;
  if (text) alert.scrollIntoView({ block: "nearest" });
}

async function answerTo(url, options) {
  const answer = await fetch(url, { credentials: "same-origin", redirect: "follow", ...options });
  if (new URL(answer.url).pathname === "/signin") { location.assign(answer.url); return null; }
  return { ok: answer.ok, page: new DOMParser().parseFromString(await answer.text(), "text/html") };
}

function take(page, selector) {
  const [here, there] = [document.querySelector(selector), page.querySelector(selector)];
  if (here && there) here.replaceWith(document.adoptNode(there));
}

async function swap(form, button) {
  const sent = new URLSearchParams(new FormData(form, button));
  button?.setAttribute("aria-busy", "true");
  complain("");
  try {
    const answer = await answerTo(form.action, { method: "POST", body: sent });
    if (!answer) return;
    if (!answer.ok) {
      complain(answer.page.querySelector("main .card p")?.textContent ?? words.failed);
      return;
    }
    for (const selector of [...form.dataset.swap.split(" "), "#done"]) take(answer.page, selector);
    document.querySelectorAll("time").forEach(localise);
    document.querySelector(form.dataset.focus)?.focus();
    announce(document.querySelector("#done p")?.textContent ?? "");
  } catch {
    complain(words.failed);
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

async function append(link) {
  link.setAttribute("aria-busy", "true");
  const answer = await answerTo(link.href, {});
  if (!answer) return;
  const list = document.querySelector(link.dataset.append);
  const fresh = [...(answer.page.querySelector(link.dataset.append)?.children ?? [])].map((one) => document.adoptNode(one));
  list.append(...fresh);
  take(answer.page, link.dataset.more);
  document.querySelectorAll("time").forEach(localise);
  if (fresh.length) { fresh[0].tabIndex = -1; fresh[0].focus(); }
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.swap) return;
  event.preventDefault();
  swap(event.target, event.submitter);
});

document.addEventListener("click", async (event) => {
  const on = (name) => event.target.closest(`[data-${name}]`);
  let found;
  if ((found = on("copy"))) {
    const source = document.querySelector(found.dataset.copy);
    const text = source.value ?? [...source.children].map((one) => one.textContent).join("\n") ?? "";
    await navigator.clipboard?.writeText(text || source.textContent).then(() => announce(words.copied), () => complain(words.failed));
  } else if (on("print")) {
    print();
  } else if ((found = on("save"))) {
    const file = new Blob([document.querySelector(found.dataset.save).textContent], { type: "application/json" });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: found.dataset.name });
    link.click();
    URL.revokeObjectURL(link.href);
  } else if ((found = on("append"))) {
    event.preventDefault();
    append(found);
  }
});

function localise(time) {
  if (!time.textContent.endsWith("UTC") || !time.dateTime) return;
  const options = { dateStyle: "long", timeStyle: "short" };
  const language = document.documentElement.lang;
  const locale = navigator.languages.find((one) => one.startsWith(language)) ?? language;
  time.textContent = new Date(time.dateTime).toLocaleString(locale, options);
}

function tick() {
  for (const clock of document.querySelectorAll("[data-until]")) {
    const left = Math.max(0, Math.round((new Date(clock.dataset.until) - Date.now()) / 1000));
    const two = (number) => String(number).padStart(2, "0");
    const [hours, minutes] = [Math.floor(left / 3600), Math.floor(left / 60) % 60];
    clock.textContent = hours ? `${hours}:${two(minutes)}:${two(left % 60)}` : `${minutes}:${two(left % 60)}`;
  }
}

document.querySelectorAll("time").forEach(localise);
tick();
setInterval(tick, 1000);
