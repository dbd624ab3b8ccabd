// The permission form, one question at a time. Without this module it is one long form with the same questions.
import { announce } from "./swap.js";

const form = document.querySelector("[data-steps]");
const steps = [...form.querySelectorAll("fieldset")];
const end = form.querySelector("[data-end]");
const { stepWords, next, previous } = form.dataset;

const count = Object.assign(document.createElement("p"), { className: "step-count" });
const bar = Object.assign(document.createElement("progress"), { className: "bar", max: steps.length });
const pair = Object.assign(document.createElement("div"), { className: "pair" });
const back = Object.assign(document.createElement("button"), { type: "button", className: "btn", textContent: previous });
const on = Object.assign(document.createElement("button"), { type: "button", className: "btn main", textContent: next });
form.prepend(count, bar);
pair.append(back, on);
end.before(pair);
bar.setAttribute("aria-hidden", "true");

let at = 0;

function show(step, focus = true) {
  at = step;
  steps.forEach((one, index) => { one.hidden = index !== at; });
  count.textContent = stepWords.replace("{step}", at + 1).replace("{all}", steps.length);
  bar.value = at + 1;
  back.hidden = at === 0;
  on.hidden = at === steps.length - 1;
  end.hidden = at !== steps.length - 1;
  if (!focus) return;
  const legend = steps[at].querySelector("legend");
  legend.tabIndex = -1;
  legend.focus();
  announce(count.textContent);
}

/** One of a group of boxes has to be ticked: where, and what for, cannot be left open. */
function complete(step) {
  for (const name of ["jurisdictions", "purposes", "actions"]) {
    const boxes = [...step.querySelectorAll(`input[name=${name}]`)];
    if (boxes.length) boxes[0].setCustomValidity(boxes.some((one) => one.checked) ? "" : boxes[0].closest("fieldset").querySelector("legend").textContent);
  }
  return [...step.elements].every((one) => one.reportValidity());
}

function conditions() {
  for (const block of form.querySelectorAll("[data-when]")) {
    const [name, value] = block.dataset.when.split("=");
    const shown = new FormData(form).get(name) === value;
    block.hidden = !shown;
    for (const control of block.querySelectorAll("input, select")) {
      control.disabled = !shown;
      if (control.matches("[type=text], select")) control.required = shown;
    }
  }
}

on.addEventListener("click", () => { if (complete(steps[at])) show(at + 1); });
back.addEventListener("click", () => show(at - 1));
form.addEventListener("change", (event) => {
  // Anywhere, or some countries: not both.
  if (event.target.name === "jurisdictions" && event.target.checked) {
    for (const box of form.querySelectorAll("input[name=jurisdictions]")) {
      if ((box.value === "*") !== (event.target.value === "*")) box.checked = false;
    }
  }
  for (const box of steps[at].querySelectorAll("input[type=checkbox]")) box.setCustomValidity("");
  conditions();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("input") && at < steps.length - 1) { event.preventDefault(); on.click(); }
});
form.addEventListener("submit", (event) => {
  const wrong = steps.findIndex((step) => ![...step.elements].every((one) => one.checkValidity()));
  if (wrong >= 0) { event.preventDefault(); show(wrong); complete(steps[wrong]); }
});
form.noValidate = true;
conditions();
show(0, false);
