// Shows changes while a page is open: fetches the page again and replaces its main part. Without this script, the page
// shows the state when it was loaded.
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
  const time = (moment) => `${moment.toISOString().slice(11, 19)} UTC`;

  // All that leads to the same place or, without a link, has the same text as an element. A page may have several.
  const alike = (element) => {
    const of = (it) => `${it.tagName} ${it.getAttribute("href") ?? it.textContent}`;
    const wanted = of(element);
    return [...main.querySelectorAll("a[href], button, [tabindex]")].filter((it) => of(it) === wanted);
  };

  // Replaces the main part. What had the focus has it again afterwards; if it is gone, the main part has it.
  const replace = (text) => {
    const before = document.activeElement;
    const place = before !== main && main.contains(before) ? alike(before).indexOf(before) : -1;
    // Made by the console itself, which escapes all that others have written.
    main.innerHTML = text;
    if (place >= 0) (alike(before)[place] ?? main).focus({ preventScroll: true });
  };

  const isInUse = () => {
    const selection = document.getSelection();
    const element = document.activeElement;
    const types = element && ["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName);
    return (types && main.contains(element)) || (selection && !selection.isCollapsed);
  };

  let last = null;
  // When control has last answered.
  let answered = new Date();
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
        const scroll = [...main.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
        replace(text);
        [...main.querySelectorAll(".scroll")].forEach((box, index) => (box.scrollLeft = scroll[index] || 0));
        last = text;
      }
      answered = new Date();
      show(`Live, updated ${time(answered)}`, false);
    } catch (error) {
      show(`No answer since ${time(answered)}: this may be out of date`, true);
    }
  };
  const repeat = async () => {
    await update();
    setTimeout(repeat, period);
  };
  show("Live", false);
  setTimeout(repeat, period);
})();
