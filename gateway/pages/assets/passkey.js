// Passkeys: making one, signing in with one, and signing a statement, once this browser has found that the challenge
// is the hash of exactly the lines shown: SHA-256(tag ‖ 00 ‖ canonical bytes).
import { announce, complain } from "./swap.js";

const words = document.getElementById("words").dataset;
const byId = (id) => document.getElementById(id);

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const base64url = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

class Refused extends Error {}

async function ask(path, body, method = "POST") {
  const answer = await fetch(path, {
    method, credentials: "same-origin",
    ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
  const found = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Refused((found.reasons ?? []).map((one) => one.reason ?? one.sentence).join("; ") || found.detail);
  return found;
}

async function make(options) {
  const asked = { ...options, challenge: bytes(options.challenge), user: { ...options.user, id: bytes(options.user.id) } };
  asked.excludeCredentials = (options.excludeCredentials ?? []).map((one) => ({ ...one, id: bytes(one.id) }));
  const made = await navigator.credentials.create({ publicKey: asked });
  return {
    id: made.id, rawId: base64url(made.rawId), type: made.type, clientExtensionResults: made.getClientExtensionResults(),
    response: {
      clientDataJSON: base64url(made.response.clientDataJSON),
      attestationObject: base64url(made.response.attestationObject),
      transports: made.response.getTransports?.() ?? [],
    },
  };
}

async function sign(options) {
  const asked = { ...options, challenge: bytes(options.challenge) };
  asked.allowCredentials = (options.allowCredentials ?? []).map((one) => ({ ...one, id: bytes(one.id) }));
  const made = await navigator.credentials.get({ publicKey: asked });
  return {
    type: "passkey",
    credential_id: base64url(made.rawId),
    authenticator_data: base64url(made.response.authenticatorData),
    client_data_json: base64url(made.response.clientDataJSON),
    signature: base64url(made.response.signature),
  };
}

async function challengeOf(tag, canonical) {
  const text = new TextEncoder();
  const [before, after] = [text.encode(tag), text.encode(canonical)];
  const whole = new Uint8Array(before.length + 1 + after.length);
  whole.set(before);
  whole.set(after, before.length + 1);
  return base64url(await crypto.subtle.digest("SHA-256", whole));
}

/** Sign only what hashes to the challenge, and only with that challenge. */
async function signShown(tag, canonical, challenge, options) {
  if (await challengeOf(tag, canonical) !== challenge || options.challenge !== challenge) throw new Refused(words.mismatch);
  return sign(options);
}

function on(form, act) {
  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter ?? form.querySelector("button");
    if (button.getAttribute("aria-busy") === "true") return;
    complain("");
    if (!window.PublicKeyCredential) { complain(words.unsupported); return; }
    button.setAttribute("aria-busy", "true");
    announce(words.working);
    try {
      await act(form);
    } catch (error) {
      if (error instanceof Refused) complain(error.message);
      else complain(error.name === "NotAllowedError" || error.name === "AbortError" ? words.cancelled : words.failed);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

function showCodes(codes) {
  const list = codes.map((code) => Object.assign(document.createElement("li"), { textContent: code }));
  byId("codes").replaceChildren(...list);
  byId("step-codes").hidden = false;
  byId("step-codes").querySelector("[tabindex]").focus();
}

on(byId("join"), async (form) => {
  const { nonce, options } = await ask("/v1/accounts/options", Object.fromEntries(new FormData(form)));
  const made = await ask("/v1/accounts", { nonce, response: await make(options) });
  byId("step-join").hidden = true;
  showCodes(made.recovery_codes);
});

on(byId("signin"), async (form) => {
  const { nonce, options } = await ask("/v1/sessions/options");
  await ask("/v1/sessions", { nonce, evidence: await sign(options) });
  location.assign(form.dataset.next);
});

on(byId("add-passkey"), async (form) => {
  const first = await ask("/v1/passkeys/options");
  const asked = await ask("/v1/passkeys/preview", { nonce: first.nonce, response: await make(first.options) });
  const recovered = form.dataset.recovered === "true";
  const evidence = recovered ? null : await signShown("countersign/device/v1", asked.canonical, asked.challenge, asked.options);
  await ask("/v1/passkeys", { nonce: asked.nonce, evidence });
  location.assign(recovered ? "/signin" : "/me/security?done=passkey_added");
});

on(byId("new-codes"), async (form) => {
  const { nonce, options } = await ask("/v1/recovery-codes/options");
  const made = await ask("/v1/recovery-codes", { nonce, evidence: await sign(options) });
  form.hidden = true;
  showCodes(made.recovery_codes);
});

const signing = byId("sign");
if (signing) {
  const { tag, challenge, post, next, field, options, extra } = signing.dataset;
  const canonical = byId("canonical").textContent;
  const line = byId("hash-check");
  const same = await challengeOf(tag, canonical) === challenge;
  line.classList.add(same ? "yes" : "no");
  line.querySelector("span").textContent = same ? line.dataset.yes : line.dataset.no;
  signing.querySelector("button").disabled = !same || options === "null";
  on(signing, async () => {
    const evidence = await signShown(tag, canonical, challenge, JSON.parse(options));
    const made = await ask(post, { ...JSON.parse(extra), ...(field ? { [field]: JSON.parse(canonical) } : {}), evidence });
    location.assign(next.replace("{id}", encodeURIComponent(made.grant_id ?? "")));
  });
}
