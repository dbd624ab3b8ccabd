// A film with the camera: the digits first, then each turn of the head, with the seconds visible; then it is sent.
// Without a camera, or without this module, a film from the device is sent by the same form.
import { complain } from "./swap.js";

const form = document.getElementById("capture");
const SAY_S = 8, TURN_S = 3;

function kind() {
  return ["video/webm;codecs=vp9,opus", "video/webm", "video/mp4"].find((one) => window.MediaRecorder?.isTypeSupported(one));
}

async function cue(words, seconds) {
  const place = document.getElementById("cue");
  for (let left = seconds; left > 0; left -= 1) {
    place.textContent = `${words} · ${left}`;
    await new Promise((done) => { setTimeout(done, 1000); });
  }
}

async function record(stream) {
  const pieces = [], recorder = new MediaRecorder(stream, { mimeType: kind() });
  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  const ended = new Promise((done) => { recorder.addEventListener("stop", done); });
  const { digits, turns, say, ready, done: last, ...rest } = form.dataset;
  const place = document.getElementById("cue");
  place.hidden = false;
  await cue(ready, 3);
  recorder.start();
  await cue(say.replace("{digits}", digits), SAY_S);
  for (const turn of turns.split(" ")) await cue(rest[`turn${turn[0].toUpperCase()}${turn.slice(1)}`], TURN_S);
  recorder.stop();
  await ended;
  stream.getTracks().forEach((one) => one.stop());
  place.textContent = last;
  return new Blob(pieces, { type: recorder.mimeType });
}

async function begin(button) {
  let stream;
  button.disabled = true;
  complain("");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } }, audio: true });
  } catch {
    complain(form.dataset.refused);
    document.getElementById("camera").hidden = true;
    document.getElementById("by-file").open = true;
    return;
  }
  const preview = document.getElementById("preview");
  preview.srcObject = stream;
  preview.closest(".camera").hidden = false;
  preview.scrollIntoView({ block: "center" });
  const film = await record(stream);
  const files = new DataTransfer();
  files.items.add(new File([film], film.type.startsWith("video/mp4") ? "film.mp4" : "film.webm", { type: film.type }));
  document.getElementById("film").files = files.files;
  form.requestSubmit();
}

// The machine looks at the film before it answers: nobody should wonder, or send it twice.
form?.addEventListener("submit", () => {
  document.getElementById("sending").textContent = form.dataset.sending;
  for (const button of form.querySelectorAll("button")) {
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
  }
});

if (form && navigator.mediaDevices && kind()) {
  document.getElementById("camera").hidden = false;
  document.getElementById("by-file").open = false;
  const button = document.getElementById("record");
  button.addEventListener("click", () => begin(button));
}
