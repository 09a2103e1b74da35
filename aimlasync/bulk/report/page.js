"use strict";
// Tooltips at once instead of the browser's slow ones, and by touch.
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll(".hit > title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
const show = ({ target, clientX, clientY }) => {
  tip.textContent = target.dataset?.tip ?? "";
  tip.hidden = !tip.textContent;
  const left = Math.min(clientX - tip.offsetWidth / 2, document.documentElement.clientWidth - tip.offsetWidth - 4);
  const above = clientY - tip.offsetHeight - 14;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = (above < 0 ? clientY + 18 : above) + "px";
};
for (const kind of ["pointermove", "pointerdown"]) document.addEventListener(kind, show);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
