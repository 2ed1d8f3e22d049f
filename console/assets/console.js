// Shows changes while a page is open: fetches the page again and replaces its main part. Without this script, the page
// shows what was so when it was loaded.
"use strict";

(() => {
  const main = document.getElementById("main");
  const period = Number(main && main.dataset.live);
  const status = document.getElementById("live");
  if (!period || !status) return;

  const show = (text, stale) => {
    status.textContent = text;
    status.classList.toggle("stale", stale);
  };
  const time = () => new Date().toTimeString().slice(0, 8);

  // What has the focus, so that it has it again afterwards.
  const focused = () => {
    const element = document.activeElement;
    if (!element || !main.contains(element)) return null;
    if (element.id) return "#" + CSS.escape(element.id);
    const href = element.getAttribute("href");
    return href ? `a[href="${CSS.escape(href)}"]` : null;
  };

  const isInUse = () => {
    const selection = document.getSelection();
    const element = document.activeElement;
    const types = element && ["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName);
    return (types && main.contains(element)) || (selection && !selection.isCollapsed);
  };

  let last = null;
  const update = async () => {
    if (document.hidden || isInUse()) return;
    try {
      const answer = await fetch(location.href, {
        headers: { "x-causeway-part": "main" },
        cache: "no-store",
        signal: AbortSignal.timeout(10_000),
      });
      const text = await answer.text();
      if (!answer.ok) throw new Error(String(answer.status));
      if (text !== last && !isInUse()) {
        const focus = focused();
        const scroll = [...main.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
        // Made by the console itself, which escapes all that others have written.
        main.innerHTML = text;
        [...main.querySelectorAll(".scroll")].forEach((box, index) => (box.scrollLeft = scroll[index] || 0));
        if (focus) main.querySelector(focus)?.focus({ preventScroll: true });
        last = text;
      }
      show(`Live, updated ${time()}`, false);
    } catch (error) {
      show(`No answer since ${time()}: this may be out of date`, true);
    }
  };
  const repeat = async () => {
    await update();
    setTimeout(repeat, period);
  };
  show("Live", false);
  setTimeout(repeat, period);
})();
