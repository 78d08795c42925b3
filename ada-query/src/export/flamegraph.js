"use strict";
// Zooms into a box by stretching what is above and below it, and marks boxes by name.
const WIDTH = 1200, LETTER = 7.2;
const boxes = () => document.querySelectorAll("g");
const name = (box) => box.querySelector("title").textContent;

function place(box, left, width) {
  const visible = left + width > 0 && left < WIDTH && width > 0.05;
  box.style.display = visible ? "" : "none";
  if (!visible) return;
  const from = Math.max(left, 0), to = Math.min(left + width, WIDTH);
  const rect = box.querySelector("rect"), text = box.querySelector("text");
  rect.setAttribute("x", from);
  rect.setAttribute("width", to - from);
  text.setAttribute("x", from + 3);
  const whole = name(box).replace(/: \d+ (calls|ns), .*$/, "");
  const fits = Math.floor((to - from - 6) / LETTER);
  text.textContent = fits < 3 ? "" : whole.length <= fits ? whole : whole.slice(0, fits - 1) + "…";
}

function zoom(from, width) {
  const scale = WIDTH / width;
  for (const box of boxes()) place(box, (box.dataset.x - from) * scale, box.dataset.w * scale);
}

function search() {
  const wanted = prompt("A part of a name, or a regular expression:");
  if (wanted === null) return;
  const pattern = new RegExp(wanted);
  for (const box of boxes()) box.classList.toggle("found", wanted !== "" && pattern.test(name(box)));
}

window.addEventListener("load", () => {
  for (const box of boxes()) {
    box.addEventListener("click", () => zoom(+box.dataset.x, +box.dataset.w));
    box.addEventListener("mouseover", () => { document.getElementById("about").textContent = name(box); });
  }
  window.addEventListener("keydown", (event) => {
    if (event.key === "/" || (event.ctrlKey && event.key === "f")) { event.preventDefault(); search(); }
    if (event.key === "Escape") zoom(0, WIDTH);
  });
});
